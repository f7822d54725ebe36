//! The windows of one runtime: what its requests say of the arms since the split last changed, and of a rollout's revisions since the
//! candidate got its share.

use std::sync::atomic::{AtomicU64, Ordering};

use bifrost_analysis::{Arm as Side, Window};

use super::models::{ModelLabels, OTHER};
use super::outcome::{Arm, Copied, OfRevision, Outcome};

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// The arms.
    Arms,
    /// The revisions of a rollout: stable stands where the baseline arm does, the candidate where the bifrost arm does.
    Revisions,
}

/// Since which epochs is counted; 0 for the revisions: no rollout. Read by every request, written only by a new table.
#[derive(Debug, Default)]
pub(super) struct Marks([AtomicU64; 2]);

impl Marks {
    pub(super) fn of(&self, comparison: Comparison) -> u64 {
        self.0[comparison as usize].load(Ordering::Relaxed)
    }

    pub(super) fn set(&self, comparison: Comparison, epoch: u64) {
        self.0[comparison as usize].store(epoch, Ordering::Relaxed);
    }
}

/// Requests counted since one mark ([`super::Gatherer::mark`]).
#[derive(Debug, Clone, Default)]
pub(super) struct Marked {
    pub(super) since: u64,
    pub(super) window: Window,
}

impl Marked {
    /// Begins anew where there is another mark.
    pub(super) fn turn_to(&mut self, since: u64) {
        if self.since != since {
            *self = Self { since, window: Window::new() };
        }
    }

    /// Counts a request if it says something of its arm.
    pub(super) fn record(&mut self, outcome: &Outcome<'_>, models: &ModelLabels) {
        let Some((compared, arm)) = outcome.compared.as_ref().zip(outcome.arm) else { return };
        let arm = match arm {
            Arm::Baseline => Side::Baseline,
            Arm::Bifrost => Side::Bifrost,
        };
        let model = known(models, outcome.model, outcome.is_confirmed());
        self.window.record((outcome.provider, model, compared.kind, compared.stream), arm, &compared.sample);
    }

    /// Counts a request for its revision. What the revisions make of it may differ, so its stratum is what the client asked for.
    pub(super) fn record_revision(&mut self, outcome: &Outcome<'_>, models: &ModelLabels) {
        let Some(OfRevision { candidate, model, compared }) = outcome.of_revision else { return };
        let side = if candidate { Side::Bifrost } else { Side::Baseline };
        // A provider's name in front is the same model, and what clients call one must not take the place of what providers confirm.
        let alone = model.split_once('/').map_or(model, |(_, rest)| rest);
        let known = [model, alone].into_iter().find(|name| name.is_empty() || models.has(name, false));
        let model = known.unwrap_or(OTHER);
        self.window.record((outcome.front, model, compared.kind, compared.stream), side, &compared.sample);
    }

    /// Counts a copy.
    pub(super) fn record_copy(&mut self, copied: &Copied<'_>, models: &ModelLabels) {
        let model = known(models, copied.model, true);
        self.window.record_copy((copied.provider, model, copied.kind, copied.stream), copied.group, copied.agrees);
    }
}

/// Names that anybody can make up must not fill the window.
fn known<'m>(models: &ModelLabels, model: &'m str, confirmed: bool) -> &'m str {
    if model.is_empty() || models.has(model, confirmed) { model } else { OTHER }
}
