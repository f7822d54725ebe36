//! What scenarios about rollouts have in common: beginning one, asking for something, looking where it is and whom it serves.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::{
    curl,
    gateway::{self, NAME, OBJECT},
    load, migration, objects, operator,
};
use crate::{
    images::{Binary, Image, build_binaries, build_release_image},
    scenarios::Context,
    wait,
};

/// How many stable pods a gateway has here.
pub(super) const REPLICAS: u64 = 2;
/// How long a step may take to come.
pub(super) const LIMIT: Duration = Duration::from_secs(60);
/// The label that the stable pods carry and the candidate's do not.
pub(super) const STABLE_PODS: &str = "app.kubernetes.io/name=bifrost-gateway";
/// The label of the candidate's own pods.
pub(super) const CANDIDATE_PODS: &str = "app.kubernetes.io/name=bifrost-gateway-candidate";
/// Of an image candidate's own objects.
pub(super) const CANDIDATE_OBJECTS: [&str; 3] =
    ["deployment/ai-bifrost-candidate", "service/ai-bifrost-candidate", CANDIDATE_POLICY];
const CANDIDATE_POLICY: &str = "networkpolicy/ai-bifrost-candidate";
/// How long it may take from the counts that decide, the deadline or the crash until every replica has confirmed the way back.
const BACK: Duration = Duration::from_secs(10);
/// How long the operator may take to do what is asked for: more of an image waits for its pods.
const HANDLED: Duration = LIMIT;
/// The annotation.
pub(super) const REQUEST: &str = "bifrost.dev/rollout-request";
/// Users of a short look.
const FEW: u32 = 12;
/// Users of one look at the shares.
const USERS: u32 = 800;

/// A gateway whose revisions take over like this, ready to serve; returns its first revision.
pub(super) async fn create(context: &Context, migration: Value, rollout: Value) -> Result<String> {
    // The drain's defaults: streams of pods that are replaced may run for minutes.
    create_with_drain(context, migration, rollout, json!({})).await
}

/// As [`create`], with pods that end like this.
pub(super) async fn create_with_drain(
    context: &Context,
    migration: Value,
    rollout: Value,
    drain: Value,
) -> Result<String> {
    let mut manifest = gateway::manifest(REPLICAS as u32, migration, Vec::new());
    manifest["spec"]["rollout"] = rollout;
    manifest["spec"]["drain"] = drain;
    gateway::create_from(context, manifest).await?;
    let seen = wait::wait_for("the first revision", LIMIT, || async {
        let seen = seen(context).await?;
        Ok(seen["status"]["rollout"]["stableRevision"].is_string().then_some(seen))
    })
    .await?;
    revision(&seen, "stableRevision")
}

/// Steps of a canary.
pub(super) fn canary(steps: Value) -> Value {
    json!({"strategy": "Canary", "canary": {"steps": steps}})
}

/// A change of the configuration that small requests do not notice.
pub(super) fn body_limit(size: &str) -> Value {
    json!({"spec": {"config": {"client": {"maxRequestBody": size}}}})
}

/// The gateway as it is.
pub(super) async fn seen(context: &Context) -> Result<Value> {
    objects::get(context, OBJECT).await
}

/// A revision that the status names.
pub(super) fn revision(seen: &Value, member: &str) -> Result<String> {
    let rollout = &seen["status"]["rollout"];
    Ok(rollout[member].as_str().with_context(|| format!("no {member} in {rollout}"))?.to_owned())
}

/// Changes the spec, waits until every replica gives the candidate this percent, and returns its name and how long that took.
pub(super) async fn begin(context: &Context, patch: &Value, percent: u64) -> Result<(String, Duration)> {
    let began = Instant::now();
    let generation = objects::merge(context, OBJECT, patch).await?["metadata"]["generation"].clone();
    let seen = wait::wait_for(&format!("{percent} % of a new candidate"), LIMIT, || async {
        let seen = seen(context).await?;
        ensure!(seen["status"]["observedGeneration"] == generation && has(&seen, percent), "{}", seen["status"]);
        Ok(Some(seen))
    })
    .await?;
    Ok((revision(&seen, "candidateRevision")?, began.elapsed()))
}

/// Asks for something, and waits until that was handled or refused.
pub(super) async fn ask(context: &Context, request: &str) -> Result<Value> {
    objects::merge(context, OBJECT, &json!({"metadata": {"annotations": {REQUEST: request}}})).await?;
    wait::wait_for(&format!("{request} to be handled"), HANDLED, || async {
        let seen = seen(context).await?;
        ensure!(seen["status"]["rollout"]["handledRequest"] == request, "{}", seen["status"]["rollout"]);
        Ok(Some(seen))
    })
    .await
}

/// Waits until every replica gives the candidate this percent, and returns the gateway.
pub(super) async fn reach(context: &Context, percent: u64) -> Result<Value> {
    wait::wait_for(&format!("{percent} % of the candidate"), LIMIT, || async {
        let seen = seen(context).await?;
        ensure!(has(&seen, percent), "{}", seen["status"]);
        Ok(Some(seen))
    })
    .await
}

