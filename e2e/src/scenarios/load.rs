//! Many requests by the vendors' SDKs, retries off, from inside the cluster's network or through a forwarded port.

use std::{collections::BTreeMap, process::Stdio, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use super::gateway::{self, APP_ANTHROPIC, APP_OPENAI, NAME};
use crate::{
    clients::{JavaScript, Python, Script},
    run,
    scenarios::Context,
};

/// How long steady requests may take to begin, and to end once they are told to.
const EDGE: Duration = Duration::from_secs(60);
/// When steady requests end although nobody told them to, in seconds: as long as any scenario may take.
const LONGEST: &str = "900";
/// How many steady requests a second show that all are served; as many as can be sent would leave no time to what is watched.
const STEADY: &str = "200";
/// Steady requests with a longer pause than this between two answers, in seconds, say nothing about what happened in it.
const PAUSE: f64 = 5.0;

/// In which language the client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sdk {
    Python,
    JavaScript,
}

impl Sdk {
    async fn script(self) -> Result<Script> {
        Ok(match self {
            Self::Python => Python::install().await?.script("load.py"),
            Self::JavaScript => JavaScript::install().await?.script("load.mjs"),
        })
    }
}

/// What the clients saw.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Load {
    pub(super) requests: u64,
    pub(super) failures: u64,
    pub(super) first_error: Option<String>,
    pub(super) arms: Arms,
    /// Answers by the revision of the gateway that gave them.
    pub(super) revisions: BTreeMap<String, u64>,
    /// Failures by the arm that led to them; only Python's says it.
    #[serde(default)]
    pub(super) failed_arms: Arms,
    /// Failures by the revision; only Python's says it.
    #[serde(default)]
    pub(super) failed_revisions: BTreeMap<String, u64>,
    /// The revision that answered each user; only where they were to be named.
    #[serde(default)]
    pub(super) users: BTreeMap<String, String>,
    pub(super) seconds: f64,
    /// The longest time between two answers, in seconds; only Python's says it.
    #[serde(default)]
    pub(super) longest_pause: f64,
    /// The longest time that a request took, in seconds; only Python's says it.
    #[serde(default)]
    pub(super) longest_wait: f64,
}

/// Requests by the arm that served them.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Arms {
    pub(super) bifrost: u64,
    pub(super) baseline: u64,
}

impl Arms {
    fn add(&mut self, other: &Self) {
        self.bifrost += other.bifrost;
        self.baseline += other.baseline;
    }
}

fn add(counts: &mut BTreeMap<String, u64>, more: BTreeMap<String, u64>) {
    for (name, count) in more {
        *counts.entry(name).or_default() += count;
    }
}

impl Load {
    /// The bifrost arm's share in percent.
    pub(super) fn bifrost_percent(&self) -> f64 {
        100.0 * self.arms.bifrost as f64 / self.requests.max(1) as f64
    }

    /// Both together, as of clients that ran side by side.
    pub(super) fn and(mut self, other: Self) -> Self {
        self.requests += other.requests;
        self.failures += other.failures;
        self.first_error = self.first_error.or(other.first_error);
        self.arms.add(&other.arms);
        add(&mut self.revisions, other.revisions);
        self.failed_arms.add(&other.failed_arms);
        add(&mut self.failed_revisions, other.failed_revisions);
        self.users.extend(other.users);
        self.seconds = self.seconds.max(other.seconds);
        self.longest_pause = self.longest_pause.max(other.longest_pause);
        self.longest_wait = self.longest_wait.max(other.longest_wait);
        self
    }

    /// How many answers this revision gave.
    pub(super) fn of_revision(&self, revision: &str) -> u64 {
        self.revisions.get(revision).copied().unwrap_or_default()
    }

    /// Fails unless every request was answered as asked.
    pub(super) fn all_served(&self) -> Result<()> {
        ensure!(
            self.failures == 0,
            "{} of {} requests failed; the first: {}",
            self.failures,
            self.requests,
            self.first_error.as_deref().unwrap_or("?")
        );
        Ok(())
    }
}

