//! A configuration that breaks a rule is named by its field and reaches no pod.

use anyhow::{Result, ensure};
use futures::FutureExt;
use serde_json::{Value, json};

use super::gateway;
use crate::scenarios::{Context, Scenario};

/// The scenario.
pub(super) const SCENARIO: Scenario = Scenario::new(
    "bad-config",
    "An invalid configuration is Accepted=False with the field's path; pods keep serving what they have",
    |context| run(context).boxed(),
)
.embedded_only();

const OBJECT: &str = "bifrostgateway/ai";

async fn run(context: &Context) -> Result<()> {
    gateway::create(context, 2, Value::Null).await?;
    let before = (gateway::pods(context).await?, gateway::get(context, "configmap/ai-bifrost").await?["data"].clone());
    let steady = gateway::load(context, &["--duration", "8", "--concurrency", "4"]);
    let (steady, broken) = tokio::join!(steady, break_it(context));
    broken?;
    let steady = steady?;
    steady.all_served()?;
    let after = (gateway::pods(context).await?, gateway::get(context, "configmap/ai-bifrost").await?["data"].clone());
    ensure!(before == after, "the bad configuration touched pods or ConfigMap");
    println!("  {} requests meanwhile, none failed; pods and ConfigMap untouched", steady.requests);
    Ok(())
}

async fn break_it(context: &Context) -> Result<()> {
    let patch = json!([{"op": "replace", "path": "/spec/config/providers/0/baseURL", "value": "https://127.0.0.1"}])
        .to_string();
    context.kubectl(&["patch", OBJECT, "--type=json", "--patch", &patch]).await?;
    let condition = gateway::wait_condition(context, OBJECT, "Accepted", "False").await?;
    let message = condition["message"].as_str().unwrap_or_default();
    ensure!(message.contains("spec.config.providers[0].baseURL"), "{condition}");
    println!("  Accepted=False/{}: {message}", condition["reason"].as_str().unwrap_or_default());
    gateway::wait_event(context, "ConfigRejected").await?;
    let patch =
        json!([{"op": "replace", "path": "/spec/config/providers/0/baseURL", "value": "https://openai.vendors.svc"}])
            .to_string();
    context.kubectl(&["patch", OBJECT, "--type=json", "--patch", &patch]).await?;
    gateway::wait_condition(context, OBJECT, "Accepted", "True").await.map(drop)
}
