//! A user's arm is the same on every replica and after every pod was replaced.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use futures::FutureExt;
use serde_json::json;

use super::{
    curl,
    gateway::{self, NAME},
};
use crate::scenarios::{Context, Scenario};

/// The scenario.
pub(super) const SCENARIO: Scenario = Scenario::new(
    "cohorts",
    "The same user lands on the same arm on every replica and after a restart of all pods",
    |context| run(context).boxed(),
)
.embedded_only();

const USERS: usize = 30;
const REPLICAS: usize = 2;

async fn run(context: &Context) -> Result<()> {
    gateway::create(context, REPLICAS as u32, json!({"strategy": "Canary", "canaryPercent": 50})).await?;
    let before = arms(context).await?;
    let bifrost = before.values().filter(|arm| *arm == "bifrost").count();
    ensure!((5..=25).contains(&bifrost), "{bifrost} of {USERS} users on the bifrost arm");
    // Their logs go with them.
    context.stage.leaks.search_logs(context, &context.namespace).await?;
    context.kubectl(&["delete", "pods", "--selector", &gateway::selector()]).await?;
    context.wait_for_condition(&format!("deployment/{NAME}"), "Available", Duration::from_secs(60)).await?;
    ensure!(arms(context).await? == before, "users changed their arm with the pods");
    println!(
        "  {USERS} users, {bifrost} on the bifrost arm: the same on {REPLICAS} replicas, before and after their restart"
    );
    Ok(())
}

/// The arm of each user, asked of every pod by itself.
async fn arms(context: &Context) -> Result<BTreeMap<String, String>> {
    let mut arms = BTreeMap::new();
    for url in gateway::pod_urls(context, REPLICAS).await? {
        for number in 0..USERS {
            let user = format!("cohort-{number}");
            let sent = curl::chat(context, &url, &gateway::chat(&user), true).await?;
            ensure!(sent.status == 200, "{} for {user}", sent.status);
            let arm = arms.entry(user.clone()).or_insert_with(|| sent.arm().to_owned());
            ensure!(*arm == sent.arm(), "{user} is on {arm} and on {}", sent.arm());
        }
    }
    Ok(arms)
}
