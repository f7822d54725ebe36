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
#[derive(Debug, Clone, Copy)]
enum End {
    /// Its pod is deleted: it is asked to stop and releases the Lease.
    Deleted,
    /// Its process is killed and its pod is gone: the Lease must expire.
    Lost,
    /// Its process is killed, and its pod starts another, of the same identity.
    Killed,
}

async fn run(context: &Context) -> Result<()> {
    gateway::create(context, 1, json!({"strategy": "Canary", "canaryPercent": 10})).await?;
    let outcome = with_two(context).await;
    operator::scale(context, 1).await?;
    outcome
}

async fn with_two(context: &Context) -> Result<()> {
    for (end, percent) in [(End::Deleted, 20), (End::Lost, 30), (End::Killed, 40)] {
        operator::scale(context, 2).await?;
        takeover(context, end, percent).await.with_context(|| format!("the leader {end:?}"))?;
    }
    Ok(())
}

async fn takeover(context: &Context, end: End, percent: u32) -> Result<()> {
    let before = wait::wait_for("a leader", LIMIT, || operator::leader(context)).await?;
    let began = Instant::now();
    end_leader(context, end, &before).await?;
    let (confirmed, holder) =
        tokio::try_join!(gateway::set_percent(context, percent, 1).map(|done| done.map(|_| began.elapsed())), async {
            let holder = wait::wait_for("a new leader", LIMIT, || async {
                let holder = operator::leader(context).await?;
                Ok(holder.filter(|holder| matches!(end, End::Killed) || *holder != before))
            });
            holder.await.map(|holder| (holder, began.elapsed()))
        })?;
    let (holder, taken) = holder;
    let who = if holder == before { "the same pod leads" } else { "the other pod leads" };
    println!(
        "  {}: {who} after {:.2} s, a spec of the same moment is confirmed after {:.2} s",
        end.describe(),
        taken.as_secs_f64(),
        confirmed.as_secs_f64()
    );
    ensure!(confirmed.max(taken) <= LIMIT, "the takeover took longer than {} s", LIMIT.as_secs());
    Ok(())
}

async fn end_leader(context: &Context, end: End, leader: &str) -> Result<()> {
    let pods = operator::pod_api(context);
    if !matches!(end, End::Deleted) {
        let (container, _) = operator::container(&pods.get(leader).await?)?;
        context.embedded()?.kill_container(&container).await?;
    }
    match end {
        End::Deleted => drop(pods.delete(leader, &DeleteParams::default()).await?),
        End::Lost => drop(pods.delete(leader, &DeleteParams::default().grace_period(0)).await?),
        End::Killed => {}
    }
    Ok(())
}

impl End {
    const fn describe(self) -> &'static str {
        match self {
            Self::Deleted => "leader deleted",
            Self::Lost => "leader killed without a release, its pod gone",
            Self::Killed => "leader killed, its container restarted",
        }
    }
}
