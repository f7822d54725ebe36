//! Keys of one provider share its requests by weight; a key that is disabled or deleted leaves every pod.

use std::time::Duration;

use anyhow::{Result, ensure};
use bifrost_fake_provider::Control;
use futures::FutureExt;
use serde_json::{Value, json};

use super::{
    gateway::{self, POOL_OPENAI},
    load,
};
use crate::{
    deploy::Vendors,
    scenarios::{Context, Scenario},
    wait,
};

/// The scenario.
pub(super) const SCENARIO: Scenario = Scenario::new(
    "key-pool",
    "Weights 80 and 20 share the requests so; a disabled and a deleted key leave every pod, and an event says when",
    |context| run(context).boxed(),
)
.embedded_only();

/// How long a change of keys may take to show.
const LIMIT: Duration = Duration::from_secs(20);
const SECOND: &str = "sk-pool-light-0123456789";
const THIRD: &str = "sk-pool-third-0123456789";

async fn run(context: &Context) -> Result<()> {
    let mut items = gateway::key("light", "openai", SECOND);
    items[1]["spec"]["weight"] = json!(20);
    gateway::apply_all(context, items).await?;
    gateway::create(context, 2, Value::Null).await?;
    let patch = json!({"spec": {"weight": 80}}).to_string();
    context.kubectl(&["patch", "providerkey/openai", "--type=merge", "--patch", &patch]).await?;
    let (_port, control) = Vendors::control(&context.target).await?;
    wait::wait_until("the weights to be in force", LIMIT, || async {
        let (heavy, light) = share(context, &control, "500").await?;
        ensure!(heavy > light * 2, "{heavy} : {light}");
        Ok(true)
    })
    .await?;
    // So many that three points are more than five standard deviations.
    let (heavy, light) = share(context, &control, "5000").await?;
    let percent = 100.0 * heavy as f64 / (heavy + light) as f64;
    println!("  weights 80 : 20 → {percent:.1} % and {:.1} % of {} requests", 100.0 - percent, heavy + light);
    ensure!((percent - 80.0).abs() <= 3.0, "{percent:.1} %");

    let patch = json!({"spec": {"enabled": false}}).to_string();
    context.kubectl(&["patch", "providerkey/light", "--type=merge", "--patch", &patch]).await?;
    println!("  disabled: {}", gateway::wait_event(context, "KeyRevoked", "light").await?);
    let (_, light) = share(context, &control, "500").await?;
    ensure!(light == 0, "{light} requests with the disabled key");

    let mut items = gateway::key("third", "openai", THIRD);
    items[1]["spec"]["weight"] = json!(80);
    gateway::apply_all(context, items).await?;
    gateway::wait_condition(context, "providerkey/third", "Ready", "True").await?;
    wait::wait_until("the third key to be used", LIMIT, || async {
        control.reset().await?;
        load::send(context, &["--requests", "100"]).await?.all_served()?;
        Ok(used(&control, THIRD).await? > 0)
    })
    .await?;
    context.kubectl(&["delete", "providerkey/third"]).await?;
    println!("  deleted: {}", gateway::wait_event(context, "KeyRevoked", "third").await?);
    control.reset().await?;
    load::send(context, &["--requests", "500"]).await?.all_served()?;
    let third = used(&control, THIRD).await?;
    ensure!(third == 0, "{third} requests with the deleted key");
    Ok(())
}

/// Requests with the first key and with the second.
async fn share(context: &Context, control: &Control, requests: &str) -> Result<(u64, u64)> {
    control.reset().await?;
    load::send(context, &["--requests", requests]).await?.all_served()?;
    Ok((used(control, POOL_OPENAI).await?, used(control, SECOND).await?))
}

/// Requests that came with a key.
async fn used(control: &Control, key: &str) -> Result<u64> {
    Ok(control.counts().await?.sum(|count| count.key.as_deref() == Some(key)))
}
