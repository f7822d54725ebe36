//! A rolling restart of the gateway: streams run to their end, and no request is lost, not even one that is sent into a connection
//! which lay idle.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bifrost_fake_provider::Control;
use futures::FutureExt;
use k8s_openapi::api::core::v1::Service;
use serde_json::json;
use tokio::sync::watch;

use super::{
    gateway::{self, APP_OPENAI, NAME},
    keep_alive::{self, Client, Habit, Seen},
    load,
    streams::{self, FIFTY},
};
use crate::{
    deploy::Vendors,
    scenarios::{Context, Scenario},
};

/// The scenario.
pub(super) const SCENARIO: Scenario = Scenario::new(
    "rolling-restart",
    "kubectl rollout restart under 50 open streams, steady requests and idle connections: nothing is cut, nothing fails",
    |context| run(context).boxed(),
)
.embedded_only();

const REPLICAS: usize = 3;
/// Longer than the restart of all pods takes.
const LENGTH: Duration = Duration::from_secs(32);
/// How long the old pods may take to end: they wait for their streams.
const ENDED: Duration = LENGTH.saturating_add(Duration::from_secs(60));
/// A pod on its way out serves connections for `readinessDelay`, and closes them after 2 s without a request: what comes back within
/// the sum of both is never lost.
const BLIND: (u32, Duration) = (30, Duration::from_secs(6));
/// Who comes back when that sum is nearly over, as the machine had no time for him, opens another connection.
const LATEST: Duration = Duration::from_millis(6_500);
/// What comes back later finds the connection closed.
const LOOKING: (u32, Duration) = (20, Duration::from_secs(18));

async fn run(context: &Context) -> Result<()> {
    // The drain's defaults, as a user has them.
    let mut manifest =
        gateway::manifest(REPLICAS as u32, json!({"strategy": "Canary", "canaryPercent": 50}), Vec::new());
    manifest["spec"]["drain"] = json!({});
    gateway::create_from(context, manifest).await?;
    let (_port, control) = Vendors::control(&context.target).await?;
    control.reset_all().await?;
    let before = gateway::pods(context).await?;
    let work =
        async { tokio::try_join!(streams::run(context, FIFTY, LENGTH), restart_among_idle_clients(context, &control)) };
    let ((streams, (restart, idle)), _) = load::during(context, &["--users", "fixed"], work).await?;
    ensure!(streams.arms.bifrost > 0 && streams.arms.baseline > 0, "all streams took one arm");
    restart.print();
    print_idle(&idle);
    idle.all_served()?;
    ensure!(restart.open_at_end > 0, "no stream was open when the last pod was told to stop");
    ensure!(idle.announced > 0 && idle.found_closed > 0, "no pod ended an idle connection");
    let after = gateway::pods(context).await?;
    ensure!(after.iter().all(|pod| !before.contains(pod)), "not every pod was replaced: {before:?}, {after:?}");
    Ok(())
}

/// How the restart went.
struct Restart {
    rolled_out: Duration,
    old_pods_gone: Duration,
    /// Streams under way when the last old pod had been told to stop.
    open_at_end: usize,
}

impl Restart {
    fn print(&self) {
        println!(
            "  {REPLICAS} pods replaced in {:.1} s, with {} streams still open then; the last old pod ended after {:.1} s",
            self.rolled_out.as_secs_f64(),
            self.open_at_end,
            self.old_pods_gone.as_secs_f64()
        );
    }
}

fn print_idle(seen: &Seen) {
    let Seen { requests, into_idle, announced, found_closed, .. } = seen;
    println!(
        "  {requests} requests of clients that come back after seconds, {into_idle} into an idle connection, none lost; \
         {announced} connections ended by announcement, {found_closed} in silence"
    );
}

/// Restarts the pods once all streams are open, while clients send into connections that were idle.
async fn restart_among_idle_clients(context: &Context, control: &Control) -> Result<(Restart, Seen)> {
    streams::all_open(control, FIFTY).await?;
    let (stop, stopped) = watch::channel(false);
    let clients = clients(context).await?;
    let idle = context.embedded()?.run_inside(move || keep_alive::run(clients, &stopped));
    let restart = async {
        let outcome = restart(context, control).await;
        stop.send_replace(true);
        outcome
    };
    let (restart, idle) = tokio::join!(restart, idle);
    Ok((restart?, idle??))
}

async fn restart(context: &Context, control: &Control) -> Result<Restart> {
    let deployment = format!("deployment/{NAME}");
    let began = Instant::now();
    context.kubectl(&["rollout", "restart", &deployment]).await?;
    context.kubectl(&["rollout", "status", &deployment, "--timeout=60s"]).await?;
    let rolled_out = began.elapsed();
    let open_at_end = streams::open(control, FIFTY).await?;
    // The old pods' logs go with them.
    context.stage.leaks.search_logs(context, &context.namespace).await?;
    context.wait_for_pods(&gateway::selector(), REPLICAS, ENDED).await?;
    Ok(Restart { rolled_out, old_pods_gone: began.elapsed(), open_at_end })
}

async fn clients(context: &Context) -> Result<Vec<Client>> {
    let service = context.api::<Service>().get(NAME).await?;
    let address = service.spec.and_then(|spec| spec.cluster_ip).context("the Service has no address")?;
    let server = format!("{address}:8080").parse()?;
    let some = |habit, (count, longest): (u32, Duration)| {
        // From half the longest silence to all of it.
        (0..count).map(move |index| Client {
            habit,
            silence: longest.mul_f64(0.5 + 0.5 * f64::from(index) / f64::from(count)),
            latest: LATEST,
            server,
            request: request(&format!("{habit:?}-{index}")),
        })
    };
    Ok(some(Habit::Blind, BLIND).chain(some(Habit::Looks, LOOKING)).collect())
}

fn request(user: &str) -> Vec<u8> {
    let body = gateway::chat(user);
    format!(
        "POST /openai/v1/chat/completions HTTP/1.1\r\nhost: {NAME}\r\nauthorization: Bearer {APP_OPENAI}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}
