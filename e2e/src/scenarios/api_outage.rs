//! The gateway without an API server: traffic goes on, a container that crashed serves again with its keys, and a rollback stays a
//! rollback.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures::FutureExt;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::ResourceExt;
use serde_json::{Value, json};

use super::{curl, gateway, load, objects};
use crate::{
    cluster::Cluster,
    scenarios::{Context, Scenario},
    wait,
};

/// The scenario.
pub(super) const SCENARIO: Scenario = Scenario::new(
    "api-outage",
    "With the API server away traffic goes on, a killed container serves again in 5 s with its keys, and 0 % stays 0 %",
    |context| run(context).boxed(),
)
.embedded_only();

const REPLICAS: u32 = 2;
/// How long traffic has to do without the API server, in seconds.
const OUTAGE: &str = "30";
/// What a killed container may take to serve again.
const BACK: Duration = Duration::from_secs(5);
/// How long everything may take to be as before once the API server is back.
const RECOVERED: Duration = Duration::from_secs(90);
/// How long a pod may take to save what it has confirmed.
const SAVED: Duration = Duration::from_secs(10);

async fn run(context: &Context) -> Result<()> {
    gateway::create(context, REPLICAS, json!({"strategy": "Canary", "canaryPercent": 10})).await?;
    let victim = Victim::choose(context).await?;
    let user = victim.user_of_the_bifrost_arm(context).await?;
    let cluster = context.embedded()?;

    cluster.stop_api_server().await?;
    let outcome = while_away(context, &victim, &user).await;
    cluster.start_api_server().await?;
    outcome?;

    let restarted = victim.restarted(context, 1).await?;
    rolled_back(context, &victim).await?;
    cluster.stop_api_server().await?;
    let outcome = still_rolled_back(context, &victim, &restarted).await;
    cluster.start_api_server().await?;
    outcome?;

    victim.restarted(context, 2).await?;
    let origin = victim.origin_of_its_configuration(context).await?;
    ensure!(origin == "saved", "the restarted container took the {origin} configuration, not the one it had saved");
    context.wait_for_condition(gateway::OBJECT, "Ready", RECOVERED).await
}

/// The first outage: steady requests for its length, then a crash.
async fn while_away(context: &Context, victim: &Victim, user: &str) -> Result<()> {
    let load = load::send(context, &["--duration", OUTAGE, "--concurrency", "4", "--users", "fixed"]).await?;
    load.all_served()?;
    ensure!(load.arms.bifrost > 0 && load.arms.baseline > 0, "one arm served all");
    println!(
        "  API server away: {} requests in {:.0} s, {:.1} % of them on the bifrost arm, none failed",
        load.requests,
        load.seconds,
        load.bifrost_percent()
    );
    let back = victim.kill(context, &victim.container, user, "bifrost").await?;
    println!("  container killed meanwhile: its pod serves with a pool key after {:.2} s", back.as_secs_f64());
    let load = load::send_to(context, &victim.url, &["--requests", "200", "--users", "fixed"]).await?;
    load.all_served()?;
    ensure!(load.arms.bifrost > 0, "none of {} requests took the bifrost arm", load.requests);
    Ok(())
}

/// Takes the share to 0. The API server has just come back: the operator may need a moment.
async fn rolled_back(context: &Context, victim: &Victim) -> Result<()> {
    let began = Instant::now();
    gateway::set_percent(context, 0, REPLICAS.into()).await?;
    println!("  API server back: 0 % confirmed by all replicas after {:.2} s", began.elapsed().as_secs_f64());
    let status = objects::get(context, gateway::OBJECT).await?["status"].clone();
    let epoch = status["traffic"]["epoch"].as_u64().context("no epoch in the status")?;
    // A pod saves beside what it does, as a disk may hang.
    wait::wait_until("the pod to save it", SAVED, || async {
        let (saved, _) = victim.copies(context.embedded()?)?;
        ensure!(saved >= epoch, "epoch {saved} is saved, not {epoch}");
        Ok(true)
    })
    .await
}

/// The second outage: a crash right after the rollback, before the kubelet has renewed the mounted copy.
async fn still_rolled_back(context: &Context, victim: &Victim, container: &str) -> Result<()> {
    let (saved, mounted) = victim.copies(context.embedded()?)?;
    println!("  the pod's copies before its crash: saved epoch {saved}, mounted epoch {mounted}");
    ensure!(saved >= mounted, "what the pod saved is older than what is mounted");
    let back = victim.kill(context, container, "anyone", "baseline").await?;
    let load = load::send_to(context, &victim.url, &["--requests", "500", "--users", "fixed"]).await?;
    load.all_served()?;
    ensure!(load.arms.bifrost == 0, "{} of {} requests took the bifrost arm", load.arms.bifrost, load.requests);
    println!(
        "  API server away again, container killed: serves after {:.2} s, all of {} requests on the baseline arm",
        back.as_secs_f64(),
        load.requests
    );
    Ok(())
}

