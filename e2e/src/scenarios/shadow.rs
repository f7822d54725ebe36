//! Copies of the baseline's requests on the bifrost arm: the clients notice nothing, tools are never copied, the money stops copies.
//! What the provider recorded proves it.

use std::{collections::HashMap, time::Duration};

use anyhow::{Context as _, Result, ensure};
use bifrost_fake_provider::{Control, Match, Record, RecordQuery, Rule, Script};
use futures::FutureExt;
use serde_json::{Value, json};

use super::{
    curl,
    gateway::{self, APP_OPENAI, OBJECT, POOL_OPENAI},
    load, migration, objects,
};
use crate::{
    deploy::Vendors,
    scenarios::{Context, Scenario},
    wait,
};

/// The scenario.
pub(super) const SCENARIO: Scenario = Scenario::new(
    "shadow",
    "Requests run on the other arm too: client latency unchanged, tools never copied, the daily limit stops copies",
    |context| run(context).boxed(),
)
.embedded_only()
.limit(Duration::from_secs(600));

const REPLICAS: u64 = 2;
const LIMIT: Duration = Duration::from_secs(60);
/// How long the provider takes for a request of the application, in milliseconds, and how long for a copy.
const FIRST: u64 = 100;
const COPY: u64 = 1_500;
/// By so much the best of several runs may differ without it meaning anything.
const NOISE: f64 = 1.25;
const RUNS: usize = 3;
/// The most, where something else took the machine's time in every run with copies.
const MOST_RUNS: usize = 6;
const REQUESTS: [&str; 4] = ["--requests", "120", "--concurrency", "4"];

async fn run(context: &Context) -> Result<()> {
    let (_port, control) = Vendors::control(&context.target).await?;
    control.reset_all().await?;
    gateway::create(context, 2, json!({"strategy": "Canary", "canaryPercent": 0})).await?;
    unnoticed(context, &control).await?;
    after_the_answer(context, &control).await?;
    tools(context, &control).await?;
    told(context).await?;
    limit(context, &control).await
}

/// Sets what is copied, and waits until every replica has confirmed it.
async fn copy(context: &Context, shadow: Value) -> Result<()> {
    let patch = json!({"spec": {"migration": {"shadow": shadow}}});
    let generation = objects::merge(context, OBJECT, &patch).await?["metadata"]["generation"].clone();
    wait::wait_for("every replica to confirm what is copied", LIMIT, || async {
        let seen = migration::seen(context).await?;
        let programmed = gateway::condition(&seen["status"], "Programmed")
            .is_some_and(|one| one["status"] == "True" && one["observedGeneration"] == generation);
        let confirmed = seen["status"]["traffic"]["confirmedReplicas"] == REPLICAS;
        ensure!(programmed && confirmed, "{}", seen["status"]);
        Ok(Some(()))
    })
    .await
}

/// Everything that may be copied, for as much as can be set.
fn all() -> Value {
    json!({"percent": 100, "dailyLimit": "999999"})
}

async fn slow(control: &Control, key: &str, delay: u64) -> Result<()> {
    let matches = Match { key: Some(key.to_owned()), ..Match::default() };
    let script = Script { head_delay_ms: delay, ..Script::default() };
    control.add_rule(&Rule { name: None, matches, times: None, used: 0, script }).await?;
    Ok(())
}

/// The clients take as long with copies as without, though each copy takes fifteen times as long.
async fn unnoticed(context: &Context, control: &Control) -> Result<()> {
    slow(control, APP_OPENAI, FIRST).await?;
    slow(control, POOL_OPENAI, COPY).await?;
    let mut best = [f64::MAX; 2];
    for run in 0..MOST_RUNS {
        if run >= RUNS && best[1] <= best[0] * NOISE {
            break;
        }
        for (with, shadow) in [(0, Value::Null), (1, all())] {
            copy(context, shadow).await?;
            let load = load::send(context, &REQUESTS).await?;
            load.all_served()?;
            ensure!(load.arms.bifrost == 0, "{} answers came from the bifrost arm", load.arms.bifrost);
            best[with] = best[with].min(load.seconds);
        }
    }
    let [without, with] = best;
    println!("  120 requests of {FIRST} ms: {without:.2} s without copies, {with:.2} s with copies of {COPY} ms");
    ensure!(with <= without * NOISE, "copies were noticed");
    control.reset_all().await?;
    Ok(())
}

