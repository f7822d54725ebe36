//! Copies decide: a step passes while they agree with the first answers, and goes back when they do not, though no request fails.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bifrost_fake_provider::{Control, Match, Rule, Script};
use futures::FutureExt;
use k8s_openapi::api::core::v1::Pod;
use kube::{ResourceExt, api::DeleteParams};
use serde_json::{Value, json};

use super::{
    gateway::{self, POOL_OPENAI},
    load,
    migration::{self, JUDGED},
};
use crate::{
    deploy::Vendors,
    scenarios::{Context, Scenario},
    wait,
};

/// The scenario.
pub(super) const SCENARIO: Scenario = Scenario::new(
    "shadow-agreement",
    "The check ShadowAgreement: passes while copies agree, keeps what a removed pod counted, rolls back when they differ",
    |context| run(context).boxed(),
)
.embedded_only()
.limit(Duration::from_secs(360));

const REPLICAS: u64 = 2;

async fn run(context: &Context) -> Result<()> {
    let (_port, control) = Vendors::control(&context.target).await?;
    control.reset_all().await?;
    let checks = json!([{"name": "copies", "type": "ShadowAgreement", "min": "90%"}]);
    let migration = json!({
        "canary": {"steps": [{"percent": 10, "hold": "1h"}, {"percent": 100}]},
        "shadow": {"percent": 50, "dailyLimit": "999999"},
        "analysis": {"minRequests": 40, "checks": checks},
    });
    let mut manifest = gateway::manifest(2, migration, Vec::new());
    // The drain's defaults: a pod goes under load, and kube-proxy may need more than a second to send nothing to it any more.
    manifest["spec"]["drain"] = json!({});
    gateway::create_from(context, manifest).await?;
    let (_, load) = load::amid(context, &["--concurrency", "4"], story(context, &control)).await?;
    load.all_served()
}

async fn story(context: &Context, control: &Control) -> Result<()> {
    migration::reach(context, 10, REPLICAS, JUDGED).await?;
    let passed = migration::verdict(context, "Pass").await?;
    println!("  {}", migration::check(&passed, "copies").unwrap_or_default());
    kept(context, copies(&passed)?).await?;

    // The same status and usage, and an end of another kind: nothing but the copies tells.
    let message = json!({"role": "assistant", "content": "", "refusal": null});
    let body = json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-4o-mini",
        "choices": [{"index": 0, "message": message, "finish_reason": "content_filter"}],
        "usage": {"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 30},
    });
    let script = Script { status: Some(200), body: Some(body), ..Script::default() };
    let matches = Match { key: Some(POOL_OPENAI.to_owned()), ..Match::default() };
    control.add_rule(&Rule { name: None, matches, times: None, used: 0, script }).await?;
    let back = migration::reach(context, 0, REPLICAS, JUDGED).await?;
    let rollback = &back["status"]["migration"]["rollback"];
    let message = rollback["message"].as_str().unwrap_or_default();
    let told = message.contains("copies agree, less than 90 % at any look");
    ensure!(rollback["reason"] == "AnalysisFailed" && told, "{rollback}");
    println!("  rolled back: {message}");
    Ok(())
}

/// How many copies the check has seen.
fn copies(seen: &Value) -> Result<u64> {
    let message = migration::check(seen, "copies").context("no such check")?;
    let number = message.split(" copies agree").next().and_then(|text| text.rsplit(' ').next());
    let number = number.and_then(|text| text.replace(',', "").parse().ok());
    number.with_context(|| message.to_owned())
}

/// A pod goes, and what it counted stays.
async fn kept(context: &Context, before: u64) -> Result<()> {
    let pods = context.pods(&gateway::selector()).await?;
    let pod = pods.first().map(ResourceExt::name_any).context("no pods")?;
    context.api::<Pod>().delete(&pod, &DeleteParams::default()).await?;
    context.wait_for_pods(&gateway::selector(), 2, JUDGED).await?;
    let after = wait::wait_for("a newer verdict, with the new pod", JUDGED, || async {
        let seen = migration::seen(context).await?;
        ensure!(seen["status"]["analysis"]["verdict"] == "Pass", "{}", seen["status"]["analysis"]);
        copies(&seen).map(|copies| Some(copies).filter(|copies| *copies != before))
    })
    .await?;
    ensure!(after > before, "{before} copies, and {after} after a pod went");
    println!("  {before} copies before a pod was replaced, {after} after it");
    Ok(())
}
