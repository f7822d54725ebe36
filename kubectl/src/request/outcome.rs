//! What became of a request, from where it stood before and after it.

use crate::standing::Standing;

/// What became of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is elsewhere than before.
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
pub(super) fn outcome(before: &Standing, after: &Standing, refusal: Option<&str>) -> Outcome {
    if let Some(words) = refusal {
        return Outcome::Refused(words.to_owned());
    }
    let text = after.describe();
    if before.is_where(after) { Outcome::Same(text) } else { Outcome::Moved(text) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::standing::Subject;
    use crate::status::tests::gateway;

    #[test]
    fn a_new_step_says_that_the_request_was_followed() {
        let before = Subject::Migration.standing(&gateway());
        let after = Standing { step: Some("3/4".into()), ..before.clone() };
        let Outcome::Moved(text) = outcome(&before, &after, None) else { panic!("not moved") };
        assert_eq!(text, "Progressing, 3/4: 50 % after the hold");
    }

    #[test]
    fn an_event_says_that_it_was_refused() {
        let same = Subject::Migration.standing(&gateway());
        assert_eq!(outcome(&same, &same, Some("another revision")), Outcome::Refused("another revision".into()));
    }

    #[test]
    fn where_nothing_moved_an_event_is_waited_for() {
        let same = Subject::Migration.standing(&gateway());
        assert!(outcome(&same, &same, None).is_open());
    }
}