/// The pod whose container is killed.
struct Victim {
    name: String,
    uid: String,
    /// Its address, not the Service's.
    url: String,
    /// The id of its first container.
    container: String,
}

impl Victim {
    async fn choose(context: &Context) -> Result<Self> {
        let pods = context.pods(&gateway::selector()).await?;
        let pod = pods.first().context("no gateway pod")?;
        let address =
            pod.status.as_ref().and_then(|status| status.pod_ip.as_deref()).context("a pod without address")?;
        let container = container(pod).and_then(|status| status.container_id.clone()).context("no container")?;
        let uid = pod.uid().context("a pod without uid")?;
        Ok(Self { name: pod.name_any(), uid, url: format!("http://{address}:8080"), container })
    }

    /// A user whom the split sends to the bifrost arm.
    async fn user_of_the_bifrost_arm(&self, context: &Context) -> Result<String> {
        for number in 0..200 {
            let user = format!("user-{number}");
            if curl::chat(context, &self.url, &gateway::chat(&user), true).await?.arm() == "bifrost" {
                return Ok(user);
            }
        }
        anyhow::bail!("none of 200 users is on the bifrost arm at 10 %")
    }

    /// Kills the container and returns how long it took until the pod served this user on this arm again.
    async fn kill(&self, context: &Context, container: &str, user: &str, arm: &str) -> Result<Duration> {
        let body = gateway::chat(user);
        let began = Instant::now();
        context.embedded()?.kill_container(container).await?;
        let took = wait::wait_for("the killed container to serve again", BACK * 4, || async {
            let sent = curl::chat(context, &self.url, &body, true).await?;
            let took = began.elapsed();
            ensure!(sent.status == 200 && sent.arm() == arm, "status {}, arm {:?}", sent.status, sent.arm());
            Ok(Some(took))
        })
        .await?;
        ensure!(took <= BACK, "the killed container served again only after {:.2} s", took.as_secs_f64());
        Ok(took)
    }

    /// Waits until the pod is seen ready after so many restarts in all; returns the id of its container.
    async fn restarted(&self, context: &Context, restarts: i32) -> Result<String> {
        wait::wait_for(&format!("restart {restarts} to be seen"), RECOVERED, || async {
            let pod = context.api::<Pod>().get(&self.name).await?;
            let container = container(&pod).context("no container")?;
            ensure!(container.restart_count == restarts && container.ready, "{} restarts", container.restart_count);
            Ok(container.container_id.clone())
        })
        .await
    }

    /// The epochs of what the pod saved and of what is mounted, read on the node.
    fn copies(&self, cluster: &Cluster) -> Result<(u64, u64)> {
        let volumes = cluster.layout().path(&format!("kubelet/pods/{}/volumes", self.uid));
        let read = |file: &str| crate::files::read(&volumes.join(file));
        let saved: Value = serde_json::from_str(&read("kubernetes.io~empty-dir/state/snapshot.json")?)?;
        let saved = saved["traffic.json"].as_str().context("the saved copy has no traffic table")?;
        Ok((epoch(saved)?, epoch(&read("kubernetes.io~configmap/config/traffic.json")?)?))
    }

    /// What the container said at its start about where its configuration comes from.
    async fn origin_of_its_configuration(&self, context: &Context) -> Result<String> {
        let log = context.kubectl(&["logs", &self.name]).await?;
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let origin = lines.into_iter().find_map(|line| find(&line, "origin"));
        origin.with_context(|| format!("the log names no configuration: {log}"))
    }
}

fn container(pod: &Pod) -> Option<&ContainerStatus> {
    pod.status.as_ref()?.container_statuses.as_ref()?.first()
}

fn epoch(traffic_table: &str) -> Result<u64> {
    let table: Value = serde_json::from_str(traffic_table)?;
    table["epoch"].as_u64().context("a traffic table without epoch")
}

/// A text member, at the top or in `fields`, where the log puts them.
fn find(line: &Value, member: &str) -> Option<String> {
    let value = line.get(member).or_else(|| line.get("fields")?.get(member))?;
    value.as_str().map(str::to_owned)
}
