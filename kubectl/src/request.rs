//! `promote`, `abort`, `retry`, `restart`: a request to the operator, by annotation, and what became of it.

mod outcome;

use bifrost_crds::BifrostGateway;
use bifrost_operator::migration::request::ANNOTATION;
pub(crate) use bifrost_operator::migration::request::Verb;
use k8s_openapi::api::core::v1::Event;
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::json;
use tokio::time::{Duration, Instant, sleep};

pub(crate) use self::outcome::describe;
use self::outcome::{Outcome, outcome};
use crate::cli::RequestArgs;
use crate::failure::Failure;
use crate::human;
use crate::run::{note, say};
use crate::session::Session;
use crate::wait::{Waited, wait};

/// Reason of the event about a request that the operator did not follow.
const REFUSED: &str = "RequestRefused";
/// How long an event may come after the status that it belongs to.
const EVENT_DELAY: Duration = Duration::from_secs(2);

/// Writes the request and waits until it was handled.
pub(crate) async fn run(session: &Session, verb: Verb, args: &RequestArgs) -> Result<(), Failure> {
    let gateway = session.gateway(args.gateway.name.as_deref()).await?;
    let name = gateway.name_any();
    let value = annotation(verb, &new_id(), &gateway)?;
    session.patch(&name, &json!({"metadata": {"annotations": {ANNOTATION: value}}})).await?;
    if args.wait.no_wait {
        return say(&format!("{name}: asked for {value}"));
    }
    let handled = |gateway: &BifrostGateway| is_handled(gateway, &value).then(|| Box::new(gateway.clone()));
    match wait(session, &name, args.wait.timeout, handled).await? {
        Waited::TimedOut(last) => Err(Failure::TimedOut(unhandled(&value, last.as_deref(), args.wait.timeout))),
        Waited::Done(after, took) => {
            let mut outcome = outcome(&gateway, &after, None);
            if outcome.is_open() {
                let refusal = refusal(session, &name, &value).await;
                outcome = self::outcome::outcome(&gateway, &after, refusal.as_deref());
            }
            match outcome {
                Outcome::Refused(why) => Err(Failure::no(format!("{name}: {} was refused: {why}", verb.as_str()))),
                Outcome::Moved(text) | Outcome::Same(text) => {
                    say(&format!("{name}: {} handled after {}: {text}", verb.as_str(), human::duration(took)))
                }
            }
        }
    }
}

/// The annotation's value, pinned to what is being moved to now, so that it cannot hit a spec that the caller has not seen.
fn annotation(verb: Verb, id: &str, gateway: &BifrostGateway) -> Result<String, Failure> {
    let migration = gateway.status.as_ref().and_then(|status| status.migration.as_ref());
    match migration.and_then(|migration| migration.revision.as_deref()) {
        Some(revision) => Ok(format!("{}/{id}@{revision}", verb.as_str())),
        // Going back is right for any revision.
        None if verb == Verb::Abort => Ok(format!("abort/{id}")),
        None => Err(Failure::no(format!(
            "the operator has not reported where the migration of {} is: is it running, and does it serve this namespace? See `kubectl bifrost preflight`",
            gateway.name_any()
        ))),
    }
}

/// Eight letters and digits.
fn new_id() -> String {
    (0..8).map(|_| fastrand::alphanumeric().to_ascii_lowercase()).collect()
}

fn is_handled(gateway: &BifrostGateway, value: &str) -> bool {
    let migration = gateway.status.as_ref().and_then(|status| status.migration.as_ref());
    migration.and_then(|migration| migration.handled_request.as_deref()) == Some(value)
}

fn unhandled(value: &str, last: Option<&BifrostGateway>, limit: Duration) -> String {
    let written = last.is_none_or(|gateway| gateway.annotations().get(ANNOTATION).is_some_and(|now| now == value));
    let limit = human::duration(limit);
    if written {
        format!(
            "asked for {value}, and the operator has not answered within {limit}: it will when it runs; see `kubectl bifrost status`"
        )
    } else {
        format!(
            "asked for {value}, but another request took its place before it was handled; see `kubectl bifrost status`"
        )
    }
}

/// Waits a little for the event that a request was refused. Who may not read events gets none.
async fn refusal(session: &Session, name: &str, value: &str) -> Option<String> {
    let fields = format!("involvedObject.kind=BifrostGateway,involvedObject.name={name},reason={REFUSED}");
    let params = ListParams::default().fields(&fields);
    let until = Instant::now() + EVENT_DELAY;
    loop {
        match session.api::<Event>().list(&params).await {
            Ok(events) => {
                let notes = events.items.iter().filter_map(|event| event.message.as_deref());
                if let Some(words) = words(notes, value) {
                    return Some(words);
                }
            }
            Err(error) => {
                note(&format!("events cannot be read ({})", Failure::from(error)));
                return None;
            }
        }
        if Instant::now() >= until {
            return None;
        }
        sleep(Duration::from_millis(250)).await;
    }
}

