//! What scenarios about migrations have in common: asking for something, and looking where it is.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    gateway::{self, NAME, OBJECT},
    objects, operator,
};
use crate::{scenarios::Context, wait};

/// How long the operator may take to do what is asked for.
pub(super) const HANDLED: Duration = Duration::from_secs(40);
/// How long the analysis may take to say something.
pub(super) const JUDGED: Duration = Duration::from_secs(90);
/// How often the operator looks at what the pods counted.
const LOOKS: Duration = Duration::from_secs(5);
/// Times in a status are rounded to whole seconds.
const ROUNDED: Duration = Duration::from_millis(500);
/// The annotation.
pub(super) const REQUEST: &str = "bifrost.dev/request";

/// How long a step began after a rollback, by the operator's clock; at most a second less than this.
pub(super) fn waited(rollback: &Value, again: &Value) -> Result<Duration> {
    let at = |time: &Value| -> Result<Timestamp> { Ok(time.as_str().context("no time")?.parse()?) };
    let began = at(&again["status"]["migration"]["stepStartedAt"])?;
    Ok(Duration::try_from(began.duration_since(at(&rollback["at"])?)).unwrap_or_default() + 2 * ROUNDED)
}

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

/// Kills the operator in a stage, once all is said of it; the next one goes on where the stage is, which began when it began.
pub(super) async fn without_operator(context: &Context, step: &str, phase: &str) -> Result<()> {
    let place = |seen: &Value| {
        let migration = &seen["status"]["migration"];
        ["step", "phase", "stepStartedAt", "holdEndsAt"].map(|member| migration[member].clone())
    };
    let before = wait::wait_for(&format!("{phase} in step {step}"), HANDLED, || async {
        let seen = seen(context).await?;
        let migration = &seen["status"]["migration"];
        // What progresses is in its hold.
        let is_all = phase != "Progressing" || migration["holdEndsAt"].is_string();
        ensure!(migration["step"] == step && migration["phase"] == phase && is_all, "{migration}");
        Ok(Some(place(&seen)))
    })
    .await?;
    let percent = table(context, NAME).await?.context("no table is published")?;
    operator::kill(context).await?;
    stays(context, percent, Duration::from_secs(2)).await?;
    let after = place(&seen(context).await?);
    ensure!(after == before, "{before:?} became {after:?}");
    println!("  {phase} in step {step}: the operator killed, its successor goes on there");
    Ok(())
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

/// The earliest moment at which the counts that led to a rollback can have been there: after the look before the one that decided, and
/// after the fault. What is measured from it is never too short.
pub(super) fn counted(rollback: &Value, fault: Instant) -> Result<Instant> {
    let ago = ago(rollback)? + ROUNDED + LOOKS;
    Ok(Instant::now().checked_sub(ago).map_or(fault, |counted| counted.max(fault)))
}

/// How long a fault had lasted when it led to a rollback, give or take half a second.
pub(super) fn lasted(rollback: &Value, fault: Instant) -> Result<Duration> {
    Ok(fault.elapsed().saturating_sub(ago(rollback)?))
}

fn ago(rollback: &Value) -> Result<Duration> {
    let at: Timestamp = rollback["at"].as_str().context("a rollback without a time")?.parse()?;
    Ok(Duration::try_from(Timestamp::now().duration_since(at)).unwrap_or_default())
}

/// What the analysis says of a check; none where it does not say anything of it.
pub(super) fn check<'a>(seen: &'a Value, name: &str) -> Option<&'a str> {
    let checks = seen["status"]["analysis"]["checks"].as_array()?;
    checks.iter().find(|check| check["name"] == name)?["message"].as_str()
}

/// Looks for a while, and fails if the percent is ever another.
pub(super) async fn stays(context: &Context, percent: u64, time: Duration) -> Result<()> {
    stays_of(context, NAME, percent, time).await
}

/// As [`stays`], of a gateway of another name.
pub(super) async fn stays_of(context: &Context, name: &str, percent: u64, time: Duration) -> Result<()> {
    let until = tokio::time::Instant::now() + time;
    while tokio::time::Instant::now() < until {
        let table = table(context, name).await?;
        ensure!(table.is_none() || table == Some(percent), "{table:?} instead of {percent} %");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// The percent that is published; none while the ConfigMap is gone.
async fn table(context: &Context, name: &str) -> Result<Option<u64>> {
    let map = objects::find(context, &format!("configmap/{name}-bifrost")).await?;
    let text = map.as_ref().and_then(|map| map["data"]["traffic.json"].as_str()).unwrap_or("null");
    Ok(serde_json::from_str::<Value>(text)?["percent"].as_u64())
}
