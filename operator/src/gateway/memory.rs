//! What this process remembers of a gateway between two reconciliations. Nothing depends on it: with all of it lost, only an event
//! is worded differently or an object is read once more.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use bifrost_config::published::{STABLE, TrafficTable};
use tokio::time::{Duration, Instant};

use super::observe::Observed;
use super::publish::Publication;
use crate::confirm::{GatewayName, Summary};

#[derive(Default)]
struct Entry {
    uid: String,
    /// The table that was published last, and the configuration beside it.
    published: Option<(TrafficTable, Option<String>)>,
    /// Since when a published table waits for its confirmation.
    waiting_since: Option<Instant>,
    /// Whether leftovers of earlier releases were looked for.
    pruned: bool,
    /// Reconciliations in a row that could not write everything.
    failures: u32,
    /// Epoch for which a skewed cohort was reported.
    skew_reported: Option<u64>,
}

/// The memory of all gateways.
#[derive(Default)]
pub(super) struct Memory(Mutex<HashMap<GatewayName, Entry>>);

impl Memory {
    /// Whether this was published before, so that writing it again repairs what somebody else did.
    pub(super) fn repeats(&self, observed: &Observed, publication: &Publication) -> bool {
        self.with(observed, |entry| {
            entry.published.as_ref().is_some_and(|(table, stable)| {
                let same = TrafficTable { epoch: table.epoch, ..publication.traffic.clone() };
                same == *table && stable.as_ref() == publication.data.get(STABLE)
            })
        })
    }

    /// Notes what is published now.
    pub(super) fn published(&self, observed: &Observed, publication: &Publication) {
        self.with(observed, |entry| {
            let new = entry.published.as_ref().is_none_or(|(table, _)| table.epoch != publication.traffic.epoch);
            if new {
                entry.waiting_since = Some(Instant::now());
            }
            entry.published = Some((publication.traffic.clone(), publication.data.get(STABLE).cloned()));
        });
    }

    /// How long the pods took, once, when they all confirm.
    pub(super) fn confirmed(&self, observed: &Observed, summary: &Summary) -> Option<Duration> {
        self.with(observed, |entry| match summary.programmed {
            true => entry.waiting_since.take().map(|since| since.elapsed()),
            false => None,
        })
    }

    /// Notes whether everything could be written; returns how often in a row it could not.
    pub(super) fn failures(&self, observed: &Observed, failed: bool) -> u32 {
        self.with(observed, |entry| {
            entry.failures = if failed { entry.failures.saturating_add(1) } else { 0 };
            entry.failures
        })
    }

    /// Whether a skewed cohort is to be reported: once for an epoch.
    pub(super) fn report_skew(&self, observed: &Observed, epoch: u64) -> bool {
        self.with(observed, |entry| entry.skew_reported.replace(epoch) != Some(epoch))
    }

    /// Whether leftovers are still to be looked for.
    pub(super) fn begin_prune(&self, observed: &Observed) -> bool {
        self.with(observed, |entry| !entry.pruned)
    }

    /// They were.
    pub(super) fn end_prune(&self, observed: &Observed) {
        self.with(observed, |entry| entry.pruned = true);
    }

    /// Forgets a gateway.
    pub(super) fn forget(&self, gateway: &GatewayName) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(gateway);
    }

    fn with<T>(&self, observed: &Observed, act: impl FnOnce(&mut Entry) -> T) -> T {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = entries.entry((observed.namespace().to_owned(), observed.name().to_owned())).or_default();
        if entry.uid != observed.uid() {
            *entry = Entry { uid: observed.uid().to_owned(), ..Entry::default() };
        }
        act(entry)
    }
}
