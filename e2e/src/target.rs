//! The cluster that commands and scenarios work on: the embedded one, or one that the user has.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Child,
};

use crate::{
    cluster::Cluster,
    components::Components,
    forward::{Destination, Serving},
    images::Image,
    kubernetes::Access,
    progress, run,
};

/// How long `kubectl port-forward` may take to open its port.
const FORWARD_LIMIT: Duration = Duration::from_secs(30);

/// A cluster and how it is reached.
#[derive(Debug, Clone)]
pub enum Target {
    /// The cluster that this program starts.
    Embedded(Cluster),
    /// A cluster of the user's, through a kubeconfig.
    External(Access),
}

/// A port of 127.0.0.1 that leads to a Service until it is dropped.
#[derive(Debug)]
pub enum ServicePort {
    /// Served by this program.
    Embedded(Serving),
    /// Served by a `kubectl port-forward`, which leads to one pod and ends with it.
    External {
        /// Where it listens.
        address: SocketAddr,
        /// Ends when dropped.
        child: Child,
    },
}

impl ServicePort {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        match self {
            Self::Embedded(serving) => serving.address(),
            Self::External { address, .. } => *address,
        }
    }
}

impl Target {
    /// A cluster of the user's: kubectl and Helm from the PATH, as they fit that cluster, else those built here.
    pub fn external(kubeconfig: Option<&Path>, context: Option<&str>) -> Result<Self> {
        let program = |name: &str| match run::find_program(name) {
            Some(path) => Ok(path),
            None => Components::located()?.program(name),
        };
        Ok(Self::External(Access {
            kubeconfig: kubeconfig.map_or_else(default_kubeconfig, |path| Ok(path.to_owned()))?,
            context: context.map(str::to_owned),
            kubectl: program("kubectl")?,
            helm: program("helm")?,
        }))
    }

    /// kubectl, Helm and a client for it.
    pub fn access(&self) -> Result<Access> {
        match self {
            Self::Embedded(cluster) => cluster.access(),
            Self::External(access) => Ok(access.clone()),
        }
    }

    /// The embedded cluster: what only works there (clients inside its network, stopping the API server) asks for it.
    pub fn embedded(&self) -> Option<&Cluster> {
        match self {
            Self::Embedded(cluster) => Some(cluster),
            Self::External(_) => None,
        }
    }

    /// Makes an image known to the embedded cluster. Another cluster must have it, or be able to pull it.
    pub async fn load_image(&self, image: &Image) -> Result<()> {
        match self {
            Self::Embedded(cluster) => cluster.load_image(image).await,
            Self::External(_) => {
                let (reference, archive) = (&image.reference, image.archive.display());
                progress::line(&format!("The cluster must have {reference}, as imported from {archive}"));
                Ok(())
            }
        }
    }

    /// Opens a port of 127.0.0.1 for a Service's port.
    pub async fn forward_service(&self, namespace: &str, name: &str, port: u16) -> Result<ServicePort> {
        match self {
            Self::Embedded(cluster) => {
                cluster.forward(Destination::service(namespace, name, port)).map(ServicePort::Embedded)
            }
            Self::External(access) => port_forward(access, namespace, name, port).await,
        }
    }
}

async fn port_forward(access: &Access, namespace: &str, name: &str, port: u16) -> Result<ServicePort> {
    let service = format!("service/{name}");
    let mut command = access.kubectl_command(["--namespace", namespace, "port-forward", &service, &format!(":{port}")]);
    command.stdout(std::process::Stdio::piped());
    let cannot = || format!("cannot forward {service} in {namespace}");
    let mut child = command.spawn().with_context(cannot)?;
    let output = child.stdout.take().with_context(cannot)?;
    let mut lines = BufReader::new(output).lines();
    let first =
        tokio::time::timeout(FORWARD_LIMIT, lines.next_line()).await.with_context(cannot)?.with_context(cannot)?;
    let address = first.as_deref().and_then(parse_forwarding).with_context(cannot)?;
    // It prints a line for each connection and would stop at a full pipe.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    Ok(ServicePort::External { address, child })
}

/// `Forwarding from 127.0.0.1:41234 -> 8080`.
fn parse_forwarding(line: &str) -> Option<SocketAddr> {
    line.strip_prefix("Forwarding from ")?.split_whitespace().next()?.parse().ok()
}

fn default_kubeconfig() -> Result<PathBuf> {
    let named = std::env::var_os("KUBECONFIG").filter(|value| !value.is_empty());
    named
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".kube/config")))
        .context("neither KUBECONFIG nor HOME is set")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_that_kubectl_chose_is_read() {
        let address = parse_forwarding("Forwarding from 127.0.0.1:41234 -> 8080").unwrap();
        assert_eq!(address, "127.0.0.1:41234".parse().unwrap());
        assert_eq!(parse_forwarding("error: no such service"), None);
    }
}
