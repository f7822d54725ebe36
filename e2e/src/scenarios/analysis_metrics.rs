//! What others measure: a Prometheus query and a webhook hold a step, let it go on, pause it, and send the traffic back.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bifrost_fake_provider::{Control, Match, Record, RecordQuery, Rule, Script};
use futures::FutureExt;
use serde_json::{Value, json};

use super::{
    gateway::{self, OBJECT},
    load,
    migration::{self, JUDGED},
    objects,
};
use crate::{
    deploy::Vendors,
    scenarios::{Context, Scenario},
    wait,
};

/// The scenario.
pub(super) const SCENARIO: Scenario = Scenario::new(
    "analysis-metrics",
    "A Prometheus query and a webhook, on allowed hosts only: hold a step, let it go on, pause it, roll it back",
    |context| run(context).boxed(),
)
.embedded_only()
.limit(Duration::from_secs(480));

const REPLICAS: u64 = 2;
/// The shortest that there is.
const INTERVAL: Duration = Duration::from_secs(10);
const URL: &str = "http://measures.vendors.svc";
const QUERY: &str = "/api/v1/query";
const WEBHOOK: &str = "/judge/ai";

async fn run(context: &Context) -> Result<()> {
    let (_port, control) = Vendors::control(&context.target).await?;
    control.reset_all().await?;
    gateway::create(context, 2, json!({"canaryPercent": 0})).await?;
    only_allowed_hosts(context).await?;
    let (_, load) = load::amid(context, &["--concurrency", "4"], story(context, &control)).await?;
    load.all_served()
}

async fn story(context: &Context, control: &Control) -> Result<()> {
    holds_and_goes_on(context, control).await?;
    sends_back(context, control).await?;
    pauses(context, control).await
}

fn metrics(url: &str, action: &str) -> Value {
    let query = r#"orders_failed{namespace="{{namespace}}",gateway="{{gateway}}"}"#;
    json!([
        {"name": "orders", "interval": "10s", "prometheus": {"url": url, "query": query, "max": "0.02"}},
        {"name": "judge", "interval": "10s", "webhook": {"url": format!("{url}{WEBHOOK}")}, "action": action},
    ])
}

/// Half of the users for a while, then all.
async fn half(context: &Context, hold: &str, metrics: Value) -> Result<()> {
    let steps = json!({"steps": [{"percent": 50, "hold": hold}, {"percent": 100}]});
    let analysis = json!({"minRequests": 40, "metrics": metrics});
    let migration = json!({"canaryPercent": null, "canary": steps, "analysis": analysis});
    objects::merge(context, OBJECT, &json!({"spec": {"migration": migration}})).await.map(drop)
}

/// What both say from now on.
async fn say(control: &Control, value: &str, verdict: &str) -> Result<()> {
    control.clear_rules().await?;
    let sample = json!({"metric": {}, "value": [1_700_000_000.5, value]});
    let result = json!({"status": "success", "data": {"resultType": "vector", "result": [sample]}});
    for (path, body) in [(QUERY, result), (WEBHOOK, json!({"verdict": verdict}))] {
        let matches = Match { path: Some(path.to_owned()), ..Match::default() };
        let script = Script { status: Some(200), body: Some(body), ..Script::default() };
        control.add_rule(&Rule { name: None, matches, times: None, used: 0, script }).await?;
    }
    Ok(())
}

async fn only_allowed_hosts(context: &Context) -> Result<()> {
    half(context, "1s", metrics("http://elsewhere.vendors.svc", "Rollback")).await?;
    let refused = gateway::wait_condition(context, OBJECT, "Accepted", "False").await?;
    let message = refused["message"].as_str().unwrap_or_default();
    let named = ["metrics[0].prometheus.url", "metrics[1].webhook.url", "analysis.allowedHosts"];
    ensure!(named.iter().all(|name| message.contains(name)), "{refused}");
    println!("  another host: {message}");
    migration::stays(context, 0, Duration::from_secs(1)).await
}

