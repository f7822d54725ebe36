//! A rotated Secret reaches every pod without a restart; a Secret that is gone leaves its last value serving.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bifrost_fake_provider::{Control, RecordQuery};
use futures::FutureExt;
use serde_json::{Value, json};

use super::gateway::{self, POOL_OPENAI};
use crate::{
    deploy::{OPERATOR_NAMESPACE, Operator, Vendors},
    scenarios::{Context, Scenario},
    wait,
};

/// The scenario.
pub(super) const SCENARIO: Scenario = Scenario::new(
    "key-rotation",
    "A rotated key is used by all pods in 5 s without a failed request; a deleted Secret keeps its last value serving",
    |context| run(context).boxed(),
)
.embedded_only();

const REPLICAS: u64 = 2;
const NEW_KEY: &str = "sk-pool-rotated-0123456789";
const LIMIT: Duration = Duration::from_secs(5);

async fn run(context: &Context) -> Result<()> {
    gateway::create(context, REPLICAS as u32, Value::Null).await?;
    let (_port, control) = Vendors::control(&context.target).await?;
    control.reset_all().await?;
    let before = gateway::pods(context).await?;
    let steady = gateway::load(context, &["--duration", "12", "--concurrency", "4"]);
    let (steady, rotated) = tokio::join!(steady, rotate(context, &control));
    println!("  rotated: all pods use the new value after {:.2} s", rotated?.as_secs_f64());
    let steady = steady?;
    steady.all_served()?;
    println!("  {} requests meanwhile, none failed", steady.requests);
    ensure!(gateway::pods(context).await? == before, "pods were replaced or restarted");
    gateway::wait_event(context, "KeyRotated").await?;
    deleted(context, &control).await
}

/// Changes the Secret and returns how long it took until the pods confirmed and the old value was used no more.
async fn rotate(context: &Context, control: &Control) -> Result<Duration> {
    let generation = published_generation(context).await?;
    let began = Instant::now();
    let patch = json!({"stringData": {"value": NEW_KEY}}).to_string();
    context.kubectl(&["patch", "secret/openai-key", "--patch", &patch]).await?;
    wait::wait_until("the new value to be published", LIMIT, || async {
        Ok(published_generation(context).await? > generation)
    })
    .await?;
    // A request in the window after the last use of the old value proves it: the pods say so by what they send.
    let took = wait::wait_for("only the new value to be used", LIMIT, || async {
        let since = control.last_seq().await?;
        let took = began.elapsed();
        wait::wait_until("requests", LIMIT, || async { Ok(control.last_seq().await? >= since + 40) }).await?;
        let query = RecordQuery { since, key: Some(POOL_OPENAI.to_owned()), ..RecordQuery::default() };
        Ok(control.records(&query).await?.is_empty().then_some(took))
    })
    .await?;
    ensure!(took <= LIMIT, "the rotation took {:.2} s", took.as_secs_f64());
    Ok(took)
}

async fn published_generation(context: &Context) -> Result<u64> {
    let secret = gateway::get(context, "secret/ai-bifrost-keys").await?;
    let text = secret["data"]["generations.json"].as_str().context("no generations")?;
    let bytes = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, text)?;
    let generations: Value = serde_json::from_slice(&bytes)?;
    generations["openai"].as_u64().context("no generation of the key")
}

async fn deleted(context: &Context, control: &Control) -> Result<()> {
    context.kubectl(&["delete", "secret/openai-key"]).await?;
    let condition = gateway::wait_condition(context, "bifrostgateway/ai", "ResolvedRefs", "False").await?;
    ensure!(condition["message"].as_str().unwrap_or_default().contains("openai-key"), "{condition}");
    gateway::wait_condition(context, "providerkey/openai", "Resolved", "False").await?;
    restart_operator(context).await?;
    gateway::wait_condition(context, "bifrostgateway/ai", "Ready", "True").await?;
    control.reset().await?;
    let load = gateway::load(context, &["--requests", "50"]).await?;
    load.all_served()?;
    let counts = control.counts().await?;
    ensure!(counts.sum(|c| c.key.as_deref() == Some(NEW_KEY)) == 50, "the last value does not serve");
    println!(
        "  Secret deleted, operator restarted: the last value serves, and ResolvedRefs=False says: {}",
        condition["message"]
    );
    Ok(())
}

async fn restart_operator(context: &Context) -> Result<()> {
    let namespace = ["--namespace", OPERATOR_NAMESPACE];
    let object = format!("deployment/{}", Operator::DEPLOYMENT);
    context.access.kubectl(namespace.into_iter().chain(["rollout", "restart", &object])).await?;
    context.access.kubectl(namespace.into_iter().chain(["rollout", "status", &object, "--timeout=60s"])).await.map(drop)
}
