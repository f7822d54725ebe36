//! A configuration that breaks a rule is named by its field and reaches no pod.

use std::time::Duration;

use anyhow::{Result, ensure};
use futures::FutureExt;
use serde_json::{Value, json};

use super::{
    gateway::{self, OBJECT},
    load, objects,
};
use crate::scenarios::{Context, Scenario};

/// The scenario.
pub(super) const SCENARIO: Scenario = Scenario::new(
    "bad-config",
    "An invalid configuration is Accepted=False with the field's path; pods serve on, and the way back to 0 % stays open",
    |context| run(context).boxed(),
)
.embedded_only();

const BUNDLE: &str = "configmap/vendors-ca";
const REPLICAS: u32 = 2;
/// What a rollback must keep to.
const CONFIRMED: Duration = Duration::from_secs(2);

async fn run(context: &Context) -> Result<()> {
    gateway::create(context, REPLICAS, json!({"strategy": "Canary", "canaryPercent": 50})).await?;
    let before = published(context).await?;
    load::during(context, &[], break_it(context)).await?;
    ensure!(before == published(context).await?, "the bad configuration touched pods or ConfigMap");
    println!("  pods and ConfigMap untouched");
    load::during(context, &[], rolled_back_with_a_bad_bundle(context)).await.map(drop)
}

/// A certificate that cannot be used is said, the last good ones stay, and the way back is not barred.
async fn rolled_back_with_a_bad_bundle(context: &Context) -> Result<()> {
    let good = objects::get(context, BUNDLE).await?["data"]["ca.crt"].as_str().unwrap_or_default().to_owned();
    let bad: Vec<_> = good.lines().enumerate().filter(|(line, _)| *line != 2).map(|(_, text)| text).collect();
    set_bundle(context, &bad.join("\n")).await?;
    let condition = gateway::wait_condition(context, OBJECT, "ResolvedRefs", "False").await?;
    let took = gateway::set_percent(context, 0, REPLICAS.into()).await?;
    println!("  ResolvedRefs=False: {}", condition["message"].as_str().unwrap_or_default());
    println!("  with it 50 → 0 was confirmed after {:.2} s", took.as_secs_f64());
    ensure!(took <= CONFIRMED, "the rollback took {:.2} s", took.as_secs_f64());
    set_bundle(context, &good).await?;
    gateway::wait_condition(context, OBJECT, "ResolvedRefs", "True").await.map(drop)
}

async fn set_bundle(context: &Context, pem: &str) -> Result<()> {
    objects::merge(context, BUNDLE, &json!({"data": {"ca.crt": pem}})).await.map(drop)
}

/// The pods, and what they act upon.
async fn published(context: &Context) -> Result<(Vec<(String, i32)>, Value)> {
    let data = objects::get(context, "configmap/ai-bifrost").await?["data"].clone();
    Ok((gateway::pods(context).await?, data))
}

async fn break_it(context: &Context) -> Result<()> {
    let patch = json!([{"op": "replace", "path": "/spec/config/providers/0/baseURL", "value": "https://127.0.0.1"}])
        .to_string();
    context.kubectl(&["patch", OBJECT, "--type=json", "--patch", &patch]).await?;
    let condition = gateway::wait_condition(context, OBJECT, "Accepted", "False").await?;
    let message = condition["message"].as_str().unwrap_or_default();
    ensure!(message.contains("spec.config.providers[0].baseURL"), "{condition}");
    println!("  Accepted=False/{}: {message}", condition["reason"].as_str().unwrap_or_default());
    gateway::wait_event(context, "ConfigRejected", "baseURL").await?;
    let patch =
        json!([{"op": "replace", "path": "/spec/config/providers/0/baseURL", "value": "https://openai.vendors.svc"}])
            .to_string();
    context.kubectl(&["patch", OBJECT, "--type=json", "--patch", &patch]).await?;
    gateway::wait_condition(context, OBJECT, "Accepted", "True").await.map(drop)
}
