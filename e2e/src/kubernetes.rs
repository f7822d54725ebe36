//! Talking to a cluster: a client for this program, and kubectl and Helm as a user runs them.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio::process::Command;

use crate::{paths, run};

/// A client of the cluster that a kubeconfig names; `context` none: the current one.
pub async fn client(kubeconfig: &Path, context: Option<&str>) -> Result<kube::Client> {
    let cannot = || format!("cannot use {}", kubeconfig.display());
    let config = Kubeconfig::read_from(kubeconfig).with_context(cannot)?;
    let options = KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
    let config = kube::Config::from_custom_kubeconfig(config, &options).await.with_context(cannot)?;
    kube::Client::try_from(config).with_context(cannot)
}

/// How to reach a cluster with the programs that users have.
#[derive(Debug, Clone)]
pub struct Access {
    /// The kubeconfig.
    pub kubeconfig: PathBuf,
    /// Its context; none: the current one.
    pub context: Option<String>,
    /// The program `kubectl`.
    pub kubectl: PathBuf,
    /// The program `helm`.
    pub helm: PathBuf,
}

impl Access {
    /// A kubectl command.
    pub fn kubectl_command<S: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        self.command(&self.kubectl, "--context", args)
    }

    /// Runs kubectl and returns what it printed.
    pub async fn kubectl<S: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Result<String> {
        run::stdout_of(&mut self.kubectl_command(args)).await
    }

    /// Applies manifests, YAML or JSON, any number of documents, as a user does: `kubectl apply -f -`.
    pub async fn apply(&self, namespace: Option<&str>, manifests: &str) -> Result<String> {
        let mut command = self.kubectl_command(["apply", "-f", "-"]);
        if let Some(namespace) = namespace {
            command.args(["--namespace", namespace]);
        }
        run::stdout_with_input(&mut command, manifests.as_bytes()).await
    }

    /// Runs Helm and returns what it printed.
    pub async fn helm<S: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Result<String> {
        run::stdout_of(&mut self.command(&self.helm, "--kube-context", args)).await
    }

    /// A client for this program.
    pub async fn client(&self) -> Result<kube::Client> {
        client(&self.kubeconfig, self.context.as_deref()).await
    }

    fn command<S: AsRef<std::ffi::OsStr>>(
        &self,
        program: &Path,
        context_flag: &str,
        args: impl IntoIterator<Item = S>,
    ) -> Command {
        let mut command = run::command(program);
        command.env("KUBECONFIG", &self.kubeconfig);
        if let Ok(cache) = paths::cache_root() {
            command.env("KUBECACHEDIR", cache.join("kubectl"));
        }
        if let Some(context) = &self.context {
            command.args([context_flag, context]);
        }
        command.args(args);
        command
    }
}
