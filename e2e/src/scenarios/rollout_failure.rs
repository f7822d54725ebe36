//! Candidates that are no good: a configuration whose provider fails, an image that does not exist, pods that end. Each is sent back
//! by itself, and who uses the gateway notices as little of it as can be.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bifrost_fake_provider::{Match, Rule, Script};
use futures::FutureExt;
use serde_json::{Value, json};

use super::{
    gateway::{self, NAME, OBJECT},
    load, objects,
    rollout::{self, CANDIDATE_PODS},
    streams::{self, Group, LONG},
};
use crate::{
    deploy::Vendors,
    scenarios::{Context, Scenario},
    wait,
};

/// The scenario.
pub(super) const SCENARIO: Scenario = Scenario::new(
    "rollout-failure",
    "A candidate that fails requests, one without an image under 50 streams, one whose pod is killed: sent back by itself",
    |context| run(context).boxed(),
)
.embedded_only()
.limit(Duration::from_secs(420));

/// How long a decision may take.
const JUDGED: Duration = Duration::from_secs(60);
/// Until then a candidate's pods must be ready.
const DEADLINE: Duration = Duration::from_secs(10);
/// Streams that are open while there is a candidate without an image.
const STREAMS: &[Group] = &[(load::Sdk::Python, "messages", "claude-3-opus-20240229", 50)];
/// The candidate's share, in percent.
const SHARE: u64 = 25;
/// What the broken provider's path begins with.
const BROKEN: &str = "/broken";

async fn run(context: &Context) -> Result<()> {
    let next = rollout::next_image(context).await?;
    let mut plan = rollout::canary(json!([{"percent": SHARE, "hold": "1h"}, {"percent": 100}]));
    plan["analysis"] = json!({"minRequests": 40});
    plan["progressDeadline"] = json!("10s");
    let stable = rollout::create(context, Value::Null, plan).await?;
    let pods = rollout::stable_pods(context).await?;
    broken_provider(context, &stable).await?;
    let missing = format!("{}-missing", next.reference);
    load::during(context, &[], under_streams(context, &stable, &missing)).await?;
    ensure!(rollout::stable_pods(context).await? == pods, "stable pods were replaced or restarted");
    // From here on only the end of a container counts.
    let calm = json!({"spec": {"rollout": {"analysis": null, "progressDeadline": "60s"}}});
    objects::merge(context, OBJECT, &calm).await?;
    load::during(context, &[], killed(context, &stable, &next.reference)).await?;
    ensure!(rollout::stable_pods(context).await? == pods, "stable pods were replaced or restarted");
    Ok(())
}

/// A configuration whose provider answers 500 to everything. The gateway relays a vendor's answer and asks no second time, so each
/// failed call is a failed request.
async fn broken_provider(context: &Context, stable: &str) -> Result<()> {
    let (_port, control) = Vendors::control(&context.target).await?;
    control.reset_all().await?;
    let matches = Match { path: Some(format!("{BROKEN}/*")), ..Match::default() };
    let script = Script { status: Some(500), ..Script::default() };
    control.add_rule(&Rule { name: None, matches, times: None, used: 0, script }).await?;
    let before = rollout::seen(context).await?["spec"]["config"]["providers"].clone();
    let mut providers = before.clone();
    providers[0]["baseURL"] = json!(format!("https://openai.vendors.svc{BROKEN}"));
    let began = Instant::now();
    let patch = json!({"spec": {"config": {"providers": providers}}});
    let story = async {
        let (candidate, _) = rollout::begin(context, &patch, SHARE).await?;
        let spec = rollout::seen(context).await?["spec"].clone();
        let back = rollout::sent_back(context, "a provider that fails", began, "AnalysisFailed").await?;
        ensure!(back["spec"] == spec, "the spec was written");
        ensure!(rollout::revision(&back, "candidateRevision")? == candidate, "{}", back["status"]["rollout"]);
        Ok(candidate)
    };
    let (candidate, load) = load::amid(context, &["--concurrency", "8"], story).await?;
    println!("    {} of {} requests failed meanwhile", load.failures, load.requests);
    ensure!(load.failures > 0, "no request was the candidate's");
    let of_candidate = load.failed_revisions.get(&candidate).copied().unwrap_or_default();
    ensure!(of_candidate == load.failures, "the stable revision failed too: {:?}", load.failed_revisions);
    ensure!(load.failures * 100 <= load.requests * (SHARE + 5), "more than the candidate's share failed");
    rollout::only(context, stable).await?;
    back_to(context, &json!({"spec": {"config": {"providers": before}}}), stable).await
}

