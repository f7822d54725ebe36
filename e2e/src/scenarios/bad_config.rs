//! A configuration that breaks a rule is named by its field and reaches no pod.

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
    "An invalid configuration is Accepted=False with the field's path; pods keep serving what they have",
    |context| run(context).boxed(),
)
.embedded_only();

async fn run(context: &Context) -> Result<()> {
    gateway::create(context, 2, Value::Null).await?;
    let before = published(context).await?;
    load::during(context, &[], break_it(context)).await?;
    ensure!(before == published(context).await?, "the bad configuration touched pods or ConfigMap");
    println!("  pods and ConfigMap untouched");
    Ok(())
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
