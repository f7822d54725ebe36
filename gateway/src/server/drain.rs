//! How far the pod is on its way out.

use std::sync::atomic::{AtomicU8, Ordering};

/// The stages of a drain, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Stage {
    /// In full service.
    Serving = 0,
    /// Not ready any more; requests are served and their connections closed after the answer.
    Closing = 1,
    /// Nothing new is accepted; idle connections are closed after a short silence.
    Stopping = 2,
    /// Time is up: streams get an error event.
    Cutoff = 3,
}

/// The stage, shared by all runtimes.
#[derive(Debug, Default)]
pub struct Drain(AtomicU8);

impl Drain {
    /// The stage now.
    pub fn stage(&self) -> Stage {
        match self.0.load(Ordering::Relaxed) {
            0 => Stage::Serving,
            1 => Stage::Closing,
            2 => Stage::Stopping,
            _ => Stage::Cutoff,
        }
    }

    /// Moves on; never back.
    pub fn advance(&self, stage: Stage) {
        self.0.fetch_max(stage as u8, Ordering::Relaxed);
    }

    /// Whether the pod is on its way out.
    pub fn has_begun(&self) -> bool {
        self.stage() > Stage::Serving
    }
}