/// As [`reach`] of 100 %, or later: the last hold may be over, and then the candidate is the stable revision.
pub(super) async fn everywhere(context: &Context, candidate: &str) -> Result<()> {
    wait::wait_until(&format!("{candidate} everywhere"), LIMIT, || async {
        let seen = seen(context).await?;
        let is_stable = seen["status"]["rollout"]["stableRevision"] == candidate;
        ensure!(is_stable || has(&seen, 100), "{}", seen["status"]);
        Ok(true)
    })
    .await
}

/// Waits until the rollout is in a phase, with all replicas at what was published.
pub(super) async fn phase(context: &Context, phase: &str) -> Result<Value> {
    wait::wait_for(&format!("the phase {phase}"), LIMIT, || async {
        let seen = seen(context).await?;
        ensure!(seen["status"]["rollout"]["phase"] == phase && confirmed(&seen), "{}", seen["status"]);
        Ok(Some(seen))
    })
    .await
}

/// Waits until every replica has confirmed the rollback for this reason, and checks what is told of it. `broken`: when what decides was
/// there at the earliest.
pub(super) async fn sent_back(context: &Context, what: &str, broken: Instant, reason: &str) -> Result<Value> {
    let back = phase(context, "RolledBack").await?;
    let confirmed = Instant::now();
    let rollback = &back["status"]["rollout"]["rollback"];
    ensure!(rollback["reason"] == reason, "{rollback}");
    let since = if reason == "AnalysisFailed" { migration::counted(rollback, broken)? } else { broken };
    let took = confirmed.saturating_duration_since(since);
    println!(
        "  {what}: 0 % confirmed by {REPLICAS} replicas after {:.1} s, at most {:.1} s after what decides was there",
        confirmed.saturating_duration_since(broken).as_secs_f64(),
        took.as_secs_f64()
    );
    println!("    {}", rollback["message"].as_str().unwrap_or_default());
    ensure!(took <= BACK, "the way back took {took:?}");
    let degraded = gateway::condition(&back["status"], "Degraded").context("no condition Degraded")?;
    ensure!(degraded["status"] == "True", "{degraded}");
    let candidate = revision(&back, "candidateRevision")?;
    println!("    {}", gateway::wait_event(context, "CandidateFailed", &candidate).await?);
    for (name, wanted) in [("rollout_rolled_back", 1.0), ("rollout_percent", 0.0)] {
        let shown = operator::metric_of_gateway(context, name).await?;
        ensure!(shown == Some(wanted), "{name} is {shown:?} instead of {wanted}");
    }
    stays(context, 0, Duration::from_secs(2)).await?;
    Ok(back)
}

/// Waits until this revision is the stable one and there is no other, and returns the gateway.
pub(super) async fn settled(context: &Context, stable: &str) -> Result<Value> {
    wait::wait_for(&format!("{stable} to be the only revision"), LIMIT, || async {
        let seen = seen(context).await?;
        let rollout = &seen["status"]["rollout"];
        let alone = rollout["stableRevision"] == stable && rollout["candidateRevision"].is_null();
        ensure!(alone && rollout["phase"] == "Completed" && confirmed(&seen), "{}", seen["status"]);
        let table = table(context).await?.context("no ConfigMap")?;
        ensure!(table.is_null(), "{table} is published");
        Ok(Some(seen))
    })
    .await
}

