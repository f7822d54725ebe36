//! What scenarios about migrations have in common: asking for something, and looking where it is.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::{
    gateway::{self, OBJECT},
    objects,
};
use crate::{scenarios::Context, wait};

/// How long the operator may take to do what is asked for.
pub(super) const HANDLED: Duration = Duration::from_secs(20);
/// How long the analysis may take to say something.
pub(super) const JUDGED: Duration = Duration::from_secs(90);
/// The annotation.
pub(super) const REQUEST: &str = "bifrost.dev/request";

/// The gateway as it is.
pub(super) async fn seen(context: &Context) -> Result<Value> {
    objects::get(context, OBJECT).await
}

/// Asks for something, and waits until that was handled or refused.
pub(super) async fn ask(context: &Context, request: &str) -> Result<Value> {
    let patch = json!({"metadata": {"annotations": {REQUEST: request}}});
    objects::merge(context, OBJECT, &patch).await?;
    wait::wait_for(&format!("{request} to be handled"), HANDLED, || async {
        let seen = seen(context).await?;
        let handled = seen["status"]["migration"]["handledRequest"] == request;
        ensure!(handled, "{}", seen["status"]["migration"]);
        Ok(Some(seen))
    })
    .await
}

/// Waits until so many replicas confirm this percent, and returns the gateway.
pub(super) async fn reach(context: &Context, percent: u64, replicas: u64, limit: Duration) -> Result<Value> {
    wait::wait_for(&format!("{percent} % on {replicas} replicas"), limit, || async {
        let seen = seen(context).await?;
        let (status, traffic) = (&seen["status"], &seen["status"]["traffic"]);
        let programmed = gateway::condition(status, "Programmed").is_some_and(|one| one["status"] == "True");
        ensure!(
            programmed && traffic["wantedPercent"] == percent && traffic["confirmedReplicas"] == replicas,
            "{status}"
        );
        Ok(Some(seen))
    })
    .await
}

/// Waits until the migration is in a phase.
pub(super) async fn phase(context: &Context, phase: &str) -> Result<Value> {
    wait::wait_for(&format!("the phase {phase}"), HANDLED, || async {
        let seen = seen(context).await?;
        ensure!(seen["status"]["migration"]["phase"] == phase, "{}", seen["status"]["migration"]);
        Ok(Some(seen))
    })
    .await
}

/// Waits for a verdict of the analysis, and returns the gateway.
pub(super) async fn verdict(context: &Context, wanted: &str) -> Result<Value> {
    wait::wait_for(&format!("the verdict {wanted}"), JUDGED, || async {
        let seen = seen(context).await?;
        let analysis = &seen["status"]["analysis"];
        ensure!(analysis["verdict"] == wanted, "{analysis} {}", seen["status"]["migration"]);
        Ok(Some(seen))
    })
    .await
}

/// What the analysis says of a check; none where it does not say anything of it.
pub(super) fn check<'a>(seen: &'a Value, name: &str) -> Option<&'a str> {
    let checks = seen["status"]["analysis"]["checks"].as_array()?;
    checks.iter().find(|check| check["name"] == name)?["message"].as_str()
}

/// Looks for a while, and fails if the percent is ever another.
pub(super) async fn stays(context: &Context, percent: u64, time: Duration) -> Result<()> {
    let until = tokio::time::Instant::now() + time;
    while tokio::time::Instant::now() < until {
        let table = table(context).await?;
        ensure!(table.is_none() || table == Some(percent), "{table:?} instead of {percent} %");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// The percent that is published; none while the ConfigMap is gone.
pub(super) async fn table(context: &Context) -> Result<Option<u64>> {
    let map = objects::find(context, "configmap/ai-bifrost").await?;
    let text = map.as_ref().and_then(|map| map["data"]["traffic.json"].as_str()).unwrap_or("null");
    Ok(serde_json::from_str::<Value>(text)?["percent"].as_u64())
}
