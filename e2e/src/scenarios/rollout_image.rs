//! A new image takes over step by step: in pods of its own that nothing else selects, then in the Deployment. Streams outlast all of it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bifrost_fake_provider::Control;
use futures::FutureExt;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::{
    curl,
    gateway::{self, APP_OPENAI},
    load, objects,
    rollout::{self, CANDIDATE_OBJECTS, CANDIDATE_PODS, STABLE_PODS},
    streams::{self, FIFTY, LONG, TWENTY},
};
use crate::{
    deploy::Vendors,
    images::Image,
    scenarios::{Context, Scenario},
};

/// The scenario.
pub(super) const SCENARIO: Scenario = Scenario::new(
    "rollout-image",
    "A new image at 50 → 100 % in pods of its own, then in the Deployment, under 70 open streams: nothing is cut, nothing fails",
    |context| run(context).boxed(),
)
.embedded_only()
.limit(Duration::from_secs(420));

/// Of twenty streams at this share, none is the candidate's once in a million builds; of a smaller one much more often.
const SHARE: u32 = 50;
/// The port on which the candidate's pods take what stable pods forward to them, and nothing else.
const FORWARD: u16 = 8082;

async fn run(context: &Context) -> Result<()> {
    let next = rollout::next_image(context).await?;
    let steps = json!([{"percent": SHARE, "pause": true}, {"percent": 100, "hold": "2s"}]);
    let half = json!({"strategy": "Canary", "canaryPercent": 50});
    let stable = rollout::create(context, half, rollout::canary(steps)).await?;
    let (_port, control) = Vendors::control(&context.target).await?;
    control.reset_all().await?;
    let before = rollout::stable_pods(context).await?;
    let story = async {
        streams::all_open(&control, FIFTY).await?;
        let candidate = beside(context, &next, &stable).await?;
        ensure!(rollout::stable_pods(context).await? == before, "stable pods were replaced or restarted");
        let onwards = promoted(context, &control, &stable, &candidate);
        let (streams, ()) = tokio::try_join!(streams::run(context, TWENTY, LONG), onwards)?;
        ensure!(streams.of_revision(&candidate) > 0, "no stream was the candidate's: {:?}", streams.revisions);
        Ok(candidate)
    };
    let work = async { tokio::try_join!(streams::run(context, FIFTY, LONG), story) };
    let ((_, candidate), load) = load::during(context, &[], work).await?;
    ensure!(load.of_revision(&stable) + load.of_revision(&candidate) == load.requests, "{:?}", load.revisions);
    let after = context.wait_for_pods(STABLE_PODS, before.len(), rollout::LIMIT).await?;
    for pod in &after {
        ensure!(image_of(pod) == next.reference, "{} runs {}", pod.name_any(), image_of(pod));
        ensure!(before.iter().all(|(name, ..)| *name != pod.name_any()), "{} was not replaced", pod.name_any());
    }
    context.wait_for_pods(CANDIDATE_PODS, 0, rollout::LIMIT).await?;
    rollout::candidate_gone(context).await
}

fn image_of(pod: &Pod) -> &str {
    let container = pod.spec.as_ref().and_then(|spec| spec.containers.first());
    container.and_then(|container| container.image.as_deref()).unwrap_or_default()
}

/// The candidate serves its share beside the stable pods; returns its name.
async fn beside(context: &Context, next: &Image, stable: &str) -> Result<String> {
    let old = rollout::revision(&rollout::seen(context).await?, "stableImage")?;
    let (candidate, took) = rollout::begin(context, &rollout::image(&next.reference)?, SHARE.into()).await?;
    println!("  {stable} → {candidate}: {SHARE} % confirmed after {:.1} s, pods included", took.as_secs_f64());
    let seen = rollout::seen(context).await?;
    let rollout = &seen["status"]["rollout"];
    ensure!(rollout["candidateImage"] == next.reference && rollout["stableImage"] == old, "{rollout}");
    ensure!(rollout["candidateReadyReplicas"].as_u64().is_some_and(|ready| ready > 0), "{rollout}");
    own_objects(context, &seen).await?;
    let first = rollout::share(context, stable, &candidate, SHARE).await?;
    ensure!(rollout::share(context, stable, &candidate, SHARE).await? == first, "users changed their revision");
    only_forwarded(context, stable, &candidate).await?;
    Ok(candidate)
}