fn of_key(control: &Control, key: &str) -> impl Future<Output = Result<Vec<Record>>> {
    let query = RecordQuery { key: Some(key.to_owned()), ..RecordQuery::default() };
    async move { Ok(control.records(&query).await?) }
}

/// Every copy came after its request was answered, with the pool's key, once.
async fn after_the_answer(context: &Context, control: &Control) -> Result<()> {
    let load = load::send(context, &["--requests", "200", "--concurrency", "4", "--users", "fixed"]).await?;
    load.all_served()?;
    let copies = wait::wait_for("copies", LIMIT, || async {
        let mut copies = of_key(control, POOL_OPENAI).await?;
        // Those of the requests before name no user.
        copies.retain(|copy| copy.user.is_some());
        Ok(Some(copies).filter(|copies| copies.len() >= 20))
    })
    .await?;
    let first = of_key(control, APP_OPENAI).await?;
    let first: HashMap<_, _> = first.iter().filter_map(|record| Some((record.user.as_ref()?, record))).collect();
    let mut seen = HashMap::<&str, usize>::new();
    for copy in &copies {
        let user = copy.user.as_ref().context("a copy without a user")?;
        let of = first.get(user).with_context(|| format!("a copy of nothing: {user}"))?;
        let ended = of.ended.context("a copy of a request that is still open")?;
        ensure!(ended <= copy.time, "the copy of {user} began {} ms before its answer ended", ended - copy.time);
        *seen.entry(user).or_default() += 1;
    }
    ensure!(seen.values().all(|times| *times == 1), "a request was copied twice");
    println!("  {} of {} requests were copied, each after its answer", copies.len(), load.requests);
    Ok(())
}

async fn tools(context: &Context, control: &Control) -> Result<()> {
    control.reset_all().await?;
    let mut body: Value = serde_json::from_str(&gateway::chat("pays"))?;
    body["tools"] = json!([{"type": "function", "function": {"name": "pay", "parameters": {"type": "object"}}}]);
    for _ in 0..20 {
        let answer = curl::chat(context, &gateway::url(context), &body.to_string(), true).await?;
        ensure!(answer.status == 200 && answer.arm() == "baseline", "{} {}", answer.status, answer.arm());
    }
    // One that is copied, so that copies are known to have had their time.
    let answer = curl::chat(context, &gateway::url(context), &gateway::chat("asks"), true).await?;
    ensure!(answer.status == 200, "{}", answer.status);
    wait::wait_until("the copy", LIMIT, || async { Ok(!of_key(control, POOL_OPENAI).await?.is_empty()) }).await?;
    let copies = of_key(control, POOL_OPENAI).await?;
    ensure!(copies.iter().all(|copy| !copy.body.contains("\"tools\"")), "a request with tools was copied");
    println!("  20 requests with tools: none copied");
    Ok(())
}

/// The status says what became of copies.
async fn told(context: &Context) -> Result<()> {
    let shadow = wait::wait_for("the status to tell of copies", LIMIT, || async {
        let shadow = migration::seen(context).await?["status"]["shadow"].clone();
        let told = shadow["copied"].as_u64().is_some_and(|copied| copied > 0)
            && shadow["agreedPercent"].is_u64()
            && shadow["message"].as_str().is_some_and(|message| message.contains("tools"));
        ensure!(told, "{shadow}");
        Ok(Some(shadow))
    })
    .await?;
    println!("  {shadow}");
    ensure!(shadow["spent"].as_str().is_some_and(|spent| spent.ends_with(" USD")), "{shadow}");
    Ok(())
}

/// With less money than one copy can cost nothing is copied.
async fn limit(context: &Context, control: &Control) -> Result<()> {
    copy(context, json!({"dailyLimit": "0.001"})).await?;
    control.reset_all().await?;
    let load = load::send(context, &REQUESTS).await?;
    load.all_served()?;
    let message = wait::wait_for("the status to tell of the limit", LIMIT, || async {
        let shadow = migration::seen(context).await?["status"]["shadow"].clone();
        let message = shadow["message"].as_str().unwrap_or_default().to_owned();
        ensure!(message.contains(" limit"), "{shadow}");
        Ok(Some(message))
    })
    .await?;
    let copies = of_key(control, POOL_OPENAI).await?;
    ensure!(copies.is_empty(), "{} copies beyond the limit", copies.len());
    println!("  over the limit: {message}");
    Ok(())
}
