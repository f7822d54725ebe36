//! What the reconciliations of one set of watches share, and what can go wrong in them.

use std::sync::Arc;

use kube::Client;

use super::memory::Memory;
use super::part::Part;
use super::publish::TooLarge;
use super::validate::Policy;
use crate::analysis::Analyses;
use crate::cluster::writer::WriteError;
use crate::cluster::{Writer, brief, is_conflict};
use crate::confirm::{Confirmations, GatewayName, HttpPods};
use crate::events::Recorder;
use crate::metrics::Metrics;

/// What the reconciliations of one set of watches share.
pub struct Context {
    /// Reads.
    pub client: Client,
    /// Writes.
    pub writer: Writer,
    /// Publishes events.
    pub recorder: Recorder,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// This operator's rules.
    pub policy: Policy,
    /// What the pods confirm.
    pub confirmations: Confirmations<HttpPods>,
    /// What the pods counted of migrations.
    pub analyses: Analyses<HttpPods>,
    /// What they counted of rollouts.
    pub rollout_analyses: Analyses<HttpPods>,
    pub(super) memory: Memory,
}

impl Context {
    /// Puts the parts together.
    pub fn new(
        client: Client,
        writer: Writer,
        recorder: Recorder,
        metrics: Arc<Metrics>,
        policy: Policy,
        confirmations: Confirmations<HttpPods>,
        (analyses, rollout_analyses): (Analyses<HttpPods>, Analyses<HttpPods>),
    ) -> Self {
        let memory = Memory::default();
        Self { client, writer, recorder, metrics, policy, confirmations, analyses, rollout_analyses, memory }
    }

    /// Forgets every gateway that does not exist any more: a controller is not woken by a deletion.
    pub fn sweep(&self, exists: impl Fn(&GatewayName) -> bool) {
        for gone in self.memory.names().iter().filter(|name| !exists(name)) {
            self.forget(gone);
        }
    }

    /// The gateway is gone; the garbage collector takes its objects.
    pub(super) fn forget(&self, name: &GatewayName) {
        self.confirmations.forget(name);
        self.analyses.forget(name);
        self.rollout_analyses.forget(name);
        self.memory.forget(name);
        self.metrics.forget(&name.0, &name.1);
        self.forget_writes(name);
        tracing::info!(namespace = name.0, gateway = name.1, "the gateway is gone");
    }

    /// What was written for a gateway's objects.
    pub(super) fn forget_writes(&self, name: &GatewayName) {
        let owned: Vec<_> = Part::ALL.iter().map(|part| part.name(&name.1)).collect();
        self.writer.forget(&name.0, &owned);
    }
}

/// Why a reconciliation is repeated.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something could not be read, or the status not be written.
    #[error("{}", brief(.0))]
    Api(#[from] kube::Error),
    /// Something could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// What takes away made the configuration larger: that cannot be.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// The system gave no random bytes for a token.
    #[error("no random bytes for the admin token")]
    Random,
    /// The reconciliation hangs.
    #[error("it took too long")]
    TooLong,
}

impl Error {
    /// Whether reading again and repeating at once is all that is needed.
    pub fn is_conflict(&self) -> bool {
        match self {
            Self::Api(error) => is_conflict(error),
            Self::Write(error) => error.is_conflict(),
            Self::TooLarge(_) | Self::Random | Self::TooLong => false,
        }
    }
}
