//! A rotated Secret reaches every pod without a restart; a Secret that is gone leaves its last value serving.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bifrost_fake_provider::{Control, RecordQuery};
use futures::{FutureExt, future::try_join_all};
use serde_json::{Value, json};

use super::{
    curl,
    gateway::{self, OBJECT, POOL_OPENAI},
    load, objects, operator,
};
use crate::{
    deploy::Vendors,
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

const REPLICAS: usize = 2;
const NEW_KEY: &str = "sk-pool-rotated-0123456789";
const LIMIT: Duration = Duration::from_secs(5);
/// So many requests after the last pod took the new value prove that the old one is used no more.
const AFTERWARDS: u64 = 100;
/// How long a request that chose its key before may be on its way. The rotation itself is over then.
const LATE: Duration = Duration::from_secs(30);

async fn run(context: &Context) -> Result<()> {
    gateway::create(context, REPLICAS as u32, Value::Null).await?;
    let (_port, control) = Vendors::control(&context.target).await?;
    control.reset_all().await?;
    let before = gateway::pods(context).await?;
    let (since, _) = load::during(context, &[], rotated(context, &control)).await?;
    gateway::wait_event(context, "KeyRotated", "openai").await?;
    load::during(context, &[], deleted(context)).await?;
    ensure!(old_uses(&control, since).await? == 0, "the old value was used again");
    last_value_serves(context, &control).await?;
    ensure!(gateway::pods(context).await? == before, "pods were replaced or restarted");
    Ok(())
}

/// Changes the Secret, and waits until each pod by itself has sent the new value to the vendor. Returns the last request at which the
/// old one may have been used.
async fn rotated(context: &Context, control: &Control) -> Result<u64> {
    let pods = gateway::pod_urls(context, REPLICAS).await?;
    let began = Instant::now();
    objects::merge(context, "secret/openai-key", &json!({"stringData": {"value": NEW_KEY}})).await?;
    let uses = pods.iter().enumerate().map(|(pod, url)| uses_the_new_key(context, control, pod, url, began));
    let took = try_join_all(uses).await?;
    let slowest = took.iter().max().copied().unwrap_or_default();
    ensure!(slowest <= LIMIT, "a pod used the new value only after {:.2} s", slowest.as_secs_f64());
    println!("  rotated: each of {} pods used the new value within {:.2} s", took.len(), slowest.as_secs_f64());
    the_old_key_is_out(control).await
}

/// Asks one pod until a request of its own reaches the vendor with the new key; how long that took from the change on.
async fn uses_the_new_key(
    context: &Context,
    control: &Control,
    pod: usize,
    url: &str,
    began: Instant,
) -> Result<Duration> {
    let mut asked = 0;
    let what = format!("pod {pod} to use the new value");
    let left = LIMIT.saturating_sub(began.elapsed());
    wait::wait_for(&what, left, || {
        asked += 1;
        let user = format!("rotation-{pod}-{asked}");
        async move {
            curl::chat(context, url, &gateway::chat(&user), true).await?.ok()?;
            let took = began.elapsed();
            let query = RecordQuery { user: Some(user), ..RecordQuery::default() };
            let record = control.wait_for(&query, 1, LIMIT).await?.pop().context("no record")?;
            Ok((record.key.as_deref() == Some(NEW_KEY)).then_some(took))
        }
    })
    .await
}

/// All pods have the new value: what steady requests bring from now on carries no old one. A request that chose its key before may
/// still be on its way.
async fn the_old_key_is_out(control: &Control) -> Result<u64> {
    wait::wait_for("only the new value to be used", LATE, || async {
        let since = control.last_seq().await?;
        let enough = async || anyhow::Ok(control.last_seq().await? >= since + AFTERWARDS);
        wait::wait_until("further requests", Duration::from_secs(20), enough).await?;
        let old = old_uses(control, since).await?;
        ensure!(old == 0, "{old} requests with the old value");
        Ok(Some(since))
    })
    .await
}

async fn old_uses(control: &Control, since: u64) -> Result<usize> {
    let query = RecordQuery { since, key: Some(POOL_OPENAI.to_owned()), ..RecordQuery::default() };
    Ok(control.records(&query).await?.len())
}

/// The Secret goes, then the operator is another; the new one must say so by itself.
async fn deleted(context: &Context) -> Result<()> {
    context.kubectl(&["delete", "secret/openai-key"]).await?;
    says_which(&gateway::wait_condition(context, OBJECT, "ResolvedRefs", "False").await?)?;
    gateway::wait_condition(context, "providerkey/openai", "Resolved", "False").await?;
    operator::replace(context).await?;
    // A spec that only the new operator has seen, and that changes nothing for pods.
    let patch = json!({"spec": {"availability": {"podDisruptionBudget": {"maxUnavailable": 2}}}});
    let generation = objects::merge(context, OBJECT, &patch).await?["metadata"]["generation"].clone();
    let condition = wait::wait_for("the new operator's word", Duration::from_secs(30), || async {
        let status = objects::get(context, OBJECT).await?["status"].clone();
        ensure!(status["observedGeneration"] == generation, "{status}");
        let condition = gateway::condition(&status, "ResolvedRefs").cloned();
        Ok(condition.filter(|one| one["status"] == "False" && one["observedGeneration"] == generation))
    })
    .await?;
    says_which(&condition)?;
    gateway::wait_condition(context, OBJECT, "Ready", "True").await?;
    println!("  Secret deleted, operator replaced: ResolvedRefs=False says {}", condition["message"]);
    Ok(())
}

fn says_which(condition: &Value) -> Result<()> {
    ensure!(condition["message"].as_str().unwrap_or_default().contains("openai-key"), "{condition}");
    Ok(())
}

async fn last_value_serves(context: &Context, control: &Control) -> Result<()> {
    control.reset().await?;
    load::send(context, &["--requests", "50"]).await?.all_served()?;
    let counts = control.counts().await?;
    ensure!(counts.sum(|count| count.key.as_deref() == Some(NEW_KEY)) == 50, "the last value does not serve");
    println!("  the last value serves");
    Ok(())
}