/// The checks pass and the query does; the step waits for the webhook alone.
async fn holds_and_goes_on(context: &Context, control: &Control) -> Result<()> {
    say(control, "0.01", "Inconclusive").await?;
    half(context, "1s", metrics(URL, "Rollback")).await?;
    let held = wait::wait_for("the step to wait for the webhook alone", JUDGED, || async {
        let seen = migration::seen(context).await?;
        let passes = migration::check(&seen, "orders") == Some("orders prometheus: 0.01 is not above 0.02");
        let waits = seen["status"]["migration"]["message"].as_str().is_some_and(|text| text.contains("judge webhook"));
        let errors = migration::check(&seen, "errors").is_some_and(|text| text.contains("within"));
        ensure!(passes && waits && errors, "{} {}", seen["status"]["migration"], seen["status"]["analysis"]);
        Ok(Some(seen))
    })
    .await?;
    migration::stays(context, 50, INTERVAL).await?;
    asked_rightly(context, control, &held).await?;
    say(control, "0.01", "Pass").await?;
    let said = Instant::now();
    migration::reach(context, 100, REPLICAS, JUDGED).await?;
    println!("  held by the webhook; 100 % {:.1} s after it said Pass", said.elapsed().as_secs_f64());
    Ok(())
}

/// What arrived there is what the documentation says.
async fn asked_rightly(context: &Context, control: &Control, seen: &Value) -> Result<()> {
    let webhook: Value = serde_json::from_str(&last(control, WEBHOOK).await?.body)?;
    let wanted = json!({
        "gateway": {"namespace": context.namespace, "name": gateway::NAME}, "step": "1/2",
        "revision": seen["status"]["migration"]["revision"], "percent": 50,
    });
    ensure!(webhook == wanted, "{webhook} instead of {wanted}");
    let query = last(control, QUERY).await?.query.context("no query")?;
    let wanted = format!("namespace%3D%22{}%22%2Cgateway%3D%22{}%22", context.namespace, gateway::NAME);
    ensure!(query.contains(&wanted), "{query}");
    Ok(())
}

async fn last(control: &Control, path: &str) -> Result<Record> {
    let query = RecordQuery { path: Some(path.to_owned()), ..RecordQuery::default() };
    control.records(&query).await?.pop().with_context(|| format!("{path} was not asked for"))
}

/// Begins anew at half of the users, with a revision of its own, and waits until everything passes.
async fn begin(context: &Context, control: &Control, hold: &str, action: &str) -> Result<()> {
    say(control, "0.01", "Pass").await?;
    // Before the change: somebody may be asked as soon as it is read.
    let asked = Instant::now();
    half(context, hold, metrics(URL, action)).await?;
    migration::ask(context, &format!("restart/{hold}")).await?;
    migration::reach(context, 50, REPLICAS, JUDGED).await?;
    migration::verdict(context, "Pass").await?;
    ensure!(asked.elapsed() + Duration::from_secs(2) > INTERVAL, "it passed before anybody was asked");
    Ok(())
}

/// One failure may be a blip: two in a row send the traffic back.
async fn sends_back(context: &Context, control: &Control) -> Result<()> {
    begin(context, control, "1h", "Rollback").await?;
    // Before it is said: the query may be asked for while it is.
    let said = Instant::now();
    say(control, "0.5", "Pass").await?;
    let back = migration::reach(context, 0, REPLICAS, JUDGED).await?;
    let rollback = &back["status"]["migration"]["rollback"];
    ensure!(rollback["reason"] == "AnalysisFailed", "{rollback}");
    ensure!(rollback["message"] == "orders prometheus: 0.5 is above 0.02", "{rollback}");
    ensure!(said.elapsed() >= INTERVAL, "one answer sent the traffic back");
    println!(
        "  rolled back {:.1} s after the query exceeded its limit: {}",
        said.elapsed().as_secs_f64(),
        rollback["message"]
    );
    Ok(())
}

async fn pauses(context: &Context, control: &Control) -> Result<()> {
    begin(context, control, "2h", "Pause").await?;
    say(control, "0.01", "Fail").await?;
    let paused = wait::wait_for("the migration to wait for somebody", JUDGED, || async {
        let seen = migration::seen(context).await?;
        ensure!(seen["status"]["migration"]["phase"] == "Paused", "{}", seen["status"]["migration"]);
        Ok(Some(seen))
    })
    .await?;
    let message = paused["status"]["migration"]["message"].as_str().unwrap_or_default();
    ensure!(message.contains("judge webhook: says Fail"), "{message}");
    println!("  paused: {message}");
    migration::stays(context, 50, Duration::from_secs(3)).await
}
