//! Image and configuration change in one update, and change again on the way: what is answered under a candidate's name is served by its
//! own pods under its own configuration, whichever other pods are there.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bifrost_fake_provider::{Control, Match, RecordQuery, Rule, Script};
use futures::FutureExt;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::{
    gateway::{self, OBJECT},
    load, objects,
    rollout::{self, CANDIDATE_PODS},
};
use crate::{
    deploy::Vendors,
    images::Image,
    scenarios::{Context, Scenario},
    wait,
};

/// The scenario.
pub(super) const SCENARIO: Scenario = Scenario::new(
    "rollout-releases",
    "Image and configuration at once, A → B → C in mid-rollout, back to A in 2 s, C to the end: no mix, nothing fails",
    |context| run(context).boxed(),
)
.embedded_only();

/// How long it may take until every replica serves the stable revision again.
const BACK: Duration = Duration::from_secs(2);
/// How long a check may take until it has seen enough.
const JUDGED: Duration = Duration::from_secs(60);
const SHARE: u64 = 50;
/// Users of one look at who serves.
const USERS: &str = "200";
/// The look after the candidate has become the stable revision.
const LAST: u32 = 3;
/// Nothing else asks for it.
const MODEL: &str = "gpt-4.1";
/// Label of a candidate's own pods.
const REVISION: &str = "bifrost.dev/revision";

/// A release: an image, and a path at the vendor by which a configuration of its own is known.
struct Release {
    image: Image,
    path: &'static str,
}

async fn run(context: &Context) -> Result<()> {
    let second = Release { image: rollout::release(context, "second").await?, path: "/second" };
    let third = Release { image: rollout::release(context, "third").await?, path: "/third" };
    // Twenty requests in a row that cannot be forwarded would send a candidate back.
    let mut plan = rollout::canary(json!([{"percent": SHARE, "hold": "1h"}, {"percent": 100}]));
    let overhead = json!({"name": "overhead", "type": "GatewayOverhead", "max": "1s", "action": "Warn"});
    plan["analysis"] =
        json!({"minRequests": 40, "checks": [{"name": "errors", "type": "ErrorRate", "maxIncrease": "2%"}, overhead]});
    let first = rollout::create(context, Value::Null, plan).await?;
    let (_port, control) = Vendors::control(&context.target).await?;
    for release in [&second, &third] {
        answered_below(&control, release.path).await?;
    }
    let story = story(context, &control, &first, &second, &third);
    let ((b, c), load) = load::during(context, &[], story).await?;
    let known: u64 = [&first, &b, &c].map(|revision| load.of_revision(revision)).iter().sum();
    ensure!(known == load.requests, "{:?} instead of {first}, {b} and {c}", load.revisions);
    Ok(())
}

/// The vendor answers below this path too.
async fn answered_below(control: &Control, path: &str) -> Result<()> {
    let matches = Match { path: Some(format!("{path}/*")), ..Match::default() };
    let message = json!({"role": "assistant", "content": "hello"});
    let body = json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-4o-mini",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    });
    let script = Script { status: Some(200), body: Some(body), ..Script::default() };
    control.add_rule(&Rule { name: None, matches, times: None, used: 0, script }).await?;
    Ok(())
}

/// Returns the names of the second and the third revision.
async fn story(
    context: &Context,
    control: &Control,
    first: &str,
    second: &Release,
    third: &Release,
) -> Result<(String, String)> {
    let spec = rollout::seen(context).await?["spec"].clone();
    let providers = &spec["config"]["providers"];
    let pods = rollout::stable_pods(context).await?;

    let (b, took) = rollout::begin(context, &update(second, providers)?, SHARE).await?;
    println!("  {first} → {b}: {SHARE} % after {:.1} s", took.as_secs_f64());
    only_its_own(context, control, 0, [(first, "/v1"), (&b, second.path)]).await?;

    let (c, took) = rollout::begin(context, &update(third, providers)?, SHARE).await?;
    println!("  {b} at {SHARE} % → {c}: {SHARE} % after {:.1} s", took.as_secs_f64());
    only_its_own(context, control, 1, [(first, "/v1"), (&c, third.path)]).await?;
    of_one_release(context, &c, third).await?;

    let back = json!({"spec": {"image": spec["image"], "config": {"providers": providers}}});
    let began = Instant::now();
    objects::merge(context, OBJECT, &back).await?;
    rollout::settled(context, first).await?;
    let confirmed = began.elapsed();
    rollout::candidate_gone(context).await?;
    println!(
        "  back to {first}: confirmed after {:.2} s, the candidate's objects gone after {:.1} s",
        confirmed.as_secs_f64(),
        began.elapsed().as_secs_f64()
    );
    ensure!(confirmed <= BACK, "the way back took {confirmed:?}");
    rollout::only_at(context, &gateway::url(context), first).await?;

    rollout::begin(context, &update(third, providers)?, SHARE).await?;
    only_its_own(context, control, 2, [(first, "/v1"), (&c, third.path)]).await?;
    ensure!(rollout::stable_pods(context).await? == pods, "stable pods were replaced or restarted");
    rollout::all_forwarded(context).await?;
    overhead_is_known(context).await?;

    let asked = Instant::now();
    rollout::ask(context, &format!("promote/1@{c}")).await?;
    let seen = rollout::settled(context, &c).await?;
    ensure!(seen["status"]["rollout"]["stableImage"] == third.image.reference, "{}", seen["status"]["rollout"]);
    rollout::candidate_gone(context).await?;
    println!("  {c} is stable {:.1} s after its promotion", asked.elapsed().as_secs_f64());
    only_its_own(context, control, LAST, [(first, "/v1"), (&c, third.path)]).await?;
    rollout::only_at(context, &gateway::url(context), &c).await?;
    Ok((b, c))
}

