//! A new image that only the preview serves until somebody promotes it, in pods of its own, is watched, and then rolled. Streams that
//! began before the switch and after it end where they began.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use bifrost_fake_provider::Control;
use futures::FutureExt;
use k8s_openapi::api::core::v1::Service;
use serde_json::{Value, json};

use super::{
    gateway::{self, APP_OPENAI, NAME},
    load, objects,
    rollout::{self, CANDIDATE_OBJECTS, CANDIDATE_PODS, STABLE_PODS},
    streams::{self, Group, LONG, TWENTY},
};
use crate::{
    deploy::Vendors,
    images::Image,
    scenarios::{Context, Scenario},
    wait,
};

/// The scenario.
pub(super) const SCENARIO: Scenario = Scenario::new(
    "rollout-preview-image",
    "A new image on the preview alone, everywhere within 2 s, kept connections included, watched, then rolled; streams uncut",
    |context| run(context).boxed(),
)
.embedded_only();

const SWITCH: Duration = Duration::from_secs(2);
/// Long enough that streams begin in the candidate's own pods.
const WATCH: Duration = Duration::from_secs(10);
/// Connections that are open before the switch and after it.
const KEPT: usize = 20;
/// Streams that begin before the switch.
const BEFORE: &[Group] = &[(load::Sdk::Python, "messages", "claude-3-opus-20240229", 30)];
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(10);

async fn run(context: &Context) -> Result<()> {
    let next = rollout::next_image(context).await?;
    let plan = json!({"strategy": "BlueGreen", "blueGreen": {"preview": {"pause": true}, "watch": "10s"}});
    let stable = rollout::create(context, Value::Null, plan).await?;
    let (_port, control) = Vendors::control(&context.target).await?;
    let before = rollout::stable_pods(context).await?;
    let story = async {
        streams::all_open(&control, BEFORE).await?;
        let candidate = previewed(context, &next, &stable).await?;
        let asked = switched(context, &stable, &candidate).await?;
        let onwards = rolled(context, &control, &next, &candidate, asked);
        let (streams, ()) = tokio::try_join!(streams::run(context, TWENTY, LONG), onwards)?;
        ensure!(streams.of_revision(&candidate) == streams.requests, "{:?}", streams.revisions);
        Ok(candidate)
    };
    let work = async { tokio::try_join!(streams::run(context, BEFORE, LONG), story) };
    let ((streams, candidate), load) = load::during(context, &[], work).await?;
    ensure!(streams.of_revision(&stable) == streams.requests, "{:?} instead of {stable}", streams.revisions);
    ensure!(load.of_revision(&stable) + load.of_revision(&candidate) == load.requests, "{:?}", load.revisions);
    let after = rollout::stable_pods(context).await?;
    ensure!(after.iter().all(|pod| !before.contains(pod)), "not every pod was replaced: {before:?}, {after:?}");
    Ok(())
}

/// The Service gives the stable revision and the preview the candidate, to everybody; returns its name.
async fn previewed(context: &Context, next: &Image, stable: &str) -> Result<String> {
    let began = Instant::now();
    let (candidate, _) = rollout::begin(context, &rollout::image(&next.reference)?, 0).await?;
    rollout::phase(context, "Paused").await?;
    println!("  {candidate} on the preview after {:.1} s, pods included", began.elapsed().as_secs_f64());
    rollout::only_at(context, &rollout::preview_url(context), &candidate).await?;
    rollout::only_at(context, &gateway::url(context), stable).await?;
    rollout::stays(context, 0, Duration::from_secs(1)).await?;
    Ok(candidate)
}

/// Promotes it, and waits until every replica has confirmed the switch; returns when it was asked for. Connections that were open before
/// go over with it.
async fn switched(context: &Context, stable: &str, candidate: &str) -> Result<Instant> {
    let connections = answered(connections(context).await?, stable.to_owned()).await?;
    let asked = Instant::now();
    let request = format!("promote/1@{candidate}");
    let ask = rollout::ask(context, &request);
    // Pods for everybody come first.
    let published = wait::wait_until("the switch to be published", rollout::LIMIT, || async {
        let table = rollout::table(context).await?.context("no ConfigMap")?;
        Ok(table["percent"] == 100)
    });
    let (_, began) = tokio::try_join!(ask, async { published.await.map(|()| Instant::now()) })?;
    rollout::reach(context, 100).await?;
    let took = began.elapsed();
    answered(connections, candidate.to_owned()).await?;
    println!(
        "  promoted: published after {:.1} s with its pods, confirmed {:.2} s later, also on {KEPT} connections that were open before",
        (began - asked).as_secs_f64(),
        took.as_secs_f64()
    );
    ensure!(took <= SWITCH, "the switch took {took:?}");
    let seen = rollout::seen(context).await?;
    ensure!(rollout::revision(&seen, "stableRevision")? == stable, "stable before the watch was over");
    rollout::only_at(context, &gateway::url(context), candidate).await?;
    Ok(asked)
}

