//! Somebody who types what a page says, inside the cluster's network, and looks whether the page is right.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Child,
    time::timeout,
};

use super::manifests;
use crate::{
    scenarios::{Context, gateway, objects, shell::Shell},
    wait,
};

/// How long it may take until a command prints what it should: most look at what comes after a change.
const LIMIT: Duration = Duration::from_secs(60);
/// What a page calls its namespace, wherever that stands.
const NAMESPACE: [&str; 4] = ["-n llm", ".llm.svc", "namespace llm", "namespace: llm"];
/// What commands have that look, …
const LOOKS: [&str; 6] = [
    "kubectl get ",
    "kubectl describe ",
    "kubectl events ",
    "kubectl bifrost status ",
    "kubectl bifrost analysis ",
    "curl ",
];
/// … and what those have that change something too. What only looks is repeated until it prints what it should, the rest is run once.
const CHANGES: [&str; 2] = ["| kubectl ", "kubectl annotate "];
/// How an answer names the arm that served it.
const ARM: &str = "x-bf-arm: ";
/// How a command ends that runs in the background.
const BACKGROUND: &str = " &";
/// What makes a command print every change, without an end.
const WATCH: &str = " -w";

/// One thing to do. The second text is what must be printed.
#[derive(Debug, Clone, Copy)]
pub(in crate::scenarios) enum Line {
    /// A command of a page.
    Page(&'static str, &'static str),
    /// A command of a page that must fail.
    Refused(&'static str, &'static str),
    /// What no page says: a fault that is made, or a look at what a command led to.
    Own(&'static str, &'static str),
    /// A variable of the environment has another value from now on.
    Set(&'static str, &'static str),
}

impl Line {
    /// The command, as a page has it; none of a page's for what is the test's own.
    pub(in crate::scenarios) const fn of_page(&self) -> Option<&'static str> {
        match self {
            Self::Page(command, _) | Self::Refused(command, _) => Some(command),
            Self::Own(..) | Self::Set(..) => None,
        }
    }

    /// What must be printed.
    pub(in crate::scenarios) const fn wanted(&self) -> &'static str {
        let (Self::Page(_, wanted) | Self::Refused(_, wanted) | Self::Own(_, wanted) | Self::Set(_, wanted)) = self;
        wanted
    }
}

/// A reader with a shell.
pub(in crate::scenarios) struct Reader<'a> {
    context: &'a Context,
    shell: Shell,
    /// The `kubectl port-forward` that runs; a later one takes its port.
    background: Option<Child>,
    commands: usize,
    began: Instant,
}

impl<'a> Reader<'a> {
    /// With the applications' credentials in the environment, in a folder with the examples.
    pub(in crate::scenarios) async fn new(context: &'a Context) -> Result<Self> {
        context.stage.vendors.trust_in(&context.target, &context.namespace).await?;
        let mut shell = Shell::open_inside(context).await?;
        shell.set("OPENAI_API_KEY", gateway::APP_OPENAI);
        shell.set("ANTHROPIC_API_KEY", gateway::APP_ANTHROPIC);
        shell.set("NEW_KEY", gateway::POOL_OPENAI);
        let reader = Self { context, shell, background: None, commands: 0, began: Instant::now() };
        for page in manifests::EXAMPLES {
            reader.write(page.path, &manifests::for_fake_vendors(page.text)?)?;
        }
        Ok(reader)
    }

    /// Writes a file of the folder, with this namespace in place of the page's.
    pub(in crate::scenarios) fn write(&self, name: &str, text: &str) -> Result<()> {
        self.shell.write(name, &self.as_here(text))
    }

    /// Does it all, in this order.
    pub(in crate::scenarios) async fn follow(&mut self, lines: &[Line]) -> Result<()> {
        for line in lines {
            self.line(*line).await?;
        }
        Ok(())
    }

    /// Ends what runs in the background, and says how much was done.
    pub(in crate::scenarios) async fn close(mut self) {
        self.end_background().await;
        println!("  {} commands of pages in {:.0} s", self.commands, self.began.elapsed().as_secs_f64());
    }

    /// Waits for its end: it has to leave its port. The pod that it led to may have ended it already.
    async fn end_background(&mut self) {
        if let Some(mut old) = self.background.take() {
            let _ = old.kill().await;
        }
    }

    /// Waits until there are the pods that there shall be and no others: `kubectl port-forward` takes of a Deployment's pods the one that
    /// has been ready for the longest time, also while that is on its way out.
    async fn pods_are_settled(&self) -> Result<()> {
        let replicas = objects::get(self.context, gateway::OBJECT).await?["spec"]["replicas"].as_u64();
        let replicas = usize::try_from(replicas.context("no replicas")?)?;
        self.context.wait_for_pods(&gateway::selector(), replicas, LIMIT).await.map(drop)
    }

    async fn line(&mut self, line: Line) -> Result<()> {
        self.commands += usize::from(line.of_page().is_some());
        let text = match line {
            Line::Page(text, _) | Line::Refused(text, _) | Line::Own(text, _) => text,
            Line::Set(name, value) => {
                self.shell.set(name, value);
                return Ok(());
            }
        };
        let command = self.as_here(text);
        if let Some(command) = command.strip_suffix(BACKGROUND) {
            self.end_background().await;
            self.pods_are_settled().await?;
            self.background = Some(self.seen(command, line.wanted()).await?);
            return Ok(());
        }
        if command.ends_with(WATCH) {
            return self.seen(&command, line.wanted()).await.map(drop);
        }
        let contains = |words: &[&str]| words.iter().any(|word| command.contains(word));
        if contains(&LOOKS) && !contains(&CHANGES) {
            return wait::wait_until(text, LIMIT, || self.run(&command, line)).await;
        }
        self.run(&command, line).await.with_context(|| text).map(drop)
    }

    /// Runs a command to its end; an error unless it prints what it should.
    async fn run(&self, command: &str, line: Line) -> Result<bool> {
        let (printed, succeeded) = self.shell.output(command).await?;
        let succeeds = !matches!(line, Line::Refused(..));
        ensure!(succeeded == succeeds && printed.contains(line.wanted()), "no {:?} in: {printed}", line.wanted());
        // A refusal names an arm too.
        ensure!(!line.wanted().starts_with(ARM) || printed.contains("HTTP/1.1 200"), "not served: {printed}");
        Ok(true)
    }

    /// Starts a command that does not end by itself, and waits until it has printed this. It ends when it is dropped.
    async fn seen(&self, command: &str, wanted: &str) -> Result<Child> {
        // In the shell's own process: else only the shell would be ended.
        let mut child = self.shell.command(&format!("exec {command} 2>&1")).stdout(Stdio::piped()).spawn()?;
        let mut lines = BufReader::new(child.stdout.take().context("a command without output")?).lines();
        let mut printed = String::new();
        let found = timeout(LIMIT, async {
            while let Some(line) = lines.next_line().await? {
                printed.push_str(&line);
                printed.push('\n');
                if line.contains(wanted) {
                    return anyhow::Ok(true);
                }
            }
            Ok(false)
        })
        .await;
        ensure!(matches!(found, Ok(Ok(true))), "{command}: no {wanted:?} in: {printed}");
        // It prints more, and would stop at a full pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(child)
    }

    /// A text of a page, with this namespace in place of the page's, and hosts that are there.
    fn as_here(&self, text: &str) -> String {
        let here = NAMESPACE
            .iter()
            .fold(text.to_owned(), |text, found| text.replace(found, &found.replace("llm", &self.context.namespace)));
        manifests::with_fake_hosts(&here)
    }
}