/// The candidate's own pods say how long requests were there.
async fn overhead_is_known(context: &Context) -> Result<()> {
    wait::wait_until("a Pass of the check of the overhead", JUDGED, || async {
        let seen = rollout::seen(context).await?;
        let checks = seen["status"]["rollout"]["analysis"]["checks"].as_array();
        let check = checks.into_iter().flatten().find(|check| check["name"] == "overhead");
        let passes = check.filter(|check| check["verdict"] == "Pass");
        if let Some(check) = passes {
            println!("  {}", check["message"].as_str().unwrap_or_default());
        }
        Ok(passes.is_some())
    })
    .await
}

/// Both changes in one.
fn update(release: &Release, providers: &Value) -> Result<Value> {
    let mut patch = rollout::image(&release.image.reference)?;
    let mut providers = providers.clone();
    providers[0]["baseURL"] = json!(format!("https://openai.vendors.svc{}", release.path));
    patch["spec"]["config"] = json!({"providers": providers});
    Ok(patch)
}

/// Asks as some users, and fails unless each was answered by one of these revisions, and reached the vendor at that revision's path.
async fn only_its_own(context: &Context, control: &Control, look: u32, revisions: [(&str, &str); 2]) -> Result<()> {
    let since = control.last_seq().await?;
    let first_user = (look * 1000).to_string();
    let users = ["--requests", USERS, "--concurrency", "8", "--users", "fixed", "--first-user", &first_user];
    let load = load::send(context, &[&users[..], &["--name-users", "--model", MODEL]].concat()).await?;
    load.all_served()?;
    let model = Some(MODEL.to_owned());
    let records = control.records(&RecordQuery { since, model, ..RecordQuery::default() }).await?;
    let mut counts = [0, 0];
    // In the last look the candidate has become the only one.
    let all = load.of_revision(revisions[1].0) == load.requests;
    ensure!(all == (look == LAST), "{:?} in look {look}", load.revisions);
    for (user, revision) in &load.users {
        let at = revisions.iter().position(|(name, _)| name == revision);
        let at = at.with_context(|| format!("{revision} answered {user}"))?;
        let mut paths = records.iter().filter(|one| one.user.as_ref() == Some(user)).map(|one| one.path.as_str());
        let path = paths.next().with_context(|| format!("the vendor has not seen {user}"))?;
        let wanted = revisions[at].1;
        ensure!(path.starts_with(wanted) && paths.next().is_none(), "{revision} sent {user} to {path}");
        counts[at] += 1;
    }
    ensure!(look == LAST || counts.iter().all(|count| *count > 0), "{counts:?} users by {revisions:?}");
    println!("    {counts:?} users by {revisions:?}, each at the vendor by that configuration alone");
    Ok(())
}

/// The pods of the candidate before are on their way out, and those that are not are of this release.
async fn of_one_release(context: &Context, revision: &str, release: &Release) -> Result<()> {
    let pods = context.pods(CANDIDATE_PODS).await?;
    let mut serving = pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).peekable();
    ensure!(serving.peek().is_some(), "the candidate has no pods");
    for pod in serving {
        let image = pod.spec.as_ref().and_then(|spec| spec.containers.first()?.image.as_deref());
        let is_its =
            image == Some(&release.image.reference) && pod.labels().get(REVISION).is_some_and(|of| of == revision);
        ensure!(is_its, "{} runs {image:?} for {:?}", pod.name_any(), pod.labels().get(REVISION));
    }
    Ok(())
}
