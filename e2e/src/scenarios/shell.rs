//! Commands as a user types them: kubectl, its plugin and the tools of every system, in a folder and with a kubeconfig of their own.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use crate::{
    components::{self, PLUGIN},
    run,
    scenarios::Context,
};

/// A shell whose current namespace is the scenario's.
pub(super) struct Shell {
    folder: TempDir,
    kubeconfig: PathBuf,
    path: String,
    transcript: String,
}

impl Shell {
    /// Opens one.
    pub(super) async fn open(context: &Context) -> Result<Self> {
        let folder = tempfile::tempdir().context("no temporary folder")?;
        let kubeconfig = folder.path().join(".kubeconfig");
        std::fs::copy(&context.access.kubeconfig, &kubeconfig).context("cannot copy the kubeconfig")?;
        let plugin = components::plugin().with_context(|| format!("{PLUGIN} is not built: cargo build -p {PLUGIN}"))?;
        let beside = plugin.parent().context("a program without a folder")?;
        let kubectl = context.access.kubectl.parent().context("kubectl without a folder")?;
        let path = std::env::var("PATH").unwrap_or_default();
        let path = format!("{}:{}:{path}", kubectl.display(), beside.display());
        let shell = Self { folder, kubeconfig, path, transcript: String::new() };
        if let Some(name) = &context.access.context {
            shell.output(&format!("kubectl config use-context {name}")).await?;
        }
        shell.output(&format!("kubectl config set-context --current --namespace={}", context.namespace)).await?;
        Ok(shell)
    }

    /// Writes a file into the shell's folder.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<()> {
        std::fs::write(self.folder.path().join(name), text).with_context(|| format!("cannot write {name}"))
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

    /// Everything that was typed and printed.
    pub(super) fn transcript(&self) -> &str {
        &self.transcript
    }

    async fn output(&self, command: &str) -> Result<(String, bool)> {
        let mut shell = run::command("sh");
        shell.current_dir(self.folder.path()).env("PATH", &self.path).env("KUBECONFIG", &self.kubeconfig);
        run::without_proxies(&mut shell);
        let output = run::output_of(shell.args(["-c", &format!("{{ {command}\n}} 2>&1")])).await?;
        Ok((String::from_utf8_lossy(&output.stdout).into_owned(), output.status.success()))
    }
}