/// The spec asks for the stable revision again: there is no candidate, and nothing to complain of.
async fn back_to(context: &Context, patch: &Value, stable: &str) -> Result<()> {
    objects::merge(context, OBJECT, patch).await?;
    rollout::settled(context, stable).await?;
    wait::wait_until("Degraded to be over", JUDGED, || async {
        let seen = rollout::seen(context).await?;
        Ok(gateway::condition(&seen["status"], "Degraded").is_none_or(|one| one["status"] != "True"))
    })
    .await
}

/// Streams that are open meanwhile notice nothing of an image that cannot be had.
async fn under_streams(context: &Context, stable: &str, reference: &str) -> Result<()> {
    let (_port, control) = Vendors::control(&context.target).await?;
    let story = async {
        streams::all_open(&control, STREAMS).await?;
        no_image(context, stable, reference).await?;
        streams::end(&control, STREAMS).await
    };
    let (streams, ()) = tokio::try_join!(streams::run(context, STREAMS, LONG), story)?;
    ensure!(streams.of_revision(stable) == streams.requests, "{:?} instead of {stable}", streams.revisions);
    Ok(())
}

/// An image that cannot be had: the deadline passes without a pod that is ready.
async fn no_image(context: &Context, stable: &str, reference: &str) -> Result<()> {
    let spec = objects::get(context, OBJECT).await?["spec"]["image"].clone();
    let began = Instant::now();
    objects::merge(context, OBJECT, &rollout::image(reference)?).await?;
    let reason = "ProgressDeadlineExceeded";
    let back = rollout::sent_back(context, "an image that does not exist", began + DEADLINE, reason).await?;
    ensure!(began.elapsed() >= DEADLINE, "the deadline was cut to {:?}", began.elapsed());
    ensure!(back["status"]["rollout"]["candidateImage"] == reference, "{}", back["status"]["rollout"]);
    rollout::only(context, stable).await?;
    let deployment = objects::get(context, &format!("deployment/{NAME}")).await?;
    let image = &deployment["spec"]["template"]["spec"]["containers"][0]["image"];
    ensure!(*image == back["status"]["rollout"]["stableImage"], "the Deployment has {image}");
    rollout::candidate_gone(context).await?;
    back_to(context, &json!({"spec": {"image": spec}}), stable).await
}

/// A pod of the candidate's own ends in the middle of a step; then it is tried again.
async fn killed(context: &Context, stable: &str, reference: &str) -> Result<()> {
    let (candidate, _) = rollout::begin(context, &rollout::image(reference)?, SHARE).await?;
    rollout::share(context, stable, &candidate, SHARE as u32).await?;
    // Those of the candidate before may still be on their way out, and their end is no crash.
    context.wait_for_pods(CANDIDATE_PODS, 1, rollout::LIMIT).await?;
    // The kubelet tells whole seconds: an end in the second of the beginning could as well be before it.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let broken = Instant::now();
    gateway::crash(context, CANDIDATE_PODS).await?;
    rollout::sent_back(context, "a pod that is killed", broken, "GatewayCrash").await?;
    rollout::only(context, stable).await?;
    rollout::ask(context, "retry/1").await?;
    let again = rollout::reach(context, SHARE).await?;
    ensure!(rollout::revision(&again, "candidateRevision")? == candidate, "{}", again["status"]["rollout"]);
    rollout::share(context, stable, &candidate, SHARE as u32).await?;
    println!("  retry: the candidate has its {SHARE} % again");
    Ok(())
}
