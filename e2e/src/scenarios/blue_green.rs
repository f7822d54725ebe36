//! The other colour within two seconds, also on connections that are open; a preview that never serves the active one. Green by
//! itself, watched, and taken back.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use bifrost_fake_provider::Control;
use futures::FutureExt;
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStderr},
};

use super::{
    curl,
    gateway::{self, APP_OPENAI, NAME, OBJECT},
    load, migration, objects,
    streams::{self, LONG, TWENTY},
};
use crate::{
    deploy::Vendors,
    scenarios::{Context, Scenario},
    wait,
};

/// The scenario.
pub(super) const SCENARIO: Scenario = Scenario::new(
    "blue-green",
    "A switch and back within 2 s on open connections, streams uncut; the preview; green by itself, watched, back after a crash",
    |context| run(context).boxed(),
)
.embedded_only()
.limit(Duration::from_secs(600));

const SWITCH: Duration = Duration::from_secs(2);
const HOLD: Duration = Duration::from_secs(3);
/// Longer than pods may take to confirm that it began.
const WATCH: Duration = Duration::from_secs(8);
/// How long blue may take after the end of a container, which has to be noticed and replaced.
const BACK: Duration = Duration::from_secs(10);
const LIMIT: Duration = Duration::from_secs(40);

async fn run(context: &Context) -> Result<()> {
    gateway::create(context, 2, json!({"strategy": "BlueGreen", "blueGreen": {"active": "Blue"}})).await?;
    preview(context, "baseline", "bifrost").await?;
    let (_port, control) = Vendors::control(&context.target).await?;
    control.reset_all().await?;
    let streams = ["--stream", "--concurrency", "4"];
    load::during(context, &streams, switches(context, &control)).await?;
    promotion(context).await?;
    load::during(context, &streams, automatic(context)).await?;
    crash(context).await?;
    gone(context).await
}

/// Through the Service and on the preview.
async fn preview(context: &Context, active: &str, other: &str) -> Result<()> {
    let preview = format!("http://{NAME}-bifrost-preview.{}.svc.cluster.local:8081", context.namespace);
    for number in 0..20 {
        let body = gateway::chat(&format!("user-{number}"));
        let answer = curl::chat(context, &gateway::url(context), &body, true).await?;
        ensure!(answer.arm() == active, "{} by the Service", answer.arm());
        let answer = curl::chat(context, &preview, &body, true).await?;
        ensure!(answer.status == 200 && answer.arm() == other, "{} {} on the preview", answer.status, answer.arm());
    }
    // Without a credential of its own a request can only be served by the pipeline.
    let answer = curl::chat(context, &preview, &gateway::chat("anybody"), false).await?;
    if other == "baseline" {
        ensure!(answer.status >= 400 && answer.arm() != "bifrost", "{} {}", answer.status, answer.body);
        println!(
            "  preview without a credential while blue is the other colour: {} {}",
            answer.status,
            answer.body.trim()
        );
    }
    println!("  the Service gives {active}, the preview {other}");
    Ok(())
}

/// There and back; streams that are open meanwhile end on the colour on which they began.
async fn switches(context: &Context, control: &Control) -> Result<()> {
    for (colour, from, to) in [("Green", "baseline", "bifrost"), ("Blue", "bifrost", "baseline")] {
        let turn = async {
            streams::all_open(control, TWENTY).await?;
            switch(context, colour, from, to).await?;
            streams::end(control, TWENTY).await
        };
        let (streams, ()) = tokio::try_join!(streams::run(context, TWENTY, LONG), turn)?;
        let began = if from == "bifrost" { streams.arms.bifrost } else { streams.arms.baseline };
        ensure!(began == streams.requests, "{:?} instead of {from}", streams.arms);
        let (active, other) = (to, from);
        preview(context, active, other).await?;
    }
    Ok(())
}

async fn switch(context: &Context, colour: &str, from: &str, to: &str) -> Result<()> {
    let mut client = Client::start(context)?;
    ensure!(client.next().await?.0 == from, "the connection does not begin with {from}");
    let began = Instant::now();
    objects::merge(context, OBJECT, &json!({"spec": {"migration": {"blueGreen": {"active": colour}}}})).await?;
    let seen = loop {
        let (arm, connects) = client.next().await?;
        ensure!(connects == 0, "the client had to connect again");
        if arm == to {
            break began.elapsed();
        }
        ensure!(began.elapsed() < LIMIT, "the connection still gives {arm}");
    };
    let percent = if colour == "Green" { 100 } else { 0 };
    migration::reach(context, percent, 2, LIMIT).await?;
    println!(
        "  {colour}: on an open connection after {:.2} s, confirmed by 2 replicas after {:.2} s",
        seen.as_secs_f64(),
        began.elapsed().as_secs_f64()
    );
    ensure!(seen <= SWITCH && began.elapsed() <= SWITCH, "the switch took {:?}", began.elapsed());
    client.stop().await
}

/// One connection with a request every 50 ms.
struct Client {
    child: Child,
    lines: Lines<BufReader<ChildStderr>>,
}

impl Client {
    fn start(context: &Context) -> Result<Self> {
        let mut curl = context.embedded()?.command_inside("curl");
        // A number in the query makes it a thousand requests, one after the other.
        let url = format!("{}/openai/v1/chat/completions?n=[1-1000]", gateway::url(context));
        curl.args(["--silent", "--noproxy", "*", "--rate", "20/s", "--output", "/dev/null"])
            .args(["--write-out", "%{stderr}%{http_code} %header{x-bf-arm} %{num_connects}\n"])
            .args(["--header", "content-type: application/json", "--header"])
            .arg(format!("authorization: Bearer {APP_OPENAI}"))
            .args(["--data-binary", &gateway::chat("anybody"), &url]);
        let mut child = curl.stderr(Stdio::piped()).kill_on_drop(true).spawn().context("cannot start curl")?;
        let lines = BufReader::new(child.stderr.take().context("curl has no stderr")?).lines();
        Ok(Self { child, lines })
    }

