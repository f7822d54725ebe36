//! Changing `canaryPercent`: confirmed by every replica at once, no pod restarts, no request fails, no user moves back.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use bifrost_fake_provider::Vendor;
use futures::FutureExt;
use serde_json::json;

use super::{
    gateway::{self, POOL_OPENAI},
    load,
};
use crate::{
    deploy::Vendors,
    scenarios::{Context, Scenario},
};

/// The scenario.
pub(super) const SCENARIO: Scenario = Scenario::new(
    "canary-percent",
    "10 → 25 → 0 → 100: each confirmed by all replicas in 2 s under load, without a restart or a failed request; one user's share",
    |context| run(context).boxed(),
)
.embedded_only()
.limit(Duration::from_secs(600));

const REPLICAS: u64 = 3;
/// What every change must keep to.
const CONFIRMED: Duration = Duration::from_secs(2);

async fn run(context: &Context) -> Result<()> {
    gateway::create(context, 3, json!({"strategy": "Canary", "canaryPercent": 10})).await?;
    let before = gateway::pods(context).await?;
    load::during(context, &[], changes(context)).await?;
    ensure!(gateway::pods(context).await? == before, "pods were replaced or restarted");
    skewed(context).await
}

/// One user alone is on one arm with all that it sends, however small the share of the users is.
async fn skewed(context: &Context) -> Result<()> {
    gateway::set_percent(context, 10, REPLICAS).await?;
    load::send(context, &["--requests", "1200", "--users", "one", "--concurrency", "8"]).await?.all_served()?;
    let told = gateway::wait_event(context, "SkewedCohort", "10 % of the users were asked for").await?;
    println!("  1200 requests of one user: {told}");
    Ok(())
}

async fn changes(context: &Context) -> Result<()> {
    let (_port, control) = Vendors::control(&context.target).await?;
    let mut earlier = BTreeSet::new();
    for (from, percent) in [(10, 10), (10, 25), (25, 0), (0, 100)] {
        if from != percent {
            let took = gateway::set_percent(context, percent, REPLICAS).await?;
            println!("  {from} → {percent}: confirmed by {REPLICAS} replicas after {:.2} s", took.as_secs_f64());
            ensure!(took <= CONFIRMED, "{from} → {percent} took {:.2} s", took.as_secs_f64());
            gateway::wait_event(context, "TrafficChanged", &format!("Canary {from} % → Canary {percent} %")).await?;
        }
        control.reset().await?;
        let load = load::send(context, &["--requests", "1000", "--users", "fixed", "--concurrency", "8"]).await?;
        load.all_served()?;
        let users = control.users(Some(Vendor::OpenAi)).await?;
        let now: BTreeSet<String> =
            users.into_iter().filter(|(_, keys)| keys.contains_key(POOL_OPENAI)).map(|(user, _)| user).collect();
        match percent {
            0 => ensure!(load.arms.bifrost == 0, "{} requests took the bifrost arm at 0", load.arms.bifrost),
            100 => ensure!(load.arms.baseline == 0, "{} requests took the baseline arm at 100", load.arms.baseline),
            _ => ensure!(earlier.is_subset(&now), "users moved back when the share rose"),
        }
        println!("  at {percent}: {} of 1000 users on the bifrost arm", now.len());
        if percent != 0 {
            earlier = now;
        }
    }
    Ok(())
}
