//! What lies between the stable pods and a candidate's own. The candidate is ready and not reached yet: it gets nobody. Later it hangs,
//! while its node takes connections and bytes for it: requests are taken back, nobody sees a failure, and it goes back by itself.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures::FutureExt;
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
    "rollout-unreachable",
    "An image candidate that is not reached gets no share; one that is frozen loses no request: taken back after 5 s, sent back",
    |context| run(context).boxed(),
)
.embedded_only();

const SHARE: u64 = 50;
/// How long a request may take that begins while the pod is frozen: 5 s, and what a slow machine adds.
const TAKEN_BACK: f64 = 10.0;
/// How long nothing is sent to a candidate that is not reached.
const UNREACHED: Duration = Duration::from_secs(3);
/// A pod may take this long to end, by the drain below and what the operator adds; until then, what it had begun with waits.
const ENDS: f64 = 21.0;

async fn run(context: &Context) -> Result<()> {
    let next = rollout::next_image(context).await?;
    let mut plan = rollout::canary(json!([{"percent": SHARE, "hold": "1h"}, {"percent": 100}]));
    plan["analysis"] = json!({"minRequests": 40});
    let drain = json!({"readinessDelay": "1s", "timeout": "5s"});
    let stable = rollout::create_with_drain(context, Value::Null, plan, drain).await?;
    let (candidate, _) = load::during(context, &["--concurrency", "8"], reached(context, &next, &stable)).await?;
    rollout::share(context, &stable, &candidate, SHARE as u32).await?;
    let story = async {
        let frozen = Instant::now();
        freeze(context).await?;
        let asked = load::send(context, &["--requests", "200", "--concurrency", "40"]);
        let (asked, back) =
            tokio::join!(asked, rollout::sent_back(context, "a pod that hangs", frozen, "AnalysisFailed"));
        let (asked, _) = (asked?, back?);
        asked.all_served()?;
        println!(
            "  frozen: {} requests, {} by the stable revision, none failed, the longest took {:.1} s",
            asked.requests,
            asked.of_revision(&stable),
            asked.longest_wait
        );
        ensure!(asked.of_revision(&stable) == asked.requests, "{:?}", asked.revisions);
        ensure!(asked.longest_wait <= TAKEN_BACK, "a request took {:.1} s", asked.longest_wait);
        rollout::only_at(context, &gateway::url(context), &stable).await?;
        context.wait_for_pods(CANDIDATE_PODS, 0, rollout::LIMIT).await
    };
    // Those that the pod had begun with wait for its end.
    let (_, load) = load::amid(context, &["--concurrency", "8"], story).await?;
    load.all_served()?;
    println!("  of the {} requests meanwhile none failed, the longest took {:.1} s", load.requests, load.longest_wait);
    ensure!(load.longest_wait <= TAKEN_BACK + TAKEN_BACK + ENDS, "a request took {:.1} s", load.longest_wait);
    Ok(())
}

/// The candidate's pods are ready before kube-proxy leads to them; its share comes when it does. Returns its name.
async fn reached(context: &Context, next: &Image, stable: &str) -> Result<String> {
    let proxy = context.embedded()?.freeze_proxy()?;
    objects::merge(context, OBJECT, &rollout::image(&next.reference)?).await?;
    wait::wait_until("a candidate that is ready and not reached", rollout::LIMIT, || async {
        let seen = rollout::seen(context).await?;
        let rollout = &seen["status"]["rollout"];
        let waits = rollout["message"].as_str().is_some_and(|message| message.contains("to reach its pods"));
        ensure!(rollout["candidateReadyReplicas"] == 1 && waits, "{rollout}");
        Ok(true)
    })
    .await?;
    rollout::stays(context, 0, UNREACHED).await?;
    rollout::only_at(context, &gateway::url(context), stable).await?;
    let thawed = Instant::now();
    drop(proxy);
    let seen = rollout::reach(context, SHARE).await?;
    println!(
        "  ready and not reached: 0 %; {SHARE} % {:.1} s after kube-proxy went on",
        thawed.elapsed().as_secs_f64()
    );
    rollout::all_forwarded(context).await?;
    rollout::revision(&seen, "candidateRevision")
}

/// Freezes the candidate's pods.
async fn freeze(context: &Context) -> Result<()> {
    let pods = context.pods(CANDIDATE_PODS).await?;
    ensure!(!pods.is_empty(), "the candidate has no pods");
    for pod in &pods {
        gateway::signal(context, pod, "SIGSTOP").await?;
    }
    Ok(())
}