    /// The arm of the next answer, and how many connections were made for it.
    async fn next(&mut self) -> Result<(String, u32)> {
        let line = tokio::time::timeout(LIMIT, self.lines.next_line()).await.context("curl hangs")??;
        let line = line.context("curl ended")?;
        let words: Vec<_> = line.split_whitespace().collect();
        let [status, arm, connects] = words.as_slice() else { anyhow::bail!("curl wrote {line:?}") };
        ensure!(*status == "200", "{line}");
        Ok(((*arm).to_owned(), connects.parse()?))
    }

    async fn stop(mut self) -> Result<()> {
        self.child.kill().await.context("cannot stop curl")
    }
}

/// Green is on the preview only until somebody promotes it.
async fn promotion(context: &Context) -> Result<()> {
    let patch =
        json!({"spec": {"migration": {"blueGreen": {"active": "Green", "preview": {"hold": "1s", "pause": true}}}}});
    objects::merge(context, OBJECT, &patch).await?;
    gateway::wait_event(context, "StepPaused", "green waits for a promotion").await?;
    migration::stays(context, 0, Duration::from_secs(3)).await?;
    migration::ask(context, "promote/1").await?;
    migration::reach(context, 100, 2, LIMIT).await?;
    gateway::wait_event(context, "Promoted", "green").await?;
    println!("  promoted from the preview");
    let patch = json!({"spec": {"migration": {"blueGreen": {"active": "Blue"}}}});
    objects::merge(context, OBJECT, &patch).await?;
    migration::reach(context, 0, 2, LIMIT).await.map(drop)
}

/// Green by itself after the hold, Completed after the watch, and blue again when the spec says so.
async fn automatic(context: &Context) -> Result<()> {
    let asked = promoted(context, "8s").await?;
    migration::phase(context, "Completed").await?;
    // Nobody sees the watch begin at its beginning; what it follows is seen.
    let took = asked.elapsed();
    ensure!(took >= HOLD + WATCH, "hold and watch together were cut to {took:?}");
    println!("  completed after {:.1} s, with a hold of 3 s and a watch of 8 s", took.as_secs_f64());

    let began = Instant::now();
    objects::merge(context, OBJECT, &json!({"spec": {"migration": {"blueGreen": {"active": "Blue"}}}})).await?;
    migration::reach(context, 0, 2, LIMIT).await?;
    println!("  blue again after {:.2} s", began.elapsed().as_secs_f64());
    ensure!(began.elapsed() <= SWITCH, "the way back took {:?}", began.elapsed());
    Ok(())
}

/// Waits until green is active without anybody's request, and watched. Returns when the spec began to ask for it.
async fn promoted(context: &Context, watch: &str) -> Result<Instant> {
    let began = Instant::now();
    let green = json!({"active": "Green", "preview": {"hold": "3s", "pause": false}, "watch": watch});
    objects::merge(context, OBJECT, &json!({"spec": {"migration": {"blueGreen": green}}})).await?;
    let seen = migration::reach(context, 100, 2, LIMIT).await?;
    ensure!(began.elapsed() >= HOLD, "the hold was cut to {:?}", began.elapsed());
    ensure!(seen["status"]["migration"]["phase"] == "Progressing", "{}", seen["status"]["migration"]);
    println!("  green by itself after {:.1} s, with a hold of 3 s", began.elapsed().as_secs_f64());
    Ok(began)
}

/// A gateway container that ends while green is watched makes blue active again.
async fn crash(context: &Context) -> Result<()> {
    promoted(context, "1m").await?;
    let killed = Instant::now();
    gateway::crash(context, &gateway::selector()).await?;
    let back = migration::reach(context, 0, 2, LIMIT).await?;
    println!("  a crash in the watch: blue again, confirmed after {:.2} s", killed.elapsed().as_secs_f64());
    ensure!(killed.elapsed() <= BACK, "the way back took {:?}", killed.elapsed());
    let migration = &back["status"]["migration"];
    ensure!(migration["step"] == "Blue" && migration["phase"] == "RolledBack", "{migration}");
    ensure!(migration["rollback"]["reason"] == "GatewayCrash", "{migration}");
    Ok(())
}

/// Another strategy has no preview.
async fn gone(context: &Context) -> Result<()> {
    let patch = json!({"spec": {"migration": {"strategy": "Canary", "canaryPercent": 0, "blueGreen": null}}});
    objects::merge(context, OBJECT, &patch).await?;
    wait::wait_until("the preview to go", LIMIT, || async {
        Ok(objects::find(context, &format!("service/{NAME}-bifrost-preview")).await?.is_none())
    })
    .await?;
    let pod = gateway::pod_urls(context, 2).await?.remove(0).replace(":8080", ":8081");
    // The Service goes when the new table is written, and a pod reads it a moment later.
    let answer = wait::wait_for("the preview to be none", LIMIT, || async {
        let answer = curl::chat(context, &pod, &gateway::chat("anybody"), true).await?;
        ensure!(answer.status == 503 && answer.body.contains("no_preview"), "{} {}", answer.status, answer.body);
        Ok(Some(answer))
    })
    .await?;
    println!("  without the strategy: {} {}", answer.status, answer.body.trim());
    Ok(())
}
