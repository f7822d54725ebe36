//! A rolling restart of the gateway: streams run to their end, and no request is lost, not even one that is sent into a connection
//! which lay idle.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bifrost_fake_provider::{Control, RecordQuery};
use futures::FutureExt;
use k8s_openapi::api::core::v1::Service;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{
    gateway::{self, APP_OPENAI, Load, NAME},
    keep_alive::{self, Client, Habit, Seen},
};
use crate::{
    deploy::Vendors,
    scenarios::{Context, Scenario},
    wait,
};

/// The scenario.
pub(super) const SCENARIO: Scenario = Scenario::new(
    "rolling-restart",
    "kubectl rollout restart under 50 open streams, steady requests and idle connections: nothing is cut, nothing fails",
    |context| run(context).boxed(),
)
.embedded_only();

const REPLICAS: usize = 3;
/// Streams to each vendor.
const STREAMS: usize = 25;
/// What a stream is made of: longer than the restart of a pod takes.
const CHUNKS: u32 = 120;
const GAP: Duration = Duration::from_millis(200);
/// How long steady requests go on: longer than streams and restart together.
const STEADY: &str = "40";
/// A pod on its way out serves connections for `readinessDelay`, and closes them after 2 s without a request: what comes back within
/// the sum of both is never lost.
const BLIND: (u32, Duration) = (30, Duration::from_secs(6));
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
    let (chat, messages, others) =
        tokio::join!(streams(context, "chat"), streams(context, "messages"), meanwhile(context, &control));
    let restart = others?;
    let (chat, messages) = (chat?, messages?);
    chat.all_served()?;
    messages.all_served()?;
    let arms = (chat.arms.bifrost + messages.arms.bifrost, chat.arms.baseline + messages.arms.baseline);
    println!("  {} streams of {} s: none cut ({} bifrost, {} baseline)", 2 * STREAMS, length(), arms.0, arms.1);
    ensure!(arms.0 > 0 && arms.1 > 0, "all streams took one arm");
    restart.print();
    ensure!(restart.idle.announced > 0 && restart.idle.found_closed > 0, "no pod ended an idle connection");
    let after = gateway::pods(context).await?;
    ensure!(after.iter().all(|pod| !before.contains(pod)), "not every pod was replaced: {before:?}, {after:?}");
    Ok(())
}

fn length() -> f64 {
    (GAP * CHUNKS).as_secs_f64()
}

/// Streams side by side, all opened at once.
async fn streams(context: &Context, api: &str) -> Result<Load> {
    let script = json!({"chunks": CHUNKS, "gap_ms": GAP.as_millis()});
    let prompt = format!("[[fake {script}]]");
    let count = STREAMS.to_string();
    let args = ["--stream", "--requests", &count, "--concurrency", &count, "--users", "fixed"];
    gateway::load(context, &[&args[..], &["--api", api, "--prompt", &prompt]].concat()).await
}

/// How the restart went, and what others saw of it.
struct Restart {
    rolled_out: Duration,
    old_pods_gone: Duration,
    open_streams: (usize, usize),
    steady: Load,
    idle: Seen,
}

impl Restart {
    fn print(&self) {
        let (at_start, at_end) = self.open_streams;
        println!(
            "  {REPLICAS} pods replaced in {:.1} s with {at_start} streams open, {at_end} still open then; the last old pod ended after {:.1} s",
            self.rolled_out.as_secs_f64(),
            self.old_pods_gone.as_secs_f64()
        );
        println!("  {} steady requests, none failed", self.steady.requests);
        let Seen { requests, into_idle, announced, found_closed, .. } = self.idle;
        println!(
            "  {requests} requests of clients that come back after seconds, {into_idle} into an idle connection, none lost; \
             {announced} connections ended by announcement, {found_closed} in silence"
        );
    }
}

/// Restarts the pods under the open streams while other clients send.
async fn meanwhile(context: &Context, control: &Control) -> Result<Restart> {
    let at_start = wait::wait_for("all streams to be open", Duration::from_secs(20), || async {
        let open = open_streams(control).await?;
        ensure!(open == 2 * STREAMS, "{open} are open");
        Ok(Some(open))
    })
    .await?;
    let (stop, stopped) = watch::channel(false);
    let clients = clients(context).await?;
    let idle = context.embedded()?.run_inside(move || keep_alive::run(clients, &stopped));
    let steady = gateway::load(context, &["--duration", STEADY, "--concurrency", "4", "--users", "fixed"]);
    let restart = async {
        let times = restart(context, control).await;
        (times, stop)
    };
    let (idle, (steady, times)) = tokio::join!(idle, async {
        let (steady, (times, stop)) = tokio::join!(steady, restart);
        stop.send_replace(true);
        (steady, times)
    });
    let ((rolled_out, old_pods_gone, at_end), steady, idle) = (times?, steady?, idle??);
    steady.all_served()?;
    idle.all_served()?;
    Ok(Restart { rolled_out, old_pods_gone, open_streams: (at_start, at_end), steady, idle })
}

/// Returns when the new pods were all ready, when the old ones had ended, and how many streams were open at the first of the two.
async fn restart(context: &Context, control: &Control) -> Result<(Duration, Duration, usize)> {
    let deployment = format!("deployment/{NAME}");
    let began = Instant::now();
    context.kubectl(&["rollout", "restart", &deployment]).await?;
    context.kubectl(&["rollout", "status", &deployment, "--timeout=60s"]).await?;
    let rolled_out = began.elapsed();
    let open = open_streams(control).await?;
    context.wait_for_pods(&gateway::selector(), REPLICAS, Duration::from_secs(60)).await?;
    Ok((rolled_out, began.elapsed(), open))
}

async fn open_streams(control: &Control) -> Result<usize> {
    let records = control.records(&RecordQuery::default()).await?;
    Ok(records.iter().filter(|record| record.streamed && record.status == 200 && record.ended.is_none()).count())
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
            server,
            request: request(&format!("{habit:?}-{index}")),
        })
    };
    Ok(some(Habit::Blind, BLIND).chain(some(Habit::Looks, LOOKING)).collect())
}

fn request(user: &str) -> Vec<u8> {
    let body: Value = json!({"model": "gpt-4o-mini", "user": user, "messages": [{"role": "user", "content": "hello"}]});
    let body = body.to_string();
    format!(
        "POST /openai/v1/chat/completions HTTP/1.1\r\nhost: {NAME}\r\nauthorization: Bearer {APP_OPENAI}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}
