//! Where a migration or a rollout stands: what the two report alike, and how each is asked for something. Pure.

use bifrost_crds::{BifrostGateway, MigrationPhase, MigrationStatus, RollbackStatus, RolloutStatus};
use bifrost_operator::migration::outlook::WAITS_FOR_KEY;
use bifrost_operator::migration::request;
use bifrost_operator::rollout;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::status::phase_word;

/// What moves by steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    /// Traffic, onto the gateway.
    Migration,
    /// A new revision of the gateway itself.
    Rollout,
}

impl Subject {
    /// The annotation by which it is asked for something.
    pub(crate) const fn annotation(self) -> &'static str {
        match self {
            Self::Migration => request::ANNOTATION,
            Self::Rollout => rollout::ANNOTATION,
        }
    }

    /// What stands behind a verb on the command line.
    pub(crate) const fn flag(self) -> &'static str {
        match self {
            Self::Migration => "",
            Self::Rollout => " --rollout",
        }
    }

    /// Where it stands; nothing is known of it until an operator has reported.
    pub(crate) fn standing(self, gateway: &BifrostGateway) -> Standing {
        let status = gateway.status.as_ref();
        match self {
            Self::Migration => status.and_then(|status| status.migration.as_ref()).map(Standing::from),
            Self::Rollout => status.and_then(|status| status.rollout.as_ref()).map(Standing::from),
        }
        .unwrap_or_default()
    }
}

/// Where it stands.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Standing {
    /// What it moves to.
    pub(crate) revision: Option<String>,
    pub(crate) phase: Option<MigrationPhase>,
    pub(crate) step: Option<String>,
    pub(crate) message: Option<String>,
    pub(crate) step_started_at: Option<Time>,
    pub(crate) hold_ends_at: Option<Time>,
    pub(crate) handled_request: Option<String>,
    /// Why that was refused.
    pub(crate) refusal: Option<String>,
    pub(crate) rollback: Option<RollbackStatus>,
}

impl From<&MigrationStatus> for Standing {
    fn from(status: &MigrationStatus) -> Self {
        let MigrationStatus {
            revision,
            phase,
            step,
            message,
            step_started_at,
            hold_ends_at,
            handled_request,
            refusal,
            rollback,
            ..
        } = status.clone();
        Self { revision, phase, step, message, step_started_at, hold_ends_at, handled_request, refusal, rollback }
    }
}

impl From<&RolloutStatus> for Standing {
    fn from(status: &RolloutStatus) -> Self {
        let RolloutStatus {
            candidate_revision: revision,
            phase,
            step,
            message,
            step_started_at,
            hold_ends_at,
            handled_request,
            refusal,
            rollback,
            ..
        } = status.clone();
        Self { revision, phase, step, message, step_started_at, hold_ends_at, handled_request, refusal, rollback }
    }
}

impl Standing {
    /// The step, if it takes steps.
    pub(crate) fn step(&self) -> Option<&str> {
        self.step.as_deref().filter(|step| *step != "-")
    }

    /// Whether it waits for a key of a provider: a promotion would send requests to what answers 503.
    pub(crate) fn waits_for_key(&self) -> bool {
        self.message.as_deref().is_some_and(|message| message.contains(WAITS_FOR_KEY))
    }

    /// All of it in one line.
    pub(crate) fn describe(&self) -> String {
        let place: Vec<_> = [self.phase.map(phase_word), self.step()].into_iter().flatten().collect();
        match (place.join(", "), self.message.as_deref()) {
            (place, None) => place,
            (place, Some(message)) if place.is_empty() => message.to_owned(),
            (place, Some(message)) => format!("{place}: {message}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::tests::{gateway, rolling_out};

    #[test]
    fn a_standing_is_read_from_either_status() {
        let migration = Subject::Migration.standing(&gateway());
        assert_eq!(migration.describe(), "Progressing, 2/4: 50 % after the hold");
        assert_eq!(migration.revision.as_deref(), Some("4f1c2a9b"));
        let rollout = Subject::Rollout.standing(&rolling_out());
        assert_eq!(rollout.describe(), "Paused, 1/3: 50 % waits for a promotion: kubectl bifrost promote --rollout");
        assert_eq!(rollout.revision.as_deref(), Some("9b1c2d3e4f"));
        assert_eq!(Subject::Rollout.standing(&gateway()), Standing::default());
    }
}
