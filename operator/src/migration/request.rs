//! What somebody asks of a migration: the annotation `bifrost.dev/request: <verb>/<id>`, or `<verb>/<id>@<revision>`, or
//! `<verb>/<id>@<revision>:<step>`.
//!
//! An id is handled once. With a revision it is only handled while that is the newest, so that nobody promotes what he has not seen; with
//! a step a promotion is only handled at that one, so that two who promote at the same time do not skip one.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The annotation.
pub const ANNOTATION: &str = "bifrost.dev/request";
/// Bytes of a request that count.
const MAX: usize = 200;
/// Requests that are remembered, so that an old object that is brought back asks for nothing again.
const REMEMBERED: usize = 16;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// The next stage, now.
    Promote,
    /// The last stage, now.
    PromoteFull,
    /// Back to the floor.
    Abort,
    /// After a rollback, the stage that it left.
    Retry,
    /// The first stage.
    Restart,
}

impl Verb {
    const ALL: [Self; 5] = [Self::Promote, Self::PromoteFull, Self::Abort, Self::Retry, Self::Restart];

    /// As the annotation spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Promote => "promote",
            Self::PromoteFull => "promote-full",
            Self::Abort => "abort",
            Self::Retry => "retry",
            Self::Restart => "restart",
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What was asked for so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requests {
    /// Requests that were handled or refused, the newest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    handled: Vec<String>,
    /// Why the newest was refused; none where it was followed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refusal: Option<String>,
}

impl Requests {
    /// At the very beginning. A request that is there already is not run: it may have come with a backup.
    pub fn new(there: Option<&str>) -> Self {
        let refusal = there.map(|_| {
            "it was there when the gateway was first seen, and may have come with a backup: ask again with another id"
                .to_owned()
        });
        Self { handled: there.map(kept).into_iter().collect(), refusal }
    }

    /// Whether a request is new; from now on it is not.
    pub fn takes(&mut self, request: &str) -> bool {
        let is_new = !self.had(request);
        if is_new {
            self.handled.push(kept(request));
            let forgotten = self.handled.len().saturating_sub(REMEMBERED);
            self.handled.drain(..forgotten);
            self.refusal = None;
        }
        is_new
    }

    /// Notes that the newest one is not followed.
    pub fn refuse(&mut self, why: &str) {
        self.refusal = Some(why.to_owned());
    }

    /// Whether a request was handled or refused.
    pub fn had(&self, request: &str) -> bool {
        self.handled.contains(&kept(request))
    }

    /// The newest.
    pub fn newest(&self) -> Option<&str> {
        self.handled.last().map(String::as_str)
    }

    /// Why that was refused.
    pub fn refusal(&self) -> Option<&str> {
        self.refusal.as_deref()
    }
}

/// As much of a request as is remembered and compared.
pub fn kept(text: &str) -> String {
    text[..text.floor_char_boundary(MAX)].to_owned()
}

/// Reads a request, and checks whether it is meant for this revision and this step, as the status spells it; with none
/// every step will do.
pub fn parse(text: &str, revision: &str, step: Option<&str>) -> Result<Verb, String> {
    let form = || {
        let verbs: Vec<_> = Verb::ALL.iter().map(|verb| verb.as_str()).collect();
        format!("{:?} is no request: write <verb>/<id>, with a verb of {}", kept(text), verbs.join(", "))
    };
    if text.len() > MAX {
        return Err(form());
    }
    let (verb, id) = text.split_once('/').ok_or_else(form)?;
    let verb = Verb::ALL.into_iter().find(|known| known.as_str() == verb).ok_or_else(form)?;
    let (id, pinned) = match id.split_once('@') {
        Some((id, pinned)) => (id, Some(pinned)),
        None => (id, None),
    };
    if id.is_empty() {
        return Err(form());
    }
    let Some(pinned) = pinned else { return Ok(verb) };
    let (for_revision, for_step) = match pinned.split_once(':') {
        Some((revision, step)) => (revision, Some(step)),
        None => (pinned, None),
    };
    let again = "look again, and ask again with another id";
    match (verb, for_step) {
        // Going back is right whatever the newest revision is.
        (Verb::Abort, _) => Ok(verb),
        _ if for_revision != revision => {
            Err(format!("it was meant for revision {for_revision}, and the newest is {revision}: {again}"))
        }
        (Verb::Promote, Some(seen)) => match step.filter(|step| *step != seen) {
            Some(step) => Err(format!("it was meant to leave step {seen}, and {step} has come meanwhile: {again}")),
            None => Ok(verb),
        },
        _ => Ok(verb),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_a_verb_an_id_and_perhaps_a_revision() {
        assert_eq!(parse("promote/1", "r", Some("1/4")), Ok(Verb::Promote));
        assert_eq!(parse("promote-full/a-b@r", "r", Some("1/4")), Ok(Verb::PromoteFull));
        for verb in Verb::ALL {
            assert_eq!(parse(&format!("{verb}/x"), "r", Some("1/4")), Ok(verb));
        }
    }

    #[test]
    fn anything_else_is_told_what_to_write() {
        for text in ["", "promote", "promote/", "promote/@r", "explode/1", "Promote/1"] {
            assert!(parse(text, "r", Some("1/4")).unwrap_err().contains("<verb>/<id>"), "{text}");
        }
        assert!(parse(&format!("promote/{}", "ä".repeat(MAX)), "r", Some("1/4")).is_err());
    }

    #[test]
    fn a_request_for_another_revision_is_refused() {
        assert!(parse("promote/1@old", "new", Some("1/4")).unwrap_err().contains("revision old"));
        assert_eq!(parse("abort/1@old", "new", Some("1/4")), Ok(Verb::Abort), "but for one to go back");
    }

    #[test]
    fn a_request_is_taken_once_and_a_refusal_is_of_the_newest() {
        let mut requests = Requests::new(Some("promote/0"));
        assert!(requests.refusal().unwrap().contains("backup"), "it is not run");
        assert!(!requests.takes("promote/0") && requests.takes("promote/1"));
        requests.refuse("why");
        assert!(!requests.takes("promote/1"));
        assert_eq!((requests.newest(), requests.refusal()), (Some("promote/1"), Some("why")));
        assert!(requests.takes("promote/2"));
        assert_eq!((requests.newest(), requests.refusal()), (Some("promote/2"), None));
        for id in 3..100 {
            requests.takes(&format!("promote/{id}"));
        }
        assert!(requests.handled.len() == REMEMBERED && requests.had("promote/99") && !requests.had("promote/3"));
    }

    #[test]
    fn a_promotion_of_another_step_is_refused() {
        assert_eq!(parse("promote/1@r:1/4", "r", Some("1/4")), Ok(Verb::Promote));
        let refused = parse("promote/2@r:1/4", "r", Some("2/4")).unwrap_err();
        assert!(refused.contains("to leave step 1/4, and 2/4 has come"), "{refused}");
        assert!(parse("promote/3@old:1/4", "r", Some("1/4")).is_err());
        for verb in [Verb::PromoteFull, Verb::Abort, Verb::Retry, Verb::Restart] {
            assert_eq!(parse(&format!("{verb}/4@r:1/4"), "r", Some("2/4")), Ok(verb));
        }
    }
}