/// Why this request was refused: the note that begins with it. Its id makes it unlike every other one.
fn words<'a>(mut notes: impl Iterator<Item = &'a str>, value: &str) -> Option<String> {
    notes.find_map(|note| note.strip_prefix(value)?.strip_prefix(": ").map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::tests::gateway;

    #[test]
    fn a_request_is_pinned_to_the_revision_that_was_read() {
        assert_eq!(annotation(Verb::PromoteFull, "k3x9", &gateway()).unwrap(), "promote-full/k3x9@4f1c2a9b");
    }

    #[test]
    fn without_a_revision_only_going_back_is_asked_for() {
        let mut gateway = gateway();
        gateway.status = None;
        assert_eq!(annotation(Verb::Abort, "k3x9", &gateway).unwrap(), "abort/k3x9");
        assert!(annotation(Verb::Promote, "k3x9", &gateway).is_err());
    }

    #[test]
    fn ids_are_short_and_never_the_same() {
        let (one, two) = (new_id(), new_id());
        assert!(one.len() == 8 && one.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()), "{one}");
        assert_ne!(one, two);
    }

    #[test]
    fn a_refusal_is_found_by_the_request_itself() {
        let notes =
            ["promote/aaaa@r: too early", "promote/k3x9@r: there is nothing to promote", "promote/k3x9@r2: other"];
        let found = |value| words(notes.into_iter(), value);
        assert_eq!(found("promote/k3x9@r").as_deref(), Some("there is nothing to promote"));
        assert_eq!(found("promote/zzzz@r"), None);
    }

    #[test]
    fn who_was_overtaken_by_another_request_is_told() {
        let mut other = gateway();
        other.metadata.annotations = Some([(ANNOTATION.to_owned(), "abort/zzz".to_owned())].into());
        let text = unhandled("promote/k3x9@r", Some(&other), Duration::from_secs(30));
        assert!(text.contains("another request took its place"), "{text}");
        other.metadata.annotations = Some([(ANNOTATION.to_owned(), "promote/k3x9@r".to_owned())].into());
        let text = unhandled("promote/k3x9@r", Some(&other), Duration::from_secs(30));
        assert!(text.contains("has not answered within 30s"), "{text}");
    }

    async fn promote(
        operator: crate::testing::Operator,
        milliseconds: u64,
    ) -> (Result<(), Failure>, serde_json::Value) {
        let (session, state) = crate::testing::session(operator);
        let args = RequestArgs { gateway: crate::testing::ai(), wait: crate::testing::wait(milliseconds) };
        let result = run(&session, Verb::Promote, &args).await;
        let patches = state.lock().unwrap().patches.clone();
        assert_eq!(patches.len(), 1);
        (result, patches[0].clone())
    }

    /// Notes that the request was handled, and gives it back.
    fn handled(state: &mut crate::testing::State) -> String {
        let value = state.gateway["metadata"]["annotations"][ANNOTATION].as_str().unwrap().to_owned();
        state.gateway["status"]["migration"]["handledRequest"] = json!(value);
        value
    }

    #[tokio::test]
    async fn a_request_that_is_followed_succeeds_and_touches_nothing_but_the_annotation() {
        let follow = |state: &mut crate::testing::State| {
            handled(state);
            state.gateway["status"]["migration"]["step"] = json!("3/4");
        };
        let (result, patch) = promote(follow, 5000).await;
        result.unwrap();
        let value = patch["metadata"]["annotations"][ANNOTATION].as_str().unwrap();
        assert!(value.starts_with("promote/") && value.ends_with("@4f1c2a9b"), "{value}");
        assert_eq!(patch, json!({"metadata": {"annotations": {ANNOTATION: value}}}));
    }

    #[tokio::test]
    async fn a_request_that_is_refused_fails_with_the_operators_words() {
        let refuse = |state: &mut crate::testing::State| {
            let value = handled(state);
            state.refusals.push(format!("{value}: there is nothing to promote"));
        };
        let failure = promote(refuse, 5000).await.0.unwrap_err();
        assert_eq!(failure.to_string(), "ai: promote was refused: there is nothing to promote");
    }

    #[tokio::test]
    async fn an_operator_that_does_not_answer_is_not_waited_for_for_ever() {
        let failure = promote(|_| {}, 50).await.0.unwrap_err();
        assert!(matches!(failure, Failure::TimedOut(_)), "{failure}");
    }
}