/// The candidate's objects are there, and none of the gateway's own selects its pods.
async fn own_objects(context: &Context, seen: &Value) -> Result<()> {
    for object in CANDIDATE_OBJECTS {
        ensure!(objects::find(context, object).await?.is_some(), "there is no {object}");
    }
    let service = objects::get(context, "service/ai").await?["spec"]["selector"].clone();
    let budget = objects::get(context, "poddisruptionbudget/ai-bifrost").await?["spec"]["selector"].clone();
    let policy = objects::get(context, "networkpolicy/ai-bifrost").await?["spec"]["podSelector"].clone();
    let scale = seen["status"]["selector"].as_str().context("no status.selector")?;
    let pods = context.pods(CANDIDATE_PODS).await?;
    ensure!(!pods.is_empty(), "the candidate has no pods");
    for pod in &pods {
        let by_service = selects(&service, pod)?;
        let by_others = selects(&budget["matchLabels"], pod)? || selects(&policy["matchLabels"], pod)?;
        ensure!(!by_service && !by_others, "{} is selected as a stable pod", pod.name_any());
    }
    let scaled = context.pods(scale).await?;
    ensure!(scaled.len() as u64 == rollout::REPLICAS, "status.selector {scale} selects {} pods", scaled.len());
    println!("  {} pods of the candidate's own, which Service, budget, policy and scale do not select", pods.len());
    Ok(())
}

fn selects(labels: &Value, pod: &Pod) -> Result<bool> {
    let wanted = labels.as_object().with_context(|| format!("no labels in {labels}"))?;
    Ok(wanted.iter().all(|(name, value)| pod.labels().get(name).is_some_and(|found| value == found)))
}

/// Nobody reaches the candidate but by the table: not on its own port, and not by the stable pods' word for it.
async fn only_forwarded(context: &Context, stable: &str, candidate: &str) -> Result<()> {
    let pods = context.pods(CANDIDATE_PODS).await?;
    let address = pods.first().and_then(|pod| pod.status.as_ref()?.pod_ip.clone()).context("no address")?;
    let authorization = format!("authorization: Bearer {APP_OPENAI}");
    let direct = format!("http://{address}:{FORWARD}/openai/v1/chat/completions");
    for word in ["x-other: 1", "x-bf-rollout: 0000000000"] {
        let answer = curl::post(context, &direct, &[&authorization, word], &gateway::chat("anybody")).await?;
        ensure!(answer.status == 421, "{} with {word}: {}", answer.status, answer.body);
        println!("  on the candidate's own port with {word:?}: 421 {}", answer.body.trim());
    }
    let (url, word) = (gateway::url(context), format!("x-bf-rollout: {candidate}"));
    let mut asked = 0;
    // The first user of the stable revision says it.
    loop {
        let user = format!("other-{asked}");
        if rollout::answers(context, &url, &user).await? == stable {
            let url = format!("{url}/openai/v1/chat/completions");
            let answer = curl::post(context, &url, &[&authorization, &word], &gateway::chat(&user)).await?;
            let revision = answer.header("x-bf-revision");
            ensure!(answer.status == 200 && revision == stable, "{} by {revision}", answer.status);
            return Ok(());
        }
        asked += 1;
        ensure!(asked < 100, "no user of the stable revision");
    }
}

/// Everything to the candidate, then the Deployment to its image, then nothing of its own is left.
async fn promoted(context: &Context, control: &Control, stable: &str, candidate: &str) -> Result<()> {
    streams::all_open(control, TWENTY).await?;
    let asked = Instant::now();
    rollout::ask(context, &format!("promote/1@{candidate}")).await?;
    rollout::everywhere(context, candidate).await?;
    println!("  {SHARE} → 100 confirmed after {:.2} s", asked.elapsed().as_secs_f64());
    // Logs go with their pods.
    context.stage.leaks.search_logs(context, &context.namespace).await?;
    let seen = rollout::settled(context, candidate).await?;
    let settled = asked.elapsed();
    let image =
        objects::get(context, "deployment/ai").await?["spec"]["template"]["spec"]["containers"][0]["image"].clone();
    ensure!(seen["status"]["rollout"]["stableImage"] == image, "the Deployment has {image}");
    rollout::candidate_gone(context).await?;
    println!(
        "  {stable} replaced {:.1} s after the promotion, the candidate's objects gone after {:.1} s",
        settled.as_secs_f64(),
        asked.elapsed().as_secs_f64()
    );
    rollout::only(context, candidate).await?;
    streams::end(control, TWENTY).await?;
    streams::end(control, FIFTY).await
}
