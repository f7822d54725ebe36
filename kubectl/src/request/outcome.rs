//! What became of a request, from the status before and after it.

use bifrost_crds::{BifrostGateway, MigrationStatus};

use crate::status::phase_word;

/// What became of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The migration is elsewhere than before.
    Moved(String),
    /// It was handled, and nothing shows that it moved.
    Same(String),
    /// The operator did not follow it, and why.
    Refused(String),
}

impl Outcome {
    /// Whether an event may say more.
    pub(super) const fn is_open(&self) -> bool {
        matches!(self, Self::Same(_))
    }
}

/// Compares what was before with what is after the request was handled.
pub(super) fn outcome(before: &BifrostGateway, after: &BifrostGateway, refusal: Option<&str>) -> Outcome {
    let migration = |gateway: &BifrostGateway| {
        gateway.status.as_ref().and_then(|status| status.migration.clone()).unwrap_or_default()
    };
    let (before, after) = (migration(before), migration(after));
    if let Some(words) = refusal {
        return Outcome::Refused(words.to_owned());
    }
    let place = |migration: &MigrationStatus| {
        (migration.phase, migration.step.clone(), migration.step_started_at.clone(), migration.rollback.clone())
    };
    let text = describe(&after);
    if place(&before) == place(&after) { Outcome::Same(text) } else { Outcome::Moved(text) }
}

/// A migration in one line.
pub(crate) fn describe(migration: &MigrationStatus) -> String {
    // A strategy that takes no steps has none.
    let step = migration.step.as_deref().filter(|step| *step != "-");
    let place = [migration.phase.map(phase_word), step];
    let place: Vec<_> = place.into_iter().flatten().collect();
    match (place.join(", "), migration.message.as_deref()) {
        (place, None) => place,
        (place, Some(message)) if place.is_empty() => message.to_owned(),
        (place, Some(message)) => format!("{place}: {message}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::tests::gateway;

    fn changed(change: impl FnOnce(&mut MigrationStatus)) -> BifrostGateway {
        let mut gateway = gateway();
        change(gateway.status.as_mut().unwrap().migration.as_mut().unwrap());
        gateway
    }

    #[test]
    fn a_new_step_says_that_the_request_was_followed() {
        let after = changed(|migration| migration.step = Some("3/4".into()));
        let Outcome::Moved(text) = outcome(&gateway(), &after, None) else { panic!("not moved") };
        assert_eq!(text, "Progressing, 3/4: 50 % after the hold");
    }

    #[test]
    fn an_event_says_that_it_was_refused() {
        let refused = Outcome::Refused("another revision".into());
        assert_eq!(outcome(&gateway(), &gateway(), Some("another revision")), refused);
    }

    #[test]
    fn where_nothing_moved_an_event_is_waited_for() {
        assert!(outcome(&gateway(), &gateway(), None).is_open());
    }
}
