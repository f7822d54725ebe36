//! `promote`, `abort`, `retry`, `restart`: a request to the operator, by annotation, and what became of it.

use bifrost_crds::BifrostGateway;
pub(crate) use bifrost_operator::migration::request::Verb;
use bifrost_operator::names;
use kube::ResourceExt;
use serde_json::json;
use tokio::time::{Duration, Instant};

use crate::cli::{AskArgs, WaitArgs};
use crate::failure::Failure;
use crate::human;
use crate::run::say;
use crate::session::Session;
use crate::standing::Subject;
use crate::wait::{Waited, wait};

/// Writes the request and waits until it was handled.
pub(crate) async fn run(session: &Session, verb: Verb, args: &AskArgs) -> Result<(), Failure> {
    let subject = if args.rollout { Subject::Rollout } else { Subject::Migration };
    let (wanted, waiting) = (&args.request.gateway, &args.request.wait);
    let gateway = session.gateway(wanted.name.as_deref()).await?;
    let name = gateway.name_any();
    let until = Instant::now() + waiting.timeout;
    let gateway = if is_pinned_to_old(verb, &gateway) { observed(session, &name, waiting).await? } else { gateway };
    let value = annotation(subject, verb, &new_id(), &gateway)?;
    session.patch(&name, &json!({"metadata": {"annotations": {subject.annotation(): value}}})).await?;
    if waiting.no_wait {
        return say(&format!("{name}: asked for {value}"));
    }
    let handled = |gateway: &BifrostGateway| {
        let standing = subject.standing(gateway);
        (standing.handled_request.as_deref() == Some(value.as_str())).then_some(standing)
    };
    match wait(session, &name, until.saturating_duration_since(Instant::now()), handled).await? {
        Waited::TimedOut(last) => {
            Err(Failure::TimedOut(unhandled(subject, verb, &value, last.as_deref(), waiting.timeout)))
        }
        Waited::Done(after, took) => {
            let asked = format!("{name}: {verb}{}", subject.flag());
            match &after.refusal {
                Some(why) => Err(Failure::no(format!("{asked} was refused: {why}"))),
                None => say(&format!("{asked} handled after {}: {}", human::duration(took), after.describe())),
            }
        }
    }
}

/// Whether the revision in the status may be that of an older spec, for which the operator would refuse the request. Going back is right
/// for any revision, and never waits.
fn is_pinned_to_old(verb: Verb, gateway: &BifrostGateway) -> bool {
    verb != Verb::Abort && !is_observed(gateway)
}

/// Whether the status describes the newest spec.
fn is_observed(gateway: &BifrostGateway) -> bool {
    gateway.status.as_ref().and_then(|status| status.observed_generation) == gateway.metadata.generation
}

/// Waits until the operator has looked at the newest spec: a change may have been written a moment ago.
async fn observed(session: &Session, name: &str, waiting: &WaitArgs) -> Result<BifrostGateway, Failure> {
    let found = |gateway: &BifrostGateway| is_observed(gateway).then(|| gateway.clone());
    match wait(session, name, waiting.timeout, found).await? {
        Waited::Done(gateway, _) => Ok(gateway),
        Waited::TimedOut(_) => {
            let limit = human::duration(waiting.timeout);
            Err(Failure::no(format!(
                "nothing was asked for: the operator has not looked at the newest spec of {name} within {limit}: is it running, and does it serve this namespace? See `kubectl bifrost preflight {name}`"
            )))
        }
    }
}

/// The annotation's value, pinned to what is being moved to now, so that it cannot hit a spec that the caller has not seen; a promotion
/// also to the step, so that two who promote at the same time do not skip one.
fn annotation(subject: Subject, verb: Verb, id: &str, gateway: &BifrostGateway) -> Result<String, Failure> {
    let standing = subject.standing(gateway);
    if let Some(revision) = &standing.revision {
        let step = standing.step.as_ref().filter(|_| verb == Verb::Promote);
        let step = step.map_or_else(String::new, |step| format!(":{step}"));
        return Ok(format!("{verb}/{id}@{revision}{step}"));
    }
    // Going back is right for any revision.
    if verb == Verb::Abort {
        return Ok(format!("abort/{id}"));
    }
    let name = gateway.name_any();
    let has_rollout = gateway.status.as_ref().is_some_and(|status| status.rollout.is_some());
    Err(Failure::no(match subject {
        Subject::Rollout if has_rollout => {
            let why = standing.message.as_deref().unwrap_or("the stable revision is what the spec asks for");
            format!("{name} has no candidate: {why}; see `kubectl bifrost status`")
        }
        Subject::Rollout => format!(
            "the operator has not reported on a rollout of {name}: is it running, does it serve this namespace, and is it new enough for spec.rollout? See `kubectl bifrost preflight`"
        ),
        Subject::Migration => format!(
            "the operator has not reported where the migration of {name} is: is it running, and does it serve this namespace? See `kubectl bifrost preflight`"
        ),
    }))
}

