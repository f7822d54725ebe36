//! The commands: each a file with its arguments and what it does.

pub mod components;
pub mod down;
pub mod env;
pub mod forward;
pub mod images;
pub mod status;
pub mod test;
pub mod up;

use std::path::PathBuf;

use anyhow::Result;

use crate::{
    cluster::{Cluster, Options},
    forward::Destination,
    target::Target,
};

/// The name of the cluster that users work with.
pub const LOCAL: &str = "local";
/// The name of the cluster that scenarios run on.
pub const TEST: &str = "test";
/// Where the local API server is, on 127.0.0.1.
pub const API_PORT: u16 = 16443;
/// Where the example gateway's Service is, on 127.0.0.1.
pub const GATEWAY_PORT: u16 = 18080;

/// The Service of the example gateway.
pub fn gateway_service() -> Destination {
    Destination::service("llm", "ai", 8080)
}

/// Which cluster a command works on.
#[derive(Debug, Clone, clap::Args)]
pub struct TargetArgs {
    /// Use a cluster you have, by its context in the kubeconfig, in place of the embedded one
    #[arg(long)]
    pub context: Option<String>,
    /// Use a cluster you have, by its kubeconfig, in place of the embedded one
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
}

impl TargetArgs {
    /// The cluster that was named, or the embedded one, which is started if it does not run.
    pub async fn open(&self, embedded: &Options) -> Result<Target> {
        if self.is_external() {
            Target::external(self.kubeconfig.as_deref(), self.context.as_deref())
        } else {
            Cluster::start(embedded).await.map(Target::Embedded)
        }
    }

    /// Whether a cluster was named.
    pub fn is_external(&self) -> bool {
        self.context.is_some() || self.kubeconfig.is_some()
    }
}