/// When the watch is over, the Deployment is rolled to the image, and the candidate's own objects go.
async fn rolled(context: &Context, control: &Control, next: &Image, candidate: &str, asked: Instant) -> Result<()> {
    streams::all_open(control, TWENTY).await?;
    let own = objects::find(context, CANDIDATE_OBJECTS[0]).await?;
    ensure!(own.is_some(), "the streams began after the candidate's own pods had gone");
    rollout::settled(context, candidate).await?;
    // From the request on: what began the watch may have been seen late.
    ensure!(asked.elapsed() >= WATCH, "the watch was cut to {:?}", asked.elapsed());
    let deployment = objects::get(context, &format!("deployment/{NAME}")).await?;
    let image = &deployment["spec"]["template"]["spec"]["containers"][0]["image"];
    ensure!(*image == next.reference, "the Deployment has {image}");
    rollout::candidate_gone(context).await?;
    println!("  stable {:.1} s after the request, with a watch of 10 s", asked.elapsed().as_secs_f64());
    // Logs go with their pods.
    context.stage.leaks.search_logs(context, &context.namespace).await?;
    rollout::only_at(context, &gateway::url(context), candidate).await?;
    for groups in [BEFORE, TWENTY] {
        streams::end(control, groups).await?;
    }
    context.wait_for_pods(STABLE_PODS, rollout::REPLICAS as usize, rollout::LIMIT).await?;
    context.wait_for_pods(CANDIDATE_PODS, 0, rollout::LIMIT).await.map(drop)
}

/// Connections to the gateway's Service, from inside the cluster.
async fn connections(context: &Context) -> Result<Vec<TcpStream>> {
    let service = context.api::<Service>().get(NAME).await?;
    let address = service.spec.and_then(|spec| spec.cluster_ip).context("the Service has no address")?;
    let server: SocketAddr = format!("{address}:8080").parse()?;
    let open = move || {
        let one = |_| {
            let stream = TcpStream::connect(server)?;
            stream.set_read_timeout(Some(ANSWER))?;
            Ok(stream)
        };
        (0..KEPT).map(one).collect::<std::io::Result<Vec<_>>>()
    };
    context.embedded()?.run_inside(open).await?.context("cannot connect")
}

/// Sends a request into each, and fails unless this revision answers all of them.
async fn answered(connections: Vec<TcpStream>, revision: String) -> Result<Vec<TcpStream>> {
    let ask = move || {
        for mut stream in &connections {
            let body = gateway::chat("anybody");
            let head = format!(
                "POST /openai/v1/chat/completions HTTP/1.1\r\nhost: {NAME}\r\nauthorization: Bearer {APP_OPENAI}\r\n\
                 content-type: application/json\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            stream.write_all(format!("{head}{body}").as_bytes())?;
            let answer = answer(stream)?;
            let told = format!("x-bf-revision: {revision}\r\n");
            ensure!(answer.starts_with("HTTP/1.1 200 ") && answer.contains(&told), "not by {revision}: {answer}");
        }
        Ok(connections)
    };
    tokio::task::spawn_blocking(ask).await?
}

/// Reads one answer to its end, and returns its head.
fn answer(mut stream: &TcpStream) -> Result<String> {
    let mut text = Vec::new();
    loop {
        if let Some(end) = text.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = std::str::from_utf8(&text[..end + 2])?.to_ascii_lowercase().replace("http/1.1", "HTTP/1.1");
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
            if text.len() >= end + 4 + length.with_context(|| format!("no content-length in {head}"))? {
                return Ok(head);
            }
        }
        let mut chunk = [0; 4096];
        let read = stream.read(&mut chunk).context("the connection broke")?;
        ensure!(read > 0, "the connection was closed after {} bytes of the answer", text.len());
        text.extend_from_slice(&chunk[..read]);
    }
}
