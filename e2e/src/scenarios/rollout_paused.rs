//! `spec.paused` in mid-rollout: nothing of a candidate rises, what takes it back goes on, and afterwards it goes on from where it was.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures::FutureExt;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    gateway::{self, OBJECT},
    load, objects,
    rollout::{self, CANDIDATE_PODS},
};
use crate::{
    images::Image,
    scenarios::{Context, Scenario},
    wait,
};

/// The scenario.
pub(super) const SCENARIO: Scenario = Scenario::new(
    "rollout-paused",
    "spec.paused in mid-rollout: no step, no promotion; abort and a crash still go back; resumed, no step is skipped",
    |context| run(context).boxed(),
)
.embedded_only();

/// The first step's hold. A pause, or a look, comes in time for each of them also where something stands still for a while.
const HOLD: Duration = Duration::from_secs(5);
/// How long nothing may rise after it could.
const STILL: Duration = Duration::from_secs(2);
/// The steps, by their percents.
const STEPS: [u64; 3] = [20, 60, 100];

async fn run(context: &Context) -> Result<()> {
    let next = rollout::next_image(context).await?;
    let steps = json!([{"percent": 20, "hold": "5s"}, {"percent": 60, "hold": "5s"}, {"percent": 100, "hold": "4s"}]);
    let first = rollout::create(context, Value::Null, rollout::canary(steps)).await?;
    let pods = rollout::stable_pods(context).await?;
    let (stable, _) = load::during(context, &[], configuration(context, &first)).await?;
    load::during(context, &[], image(context, &stable, &next)).await?;
    ensure!(rollout::stable_pods(context).await? == pods, "stable pods were replaced or restarted");
    Ok(())
}

/// Writes `spec.paused`, and waits until that is acted upon.
async fn pause(context: &Context, paused: bool) -> Result<()> {
    let written = objects::merge(context, OBJECT, &json!({"spec": {"paused": paused}})).await?;
    let generation = written["metadata"]["generation"].clone();
    wait::wait_until("the pause to be noticed", rollout::LIMIT, || async {
        let seen = rollout::seen(context).await?;
        ensure!(seen["status"]["observedGeneration"] == generation, "{}", seen["status"]);
        let told = gateway::condition(&seen["status"], "Paused").is_some_and(|one| one["status"] == "True");
        ensure!(told == paused, "{}", seen["status"]);
        Ok(true)
    })
    .await
}

/// A new configuration: not begun, held, aborted, tried again, and to its end; returns its name.
async fn configuration(context: &Context, stable: &str) -> Result<String> {
    pause(context, true).await?;
    objects::merge(context, OBJECT, &rollout::body_limit("90Mi")).await?;
    none(context, STILL).await?;
    rollout::only_at(context, &gateway::url(context), stable).await?;
    pause(context, false).await?;
    let seen = rollout::reach(context, 20).await?;
    let candidate = rollout::revision(&seen, "candidateRevision")?;

    held(context, &candidate).await?;
    rollout::ask(context, "abort/2").await?;
    let back = rollout::phase(context, "RolledBack").await?;
    ensure!(back["status"]["rollout"]["rollback"]["reason"] == "Aborted", "{}", back["status"]["rollout"]);
    rollout::ask(context, "retry/3").await?;
    gateway::wait_event(context, "RequestRefused", "retry/3").await?;
    rollout::stays(context, 0, STILL).await?;
    rollout::only_at(context, &gateway::url(context), stable).await?;
    println!("  {candidate}: paused at 20 % past its hold; a promotion refused, aborted, a retry refused");

    pause(context, false).await?;
    rollout::stays(context, 0, STILL).await?;
    rollout::ask(context, "retry/4").await?;
    rollout::reach(context, STEPS[0]).await?;
    held(context, &candidate).await?;
    walked(context, &candidate).await?;
    Ok(candidate)
}

/// A new image: held at its first step, and sent back by a crash while it is.
async fn image(context: &Context, stable: &str, next: &Image) -> Result<()> {
    let (candidate, _) = rollout::begin(context, &rollout::image(&next.reference)?, 20).await?;
    held(context, &candidate).await?;
    pause(context, false).await?;
    rollout::reach(context, 60).await?;
    pause(context, true).await?;
    let at = rollout::seen(context).await?["status"]["rollout"]["percent"].clone();
    // The kubelet tells whole seconds: an end in the second of the beginning could as well be before it.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let broken = Instant::now();
    gateway::crash(context, CANDIDATE_PODS).await?;
    rollout::sent_back(context, &format!("a pod killed while paused at {at} %"), broken, "GatewayCrash").await?;
    rollout::only_at(context, &gateway::url(context), stable).await?;
    rollout::candidate_gone(context).await
}

/// Pauses in the first step's hold: it stays there although the hold is over, and nobody can promote it.
async fn held(context: &Context, candidate: &str) -> Result<()> {
    pause(context, true).await?;
    // The status of what is held names no end of a hold; it began before the pause.
    rollout::stays(context, STEPS[0], HOLD + STILL).await?;
    let id = format!("promote/{}@{candidate}", Timestamp::now().as_second());
    rollout::ask(context, &id).await?;
    gateway::wait_event(context, "RequestRefused", &id).await?;
    rollout::stays(context, STEPS[0], STILL).await
}

/// Resumed, it takes each step after the other.
async fn walked(context: &Context, candidate: &str) -> Result<()> {
    let resume = pause(context, false);
    let watch = async {
        let mut seen = vec![STEPS[0]];
        loop {
            let table = rollout::table(context).await?.context("no ConfigMap")?;
            let Some(percent) = table["percent"].as_u64() else { return anyhow::Ok(seen) };
            if seen.last() != Some(&percent) {
                seen.push(percent);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let watch = tokio::time::timeout(rollout::LIMIT, watch);
    let (resumed, steps) = tokio::join!(resume, watch);
    resumed?;
    let steps = steps.context("the rollout does not end")??;
    ensure!(steps == STEPS, "{steps:?} instead of {STEPS:?}");
    rollout::settled(context, candidate).await?;
    println!("  resumed: {steps:?}, then stable");
    Ok(())
}

/// Looks for a while, and fails if there is a candidate.
async fn none(context: &Context, time: Duration) -> Result<()> {
    let until = tokio::time::Instant::now() + time;
    while tokio::time::Instant::now() < until {
        let table = rollout::table(context).await?.context("no ConfigMap")?;
        ensure!(table.is_null(), "a candidate while the spec is paused: {table}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}
