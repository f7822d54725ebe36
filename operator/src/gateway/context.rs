//! What the reconciliations of one set of watches share, and what can go wrong in them.

use std::sync::Arc;

use kube::Client;

use super::memory::Memory;
use super::publish::TooLarge;
use super::validate::Policy;
use crate::cluster::writer::WriteError;
use crate::cluster::{Writer, brief, is_conflict};
use crate::confirm::{Confirmations, HttpPods};
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
    ) -> Self {
        Self { client, writer, recorder, metrics, policy, confirmations, memory: Memory::default() }
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
}

impl Error {
    /// Whether reading again and repeating at once is all that is needed.
    pub fn is_conflict(&self) -> bool {
        match self {
            Self::Api(error) => is_conflict(error),
            Self::Write(error) => error.is_conflict(),
            Self::TooLarge(_) | Self::Random => false,
        }
    }
}