/// Looks for a while, and fails if the candidate's percent is ever another.
pub(super) async fn stays(context: &Context, percent: u64, time: Duration) -> Result<()> {
    let until = tokio::time::Instant::now() + time;
    while tokio::time::Instant::now() < until {
        let table = table(context).await?;
        let found = table.as_ref().map(|table| table["percent"].as_u64().unwrap_or(0));
        ensure!(found.is_none_or(|found| found == percent), "{table:?} instead of {percent} %");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// The rollout that is published, null if there is none; `None` while the ConfigMap is gone.
pub(super) async fn table(context: &Context) -> Result<Option<Value>> {
    let map = objects::find(context, "configmap/ai-bifrost").await?;
    let text = map.as_ref().and_then(|map| map["data"]["traffic.json"].as_str());
    text.map(|text| Ok(serde_json::from_str::<Value>(text)?["rollout"].clone())).transpose()
}

fn has(seen: &Value, percent: u64) -> bool {
    let rollout = &seen["status"]["rollout"];
    rollout["candidateRevision"].is_string() && rollout["percent"] == percent && confirmed(seen)
}

fn confirmed(seen: &Value) -> bool {
    let status = &seen["status"];
    let programmed = gateway::condition(status, "Programmed").is_some_and(|one| one["status"] == "True");
    programmed && status["traffic"]["confirmedReplicas"] == REPLICAS
}

/// Asks as so many users, and returns those whom the candidate answers. Fails if that is not the share it should be, or if anybody
/// is answered by a third revision.
pub(super) async fn share(context: &Context, stable: &str, candidate: &str, percent: u32) -> Result<BTreeSet<String>> {
    let count = USERS.to_string();
    let load =
        load::send(context, &["--requests", &count, "--concurrency", "8", "--users", "fixed", "--name-users"]).await?;
    load.all_served()?;
    let (of_stable, of_candidate) = (load.of_revision(stable), load.of_revision(candidate));
    ensure!(of_stable + of_candidate == load.requests, "{:?} instead of {stable} and {candidate}", load.revisions);
    let (wanted, found) = (f64::from(percent) / 100.0, of_candidate as f64 / load.requests as f64);
    // Which users are the candidate's is another lot for each image. So many standard deviations are missed once in ten million looks;
    // none at 0 and 100 %, where it is exact.
    let tolerance = 5.5 * (wanted * (1.0 - wanted) / f64::from(USERS)).sqrt();
    println!("  {percent} %: {:.1} % of {USERS} users are answered by the candidate", 100.0 * found);
    ensure!((found - wanted).abs() <= tolerance, "{of_candidate} of {USERS} users");
    Ok(load.users.into_iter().filter(|(_, revision)| revision == candidate).map(|(user, _)| user).collect())
}

/// Fails unless every one of some requests is answered by this revision.
pub(super) async fn only(context: &Context, revision: &str) -> Result<()> {
    let load = load::send(context, &["--requests", "100", "--concurrency", "8"]).await?;
    load.all_served()?;
    ensure!(load.of_revision(revision) == load.requests, "{:?} instead of {revision}", load.revisions);
    Ok(())
}

/// As [`only`], of a few users at an address.
pub(super) async fn only_at(context: &Context, base: &str, revision: &str) -> Result<()> {
    for number in 0..FEW {
        let found = answers(context, base, &format!("few-{number}")).await?;
        ensure!(found == revision, "{found} instead of {revision} at {base}");
    }
    Ok(())
}

/// The revision that answers a user at an address.
pub(super) async fn answers(context: &Context, base: &str, user: &str) -> Result<String> {
    let answer = curl::chat(context, base, &gateway::chat(user), true).await?;
    ensure!(answer.status == 200, "{} {}", answer.status, answer.body);
    Ok(answer.header("x-bf-revision").to_owned())
}

/// Name, UID and restarts of each stable pod.
pub(super) async fn stable_pods(context: &Context) -> Result<Vec<(String, String, i32)>> {
    let pods = context.pods(&format!("{STABLE_PODS},{}", gateway::selector())).await?;
    let seen = pods.into_iter().map(|pod| {
        let statuses = pod.status.and_then(|status| status.container_statuses).unwrap_or_default();
        let restarts = statuses.iter().map(|one| one.restart_count).sum();
        (pod.metadata.name.unwrap_or_default(), pod.metadata.uid.unwrap_or_default(), restarts)
    });
    Ok(seen.collect())
}

/// Makes another image of the gateway known to the cluster.
pub(super) async fn next_image(context: &Context) -> Result<Image> {
    release(context, "next").await
}

/// As [`next_image`], one for each name.
pub(super) async fn release(context: &Context, name: &str) -> Result<Image> {
    let image = build_release_image(Binary::GATEWAY, build_binaries().await?.gateway, name)?;
    context.target.load_image(&image).await?;
    Ok(image)
}

/// A change of the gateway's image.
pub(super) fn image(reference: &str) -> Result<Value> {
    let (repository, tag) = reference.rsplit_once(':').context("an image without a tag")?;
    Ok(json!({"spec": {"image": {"repository": repository, "tag": tag}}}))
}

/// Waits until nothing of a candidate's own is left but pods that are on their way out, and the policy that guards them.
pub(super) async fn candidate_gone(context: &Context) -> Result<()> {
    wait::wait_until("the candidate's objects to go", LIMIT, || async {
        let pods = context.pods(CANDIDATE_PODS).await?;
        let serving = pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).count();
        ensure!(serving == 0, "{serving} pods are there");
        for object in CANDIDATE_OBJECTS {
            let may_stay = object == CANDIDATE_POLICY && !pods.is_empty();
            ensure!(may_stay || objects::find(context, object).await?.is_none(), "{object} is there");
        }
        Ok(true)
    })
    .await
}

/// Fails if a stable pod could not forward a request: what it was to answer counts as the candidate's failure.
pub(super) async fn all_forwarded(context: &Context) -> Result<()> {
    let logs = context.logs(&format!("{STABLE_PODS},{}", gateway::selector())).await?;
    let complaint = logs.lines().find(|line| line.contains("could not be forwarded"));
    ensure!(complaint.is_none(), "a stable pod complains: {}", complaint.unwrap_or_default());
    Ok(())
}

/// The address of the preview inside the cluster.
pub(super) fn preview_url(context: &Context) -> String {
    format!("http://{NAME}-bifrost-preview.{}.svc.cluster.local:8081", context.namespace)
}
