//! With two operators, the work goes on when the one that leads is gone, whether it could say so or not.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures::FutureExt;
use kube::api::DeleteParams;
use serde_json::json;

use super::{gateway, operator};
use crate::{
    scenarios::{Context, Scenario},
    wait,
};

/// The scenario.
pub(super) const SCENARIO: Scenario = Scenario::new(
    "operator-takeover",
    "When the leading operator is deleted or killed, another one confirms a new spec in 15 s",
    |context| run(context).boxed(),
)
.embedded_only();

const LIMIT: Duration = Duration::from_secs(15);

/// How a leader ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Its pod is deleted: it is asked to stop and releases the Lease.
    Deleted,
    /// It is killed with its pod, without a chance to release: the Lease must expire.
    Lost,
    /// It is killed, and its pod starts another, of the same identity.
    Killed,
    /// It is frozen, and goes on when another leads: it must notice.
    Frozen,
}

async fn run(context: &Context) -> Result<()> {
    gateway::create(context, 1, json!({"strategy": "Canary", "canaryPercent": 10})).await?;
    let outcome = with_two(context).await;
    operator::scale(context, 1).await?;
    outcome
}

async fn with_two(context: &Context) -> Result<()> {
    for (end, percent) in [(End::Deleted, 20), (End::Killed, 30), (End::Lost, 40), (End::Frozen, 50)] {
        // It searches the logs too, which go with a pod.
        operator::scale(context, 2).await?;
        takeover(context, end, percent).await.with_context(|| format!("the leader {end:?}"))?;
    }
    Ok(())
}

async fn takeover(context: &Context, end: End, percent: u32) -> Result<()> {
    let before = wait::wait_for("a leader", LIMIT, || operator::leader(context)).await?;
    let (container, _) = operator::container(&operator::pod_api(context).get(&before).await?)?;
    let began = Instant::now();
    end_leader(context, end, &before, &container).await?;
    let confirmed = async {
        gateway::set_percent(context, percent, 1).await?;
        anyhow::Ok(began.elapsed())
    };
    let taken = async {
        let holder = wait::wait_for("a new leader", LIMIT, || async {
            Ok(operator::leader(context).await?.filter(|holder| end == End::Killed || *holder != before))
        });
        anyhow::Ok((holder.await?, began.elapsed()))
    };
    let (confirmed, (holder, taken)) = tokio::try_join!(confirmed, taken)?;
    println!(
        "  leader {}: {} leads after {:.2} s, a spec of the same moment is confirmed after {:.2} s",
        end.describe(),
        if holder == before { "the same pod" } else { "the other pod" },
        taken.as_secs_f64(),
        confirmed.as_secs_f64()
    );
    ensure!(confirmed.max(taken) <= LIMIT, "the takeover took longer than {} s", LIMIT.as_secs());
    if end == End::Frozen {
        thawed(context, &container, &holder, percent + 1).await?;
    }
    Ok(())
}

async fn end_leader(context: &Context, end: End, leader: &str, container: &str) -> Result<()> {
    let (pods, cluster) = (operator::pod_api(context), context.embedded()?);
    match end {
        End::Deleted => drop(pods.delete(leader, &DeleteParams::default()).await?),
        End::Killed => cluster.kill_container(container).await?,
        End::Frozen => cluster.signal_container(container, "SIGSTOP").await?,
        End::Lost => {
            // Frozen first, so that it does not hear the request to stop that comes before the kill.
            cluster.signal_container(container, "SIGSTOP").await?;
            pods.delete(leader, &DeleteParams::default().grace_period(0)).await?;
        }
    }
    Ok(())
}

/// A leader of the past that goes on leaves the work to its successor.
async fn thawed(context: &Context, container: &str, holder: &str, percent: u32) -> Result<()> {
    context.embedded()?.signal_container(container, "SIGCONT").await?;
    gateway::set_percent(context, percent, 1).await?;
    let leader = operator::leader(context).await?;
    ensure!(leader.as_deref() == Some(holder), "{leader:?} leads in place of {holder}");
    println!("  going on, it leaves the lead to the other pod");
    Ok(())
}

impl End {
    const fn describe(self) -> &'static str {
        match self {
            Self::Deleted => "deleted",
            Self::Lost => "killed with its pod, without a release",
            Self::Killed => "killed, its container restarted",
            Self::Frozen => "frozen",
        }
    }
}