/// Eight letters and digits.
fn new_id() -> String {
    (0..8).map(|_| fastrand::alphanumeric().to_ascii_lowercase()).collect()
}

/// How what was asked for is taken back before somebody handles it.
fn withdraw(gateway: &BifrostGateway, annotation: &str) -> String {
    let namespace = gateway.namespace().unwrap_or_default();
    format!(". To withdraw it: kubectl annotate bgw {} -n {namespace} {annotation}-", gateway.name_any())
}

/// How applications get past a gateway whose operator is away.
fn around(gateway: &BifrostGateway) -> String {
    let direct = names::env_direct(&gateway.name_any());
    format!(
        ". Not to wait for it, take ConfigMap {direct} as the applications' envFrom: it leads straight to the vendor"
    )
}

fn unhandled(subject: Subject, verb: Verb, value: &str, last: Option<&BifrostGateway>, limit: Duration) -> String {
    let annotation = subject.annotation();
    let written = last.is_none_or(|gateway| gateway.annotations().get(annotation).is_some_and(|now| now == value));
    let limit = human::duration(limit);
    // What would rise onto pods that are not there yet is asked for until they are.
    let waits =
        last.filter(|_| subject == Subject::Rollout && written).map(|gateway| subject.standing(gateway).describe());
    if let Some(waits) = waits.filter(|waits| !waits.is_empty()) {
        format!("asked for {value}, which is done as soon as it can be, and not within {limit}: {waits}")
    } else if written {
        let meanwhile = last.filter(|_| verb == Verb::Abort && subject == Subject::Migration).map(around);
        format!(
            "asked for {value}, and the operator has not answered within {limit}: it will when it runs; see `kubectl bifrost status`{}{}",
            last.map(|gateway| withdraw(gateway, annotation)).unwrap_or_default(),
            meanwhile.unwrap_or_default()
        )
    } else {
        format!(
            "asked for {value}, but another request took its place before it was handled; see `kubectl bifrost status`"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::RequestArgs;
    use crate::status::tests::{gateway, rolling_out};

    #[test]
    fn a_request_is_pinned_to_the_revision_that_was_read() {
        let asked =
            |subject, gateway: &BifrostGateway| annotation(subject, Verb::PromoteFull, "k3x9", gateway).unwrap();
        assert_eq!(asked(Subject::Migration, &gateway()), "promote-full/k3x9@4f1c2a9b");
        assert_eq!(asked(Subject::Rollout, &rolling_out()), "promote-full/k3x9@9b1c2d3e4f");
        let next = annotation(Subject::Migration, Verb::Promote, "k3x9", &gateway()).unwrap();
        assert_eq!(next, "promote/k3x9@4f1c2a9b:2/4");
    }

    #[test]
    fn without_a_revision_only_going_back_is_asked_for() {
        let mut gateway = gateway();
        gateway.status = None;
        for subject in [Subject::Migration, Subject::Rollout] {
            assert_eq!(annotation(subject, Verb::Abort, "k3x9", &gateway).unwrap(), "abort/k3x9");
            let failure = annotation(subject, Verb::Promote, "k3x9", &gateway).unwrap_err();
            assert!(failure.to_string().contains("has not reported"), "{failure}");
        }
        let mut gateway = rolling_out();
        gateway.status.as_mut().unwrap().rollout.as_mut().unwrap().candidate_revision = None;
        let failure = annotation(Subject::Rollout, Verb::Promote, "k3x9", &gateway).unwrap_err();
        assert!(failure.to_string().starts_with("ai has no candidate"), "{failure}");
    }

    #[test]
    fn ids_are_short_and_never_the_same() {
        let (one, two) = (new_id(), new_id());
        assert!(one.len() == 8 && one.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()), "{one}");
        assert_ne!(one, two);
    }

    #[test]
    fn who_was_overtaken_by_another_request_is_told() {
        let asked = |value: &str| {
            let mut gateway = gateway();
            let annotation = Subject::Migration.annotation().to_owned();
            gateway.metadata.annotations = Some([(annotation, value.to_owned())].into());
            unhandled(Subject::Migration, Verb::Promote, "promote/k3x9@r", Some(&gateway), Duration::from_secs(30))
        };
        assert!(asked("abort/zzz").contains("another request took its place"), "{}", asked("abort/zzz"));
        assert!(asked("promote/k3x9@r").contains("has not answered within 30s"), "{}", asked("promote/k3x9@r"));
    }

    const ANNOTATION: &str = Subject::Migration.annotation();

    fn ask(milliseconds: u64, rollout: bool) -> AskArgs {
        AskArgs {
            request: RequestArgs { gateway: crate::testing::ai(), wait: crate::testing::wait(milliseconds) },
            rollout,
        }
    }

    async fn promote(
        operator: crate::testing::Operator,
        milliseconds: u64,
    ) -> (Result<(), Failure>, serde_json::Value) {
        let (session, state) = crate::testing::session(operator);
        let result = run(&session, Verb::Promote, &ask(milliseconds, false)).await;
        let patches = state.lock().unwrap().patches.clone();
        assert_eq!(patches.len(), 1);
        (result, patches[0].clone())
    }

    /// Notes that the request was handled.
    fn handled(state: &mut crate::testing::State) {
        let value = state.gateway["metadata"]["annotations"][ANNOTATION].clone();
        state.gateway["status"]["migration"]["handledRequest"] = value;
    }

    fn refused(state: &mut crate::testing::State, axis: &str, why: &str) {
        state.gateway["status"][axis]["refusal"] = json!(why);
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
        assert!(value.starts_with("promote/") && value.ends_with("@4f1c2a9b:2/4"), "{value}");
        assert_eq!(patch, json!({"metadata": {"annotations": {ANNOTATION: value}}}));
    }

    #[tokio::test]
    async fn a_promotion_that_came_second_is_no_success() {
        let second = |state: &mut crate::testing::State| {
            handled(state);
            state.gateway["status"]["migration"]["step"] = json!("3/4");
            refused(state, "migration", "it was meant to leave step 2/4, and 3/4 has come meanwhile");
        };
        let failure = promote(second, 5000).await.0.unwrap_err();
        assert!(failure.to_string().contains("was refused: it was meant to leave step 2/4"), "{failure}");
    }

    #[tokio::test]
    async fn a_request_that_is_refused_fails_with_the_operators_words() {
        let refuse = |state: &mut crate::testing::State| {
            handled(state);
            refused(state, "migration", "there is nothing to promote");
        };
        let failure = promote(refuse, 5000).await.0.unwrap_err();
        assert_eq!(failure.to_string(), "ai: promote was refused: there is nothing to promote");
    }

    #[tokio::test]
    async fn a_rollout_is_asked_by_an_annotation_of_its_own_and_answers_itself() {
        let refuse = |state: &mut crate::testing::State| {
            let value = state.gateway["metadata"]["annotations"][Subject::Rollout.annotation()].clone();
            state.gateway["status"]["rollout"]["handledRequest"] = value;
            refused(state, "rollout", "there is no rollback to retry after");
        };
        let (session, state) = crate::testing::session(refuse);
        state.lock().unwrap().gateway = serde_json::to_value(rolling_out()).unwrap();
        let failure = run(&session, Verb::Retry, &ask(5000, true)).await.unwrap_err();
        assert_eq!(failure.to_string(), "ai: retry --rollout was refused: there is no rollback to retry after");
        let patches = state.lock().unwrap().patches.clone();
        let value = patches[0]["metadata"]["annotations"][Subject::Rollout.annotation()].as_str().unwrap();
        assert!(value.starts_with("retry/") && value.ends_with("@9b1c2d3e4f"), "{value}");
    }

    #[tokio::test]
    async fn an_operator_that_does_not_answer_is_not_waited_for_for_ever() {
        let failure = promote(|_| {}, 50).await.0.unwrap_err();
        assert!(matches!(failure, Failure::TimedOut(_)), "{failure}");
    }

    /// Sees the newest spec only when it is asked for the second time.
    fn look_late(state: &mut crate::testing::State) {
        state.gateway["status"]["observedGeneration"] = json!(8);
        state.gateway["status"]["migration"]["revision"] = json!("11112222");
    }

    #[tokio::test]
    async fn a_spec_that_was_written_a_moment_ago_is_waited_for() {
        let follow = |state: &mut crate::testing::State| {
            handled(state);
            state.gateway["status"]["migration"]["step"] = json!("3/4");
        };
        let (session, state) = crate::testing::session(follow);
        {
            let state = &mut *state.lock().unwrap();
            state.gateway["metadata"]["generation"] = json!(8);
            state.after_get = Some(look_late);
        }
        run(&session, Verb::Promote, &ask(5000, false)).await.unwrap();
        let patches = state.lock().unwrap().patches.clone();
        let value = patches[0]["metadata"]["annotations"][ANNOTATION].as_str().unwrap();
        assert!(value.ends_with("@11112222:2/4"), "{value}");
    }

    #[tokio::test]
    async fn a_spec_that_nobody_looks_at_is_asked_nothing_but_to_go_back() {
        let (session, state) = crate::testing::session(handled);
        state.lock().unwrap().gateway["metadata"]["generation"] = json!(8);
        let failure = run(&session, Verb::Promote, &ask(50, false)).await.unwrap_err();
        assert!(failure.to_string().starts_with("nothing was asked for: the operator has not looked"), "{failure}");
        assert!(state.lock().unwrap().patches.is_empty());
        run(&session, Verb::Abort, &ask(5000, false)).await.unwrap();
        assert_eq!(state.lock().unwrap().patches.len(), 1);
    }
}
