//! Commands as a user types them: kubectl, its plugin and the tools of every system, in a folder and with a kubeconfig of their own.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::{
    cluster::Cluster,
    components::{self, PLUGIN},
    files, run,
    scenarios::Context,
    wait,
};

/// How long it may take until a command prints what it is to print.
const LIMIT: Duration = Duration::from_secs(40);

/// A shell whose current namespace is the scenario's.
pub(super) struct Shell {
    folder: TempDir,
    /// The cluster in whose network it is; none: outside.
    inside: Option<Cluster>,
    variables: Vec<(&'static str, String)>,
    transcript: String,
}

impl Shell {
    /// Opens one.
    pub(super) async fn open(context: &Context) -> Result<Self> {
        Self::with(context, &context.access.kubeconfig, None).await
    }

    /// Opens one inside the embedded cluster's network, where Services have names. Ports that are forwarded there are in nobody's way.
    pub(super) async fn open_inside(context: &Context) -> Result<Self> {
        let cluster = context.embedded()?;
        Self::with(context, &cluster.layout().admin_kubeconfig(), Some(cluster.clone())).await
    }

    async fn with(context: &Context, kubeconfig: &Path, inside: Option<Cluster>) -> Result<Self> {
        let folder = tempfile::tempdir().context("no temporary folder")?;
        let own = folder.path().join(".kubeconfig");
        std::fs::copy(kubeconfig, &own).context("cannot copy the kubeconfig")?;
        let plugin = components::plugin().with_context(|| format!("{PLUGIN} is not built: cargo build -p {PLUGIN}"))?;
        let beside = plugin.parent().context("a program without a folder")?;
        let kubectl = context.access.kubectl.parent().context("kubectl without a folder")?;
        let helm = context.access.helm.parent().context("helm without a folder")?;
        let path = std::env::var("PATH").unwrap_or_default();
        let path = format!("{}:{}:{}:{path}", kubectl.display(), helm.display(), beside.display());
        let variables = vec![("PATH", path), ("KUBECONFIG", own.display().to_string())];
        let shell = Self { folder, inside, variables, transcript: String::new() };
        if let Some(name) = &context.access.context {
            shell.output(&format!("kubectl config use-context {name}")).await?;
        }
        shell.output(&format!("kubectl config set-context --current --namespace={}", context.namespace)).await?;
        Ok(shell)
    }

    /// Sets a variable of its environment.
    pub(super) fn set(&mut self, name: &'static str, value: &str) {
        self.variables.push((name, value.to_owned()));
    }

    /// Writes a file into the shell's folder.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<()> {
        files::write(&self.folder.path().join(name), text)
    }

    /// Runs a command that succeeds, and returns what it printed on both channels.
    pub(super) async fn run(&mut self, command: &str) -> Result<String> {
        let (text, succeeded) = self.output(command).await?;
        self.transcript.push_str(&format!("$ {command}\n{text}\n"));
        ensure!(succeeded, "{command}: {text}");
        Ok(text)
    }

    /// Runs a command that fails, and returns what it printed.
    pub(super) async fn refused(&mut self, command: &str) -> Result<String> {
        let (text, succeeded) = self.output(command).await?;
        self.transcript.push_str(&format!("$ {command}\n{text}\n"));
        ensure!(!succeeded, "{command} succeeded: {text}");
        Ok(text)
    }

    /// As [`Shell::run`]; what is printed holds these words.
    pub(super) async fn says(&mut self, command: &str, words: &[&str]) -> Result<String> {
        holds(self.run(command).await?, command, words)
    }

    /// As [`Shell::refused`]; what is printed holds these words.
    pub(super) async fn refuses(&mut self, command: &str, words: &[&str]) -> Result<String> {
        holds(self.refused(command).await?, command, words)
    }

    /// Runs a command until what it prints holds these words.
    pub(super) async fn comes_to_say(&self, command: &str, words: &[&str]) -> Result<String> {
        wait::wait_for(&format!("{command} to print {words:?}"), LIMIT, || async {
            holds(self.try_run(command).await?, command, words).map(Some)
        })
        .await
    }

    /// Runs a command whatever comes of it, and returns what it printed.
    pub(super) async fn try_run(&self, command: &str) -> Result<String> {
        Ok(self.output(command).await?.0)
    }

    /// Runs a command that succeeds in the embedded cluster's network, by its DNS.
    pub(super) async fn run_inside(&self, cluster: &Cluster, command: &str) -> Result<String> {
        let output = run::output_of(&mut self.given(cluster.command_inside("sh"), &both_channels(command))).await?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success(), "{command}: {text}");
        Ok(text)
    }

    /// Starts a command whose standard output goes into a file of the shell's folder. It is killed when it is dropped.
    pub(super) fn start(&self, command: &str, file: &str) -> Result<Child> {
        self.command(&format!("{{ exec {command} > {file}\n}} 2>&1"))
            .spawn()
            .with_context(|| format!("cannot start {command}"))
    }

    /// Everything that was typed and printed.
    pub(super) fn transcript(&self) -> &str {
        &self.transcript
    }

    /// Runs a command, and returns what it printed on both channels and whether it succeeded.
    pub(super) async fn output(&self, command: &str) -> Result<(String, bool)> {
        let output = run::output_of(&mut self.command(&both_channels(command))).await?;
        Ok((String::from_utf8_lossy(&output.stdout).into_owned(), output.status.success()))
    }

    /// A script, to be started.
    pub(super) fn command(&self, script: &str) -> Command {
        self.given(
            self.inside.as_ref().map_or_else(|| run::command("sh"), |cluster| cluster.command_inside("sh")),
            script,
        )
    }

    /// A program that is a shell, with a script for it.
    fn given(&self, mut shell: Command, script: &str) -> Command {
        run::without_proxies(&mut shell);
        shell.current_dir(self.folder.path()).envs(self.variables.iter().map(|(name, value)| (*name, value)));
        shell.args(["-c", script]);
        shell
    }
}

fn both_channels(command: &str) -> String {
    format!("{{ {command}\n}} 2>&1")
}

fn holds(text: String, command: &str, words: &[&str]) -> Result<String> {
    for word in words {
        ensure!(text.contains(word), "{command}: no {word:?} in:\n{text}");
    }
    Ok(text)
}
