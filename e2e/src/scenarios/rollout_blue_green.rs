//! A changed configuration that only the preview serves until somebody promotes it, is watched, and may be sent back until the watch
//! is over.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures::FutureExt;
use serde_json::{Value, json};

use super::{curl, gateway, load, rollout};
use crate::scenarios::{Context, Scenario};

/// The scenario.
pub(super) const SCENARIO: Scenario = Scenario::new(
    "rollout-blue-green",
    "A new configuration on the preview alone, then everywhere within 2 s, watched, taken back; streams uncut",
    |context| run(context).boxed(),
)
.embedded_only();

const SWITCH: Duration = Duration::from_secs(2);
/// Long enough to be asked for something in it.
const WATCH: Duration = Duration::from_secs(8);
const LOOKS: u32 = 10;

async fn run(context: &Context) -> Result<()> {
    let blue_green = json!({"strategy": "BlueGreen", "blueGreen": {"preview": {"pause": true}, "watch": "8s"}});
    let first = rollout::create(context, Value::Null, blue_green).await?;
    let pods = rollout::stable_pods(context).await?;
    let streams = ["--stream", "--concurrency", "4"];
    let (second, _) = load::during(context, &streams, promoted(context, &first)).await?;
    no_preview(context).await?;
    load::during(context, &streams, taken_back(context, &second)).await?;
    ensure!(rollout::stable_pods(context).await? == pods, "pods were replaced or restarted");
    Ok(())
}

/// On the preview, everywhere, and stable when the watch is over.
async fn promoted(context: &Context, stable: &str) -> Result<String> {
    let (candidate, took) = rollout::begin(context, &rollout::body_limit("90Mi"), 0).await?;
    println!("  {candidate} on the preview, confirmed after {:.2} s", took.as_secs_f64());
    rollout::phase(context, "Paused").await?;
    doors(context, stable, &candidate).await?;
    rollout::stays(context, 0, Duration::from_secs(2)).await?;

    let watched = switched(context, "promote/1").await?;
    let seen = rollout::seen(context).await?;
    ensure!(rollout::revision(&seen, "stableRevision")? == stable, "stable before the watch was over");
    rollout::only(context, &candidate).await?;
    rollout::settled(context, &candidate).await?;
    ensure!(watched.elapsed() + SWITCH > WATCH, "the watch was cut to {:?}", watched.elapsed());
    println!("  stable {:.1} s after the switch, with a watch of 8 s", watched.elapsed().as_secs_f64());
    gateway::wait_event(context, "Promoted", &candidate).await?;
    rollout::only(context, &candidate).await?;
    Ok(candidate)
}

/// The Service gives one revision and the preview the other, to everybody.
async fn doors(context: &Context, stable: &str, candidate: &str) -> Result<()> {
    for number in 0..LOOKS {
        let user = format!("user-{number}");
        for (url, wanted) in [(gateway::url(context), stable), (rollout::preview_url(context), candidate)] {
            let revision = rollout::answers(context, &url, &user).await?;
            ensure!(revision == wanted, "{revision} instead of {wanted} at {url}");
        }
    }
    println!("  the Service gives {stable}, the preview {candidate}");
    Ok(())
}

/// Asks for the switch, and returns when every replica had confirmed it.
async fn switched(context: &Context, request: &str) -> Result<Instant> {
    let asked = Instant::now();
    rollout::ask(context, request).await?;
    rollout::reach(context, 100).await?;
    println!("  {request}: everywhere, confirmed after {:.2} s", asked.elapsed().as_secs_f64());
    ensure!(asked.elapsed() <= SWITCH, "the switch took {:?}", asked.elapsed());
    Ok(Instant::now())
}

/// Without a candidate there is nothing to look at.
async fn no_preview(context: &Context) -> Result<()> {
    let answer = curl::chat(context, &rollout::preview_url(context), &gateway::chat("anybody"), true).await?;
    ensure!(answer.status == 503 && answer.body.contains("no_preview"), "{} {}", answer.status, answer.body);
    println!("  the preview without a candidate: 503 {}", answer.body.trim());
    Ok(())
}

/// Until the watch is over, one request takes everything back.
async fn taken_back(context: &Context, stable: &str) -> Result<()> {
    let (candidate, _) = rollout::begin(context, &rollout::body_limit("80Mi"), 0).await?;
    rollout::phase(context, "Paused").await?;
    switched(context, "promote/2").await?;
    let asked = Instant::now();
    rollout::ask(context, "abort/3").await?;
    let back = rollout::phase(context, "RolledBack").await?;
    println!("  abort in the watch: confirmed after {:.2} s", asked.elapsed().as_secs_f64());
    ensure!(asked.elapsed() <= SWITCH, "the way back took {:?}", asked.elapsed());
    let rollout = &back["status"]["rollout"];
    ensure!(rollout["stableRevision"] == stable && rollout["candidateRevision"] == candidate, "{rollout}");
    rollout::only(context, stable).await
}
