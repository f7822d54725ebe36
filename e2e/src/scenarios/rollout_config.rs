//! A changed configuration takes over step by step, under streams that outlast it: shares, holds, pauses, the way back and the way on.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bifrost_fake_provider::Control;
use futures::FutureExt;
use serde_json::json;

use super::{
    curl, gateway, load, rollout,
    streams::{self, FIFTY, LONG, TWENTY},
};
use crate::{
    deploy::Vendors,
    scenarios::{Context, Scenario},
};

/// The scenario.
pub(super) const SCENARIO: Scenario = Scenario::new(
    "rollout-config",
    "A new configuration at 10 → 50 → 100 % under 50 open streams: shares, stickiness, pause, abort, retry; nothing is cut",
    |context| run(context).boxed(),
)
.embedded_only();

/// Longer than it takes to count the share.
const HOLD: Duration = Duration::from_secs(20);
/// How long it may take from a request until every replica has confirmed the way back.
const BACK: Duration = Duration::from_secs(10);
/// Smaller than [`LARGE`], and the configuration before has another.
const LIMIT: &str = "64Ki";
/// Bytes of a message that the new configuration does not take.
const LARGE: usize = 100 * 1024;

async fn run(context: &Context) -> Result<()> {
    let steps = json!([{"percent": 10, "hold": "20s"}, {"percent": 50, "pause": true}, {"percent": 100, "hold": "4s"}]);
    let half = json!({"strategy": "Canary", "canaryPercent": 50});
    let stable = rollout::create(context, half, rollout::canary(steps)).await?;
    let (_port, control) = Vendors::control(&context.target).await?;
    control.reset_all().await?;
    let pods = rollout::stable_pods(context).await?;
    let story = async {
        streams::all_open(&control, FIFTY).await?;
        story(context, &control, &stable).await
    };
    let work = async { tokio::try_join!(streams::run(context, FIFTY, LONG), story) };
    let ((streams, candidate), load) = load::during(context, &[], work).await?;
    ensure!(streams.of_revision(&stable) == streams.requests, "{:?} instead of {stable}", streams.revisions);
    ensure!(load.of_revision(&stable) > 0 && load.of_revision(&candidate) > 0, "{:?}", load.revisions);
    ensure!(load.of_revision(&stable) + load.of_revision(&candidate) == load.requests, "{:?}", load.revisions);
    ensure!(rollout::stable_pods(context).await? == pods, "pods were replaced or restarted");
    Ok(())
}

/// From the change to the end of the rollout; returns the new revision.
async fn story(context: &Context, control: &Control, stable: &str) -> Result<String> {
    // Before the change: nobody here knows better when the hold began, and this is never too late.
    let began = Instant::now();
    let (candidate, took) = rollout::begin(context, &rollout::body_limit(LIMIT), 10).await?;
    println!("  {stable} → {candidate}: 10 % confirmed after {:.2} s", took.as_secs_f64());
    ensure!(candidate != stable, "the change is no revision");
    let first = rollout::share(context, stable, &candidate, 10).await?;
    rollout::reach(context, 50).await?;
    ensure!(began.elapsed() >= HOLD, "the hold was cut to {:?}", began.elapsed());
    println!("  10 → 50 after {:.1} s with a hold of 20 s", began.elapsed().as_secs_f64());

    let second = rollout::share(context, stable, &candidate, 50).await?;
    ensure!(first.is_subset(&second), "users went back: {:?}", first.difference(&second));
    rollout::phase(context, "Paused").await?;
    gateway::wait_event(context, "StepPaused", "rollout").await?;
    rollout::stays(context, 50, Duration::from_secs(2)).await?;
    ensure!(rollout::share(context, stable, &candidate, 50).await? == second, "users changed their revision");
    limits(context, second.first().context("the candidate has no user")?).await?;

    let onwards = async {
        streams::all_open(control, TWENTY).await?;
        back_and_again(context, stable, &candidate).await?;
        streams::end(control, TWENTY).await
    };
    let (streams, ()) = tokio::try_join!(streams::run(context, TWENTY, LONG), onwards)?;
    ensure!(streams.of_revision(&candidate) > 0, "no stream was the candidate's: {:?}", streams.revisions);

    rollout::ask(context, &format!("promote/5@{candidate}")).await?;
    rollout::everywhere(context, &candidate).await?;
    let seen = rollout::settled(context, &candidate).await?;
    ensure!(seen["status"]["rollout"]["rollback"].is_null(), "{}", seen["status"]["rollout"]);
    gateway::wait_event(context, "Promoted", &candidate).await?;
    rollout::only(context, &candidate).await?;
    println!("  {candidate} is stable after {:.1} s", began.elapsed().as_secs_f64());
    streams::end(control, FIFTY).await?;
    Ok(candidate)
}

/// A body that one configuration takes and the other does not.
async fn limits(context: &Context, of_candidate: &str) -> Result<()> {
    let large = |user: &str| {
        let content = "x".repeat(LARGE);
        json!({"model": "gpt-4o-mini", "user": user, "messages": [{"role": "user", "content": content}]}).to_string()
    };
    let url = gateway::url(context);
    let answer = curl::chat(context, &url, &large(of_candidate), true).await?;
    ensure!(answer.status == 413, "{} for a user of the candidate", answer.status);
    let mut others = (0..).map(|number| format!("other-{number}"));
    let status = loop {
        let user = others.next().context("no user is left")?;
        let answer = curl::chat(context, &url, &large(&user), true).await?;
        if answer.status != 413 {
            break answer.status;
        }
    };
    ensure!(status == 200, "{status} for a user of the stable revision");
    println!("  {LARGE} bytes: 413 for the candidate's users, 200 for the others");
    Ok(())
}

/// Back to nothing, which everybody confirms, and up again from the first step.
async fn back_and_again(context: &Context, stable: &str, candidate: &str) -> Result<()> {
    rollout::ask(context, "promote/1@0000000000").await?;
    gateway::wait_event(context, "RequestRefused", "revision 0000000000").await?;
    let asked = Instant::now();
    rollout::ask(context, "abort/2").await?;
    let back = rollout::phase(context, "RolledBack").await?;
    println!("  abort: 50 → 0 confirmed after {:.2} s", asked.elapsed().as_secs_f64());
    ensure!(asked.elapsed() <= BACK, "the way back took {:?}", asked.elapsed());
    let rollback = &back["status"]["rollout"]["rollback"];
    ensure!(rollback["reason"] == "Aborted", "{rollback}");
    rollout::stays(context, 0, Duration::from_secs(1)).await?;
    rollout::only(context, stable).await?;
    ensure!(gateway::notes(context, "CandidateFailed").await?.is_empty(), "an abort is no failure");
    rollout::ask(context, "retry/3").await?;
    rollout::reach(context, 10).await?;
    // Its hold is not waited for.
    rollout::ask(context, "promote/4").await?;
    let again = rollout::reach(context, 50).await?;
    ensure!(rollout::revision(&again, "candidateRevision")? == candidate, "{}", again["status"]["rollout"]);
    Ok(())
}