/// Points a script of the SDKs at a gateway, with the application's own keys.
fn pointed_at(mut command: Command, base: &str) -> Command {
    command.env("OPENAI_BASE_URL", format!("{base}/openai/v1")).env("OPENAI_API_KEY", APP_OPENAI);
    command.env("ANTHROPIC_BASE_URL", format!("{base}/anthropic")).env("ANTHROPIC_API_KEY", APP_ANTHROPIC);
    command
}

/// A script inside the cluster's network, pointed at the gateway's Service.
pub(super) fn sdk(context: &Context, script: &Script) -> Result<Command> {
    Ok(pointed_at(script.command_inside(context.embedded()?), &gateway::url(context)))
}

/// Sends requests with one client of the Python SDK. From inside the embedded cluster; into another one through a forwarded port,
/// which leads to one pod.
pub(super) async fn send(context: &Context, args: &[&str]) -> Result<Load> {
    send_with(context, Sdk::Python, args).await
}

/// As [`send`], in another language.
pub(super) async fn send_with(context: &Context, language: Sdk, args: &[&str]) -> Result<Load> {
    let script = language.script().await?;
    if context.target.embedded().is_some() {
        return finish(sdk(context, &script)?, args).await;
    }
    let port = context.forward(NAME, 8080).await?;
    finish(pointed_at(script.command(), &format!("http://{}", port.address())), args).await
}

/// As [`send`], to another address inside the embedded cluster, such as one pod's.
pub(super) async fn send_to(context: &Context, base: &str, args: &[&str]) -> Result<Load> {
    let script = Sdk::Python.script().await?;
    finish(pointed_at(script.command_inside(context.embedded()?), base), args).await
}

async fn finish(mut command: Command, args: &[&str]) -> Result<Load> {
    let output = run::stdout_of(command.args(args)).await?;
    serde_json::from_str(&output).with_context(|| output.clone())
}

/// Does the work under steady requests, which begin before it and end after it. Fails unless all of them were served, without a pause.
pub(super) async fn during<T>(
    context: &Context,
    args: &[&str],
    work: impl Future<Output = Result<T>>,
) -> Result<(T, Load)> {
    let (done, load) = amid(context, &[&["--rate", STEADY], args].concat(), work).await?;
    load.all_served()?;
    ensure!(load.longest_pause <= PAUSE, "no steady request was answered for {:.1} s", load.longest_pause);
    println!("  {} requests meanwhile, at most {:.2} s apart, none failed", load.requests, load.longest_pause);
    Ok((done, load))
}

/// Does the work amid steady requests, of which some may fail.
pub(super) async fn amid<T>(
    context: &Context,
    args: &[&str],
    work: impl Future<Output = Result<T>>,
) -> Result<(T, Load)> {
    let steady = Steady::start(context, args).await?;
    let done = work.await;
    let load = steady.stop().await;
    Ok((done?, load?))
}

/// Requests of one Python client that go on until they are told to stop.
struct Steady {
    child: Child,
    /// Closing it is the word.
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Steady {
    /// Returns when the first request was answered.
    async fn start(context: &Context, args: &[&str]) -> Result<Self> {
        let mut command = sdk(context, &Sdk::Python.script().await?)?;
        command.args(["--concurrency", "4", "--until-stdin-closes", "--duration", LONGEST]).args(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("cannot start the steady requests")?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (stdin, stdout) = pipes.context("the steady requests have no pipes")?;
        let mut lines = BufReader::new(stdout).lines();
        let first = next(&mut lines).await?;
        ensure!(first == "serving", "the steady requests began with {first:?}");
        Ok(Self { child, stdin, lines })
    }

    async fn stop(mut self) -> Result<Load> {
        ensure!(self.child.try_wait()?.is_none(), "the steady requests ended before the work");
        drop(self.stdin);
        let last = next(&mut self.lines).await?;
        serde_json::from_str(&last).with_context(|| last.clone())
    }
}

async fn next(lines: &mut Lines<BufReader<ChildStdout>>) -> Result<String> {
    let line = tokio::time::timeout(EDGE, lines.next_line()).await.context("the steady requests hang")??;
    line.context("the steady requests ended early")
}
