//! The window of one runtime: what its requests say of the arms since the split last changed.

use bifrost_analysis::{Arm as Side, Window};

use super::models::{ModelLabels, OTHER};
use super::outcome::{Arm, Copied, Outcome};

/// Requests counted since one mark of the split ([`super::Gatherer::mark_split`]).
#[derive(Debug, Clone, Default)]
pub(super) struct Marked {
    pub(super) since: u64,
    pub(super) window: Window,
}

impl Marked {
    /// Begins anew where the split has another mark.
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
