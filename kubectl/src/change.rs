//! `pause`, `resume`, `set-percent`, `switch`, `set-phase`: one field of the spec, from before to after, until it is in force.

mod in_force;
mod plan;

use bifrost_crds::BifrostGateway;
use kube::ResourceExt;

pub(crate) use self::in_force::Goal;
use self::in_force::{InForce, in_force, not_yet};
pub(crate) use self::plan::{Change, strategy};
use self::plan::{Planned, plan};
use crate::cli::{GatewayArg, WaitArgs};
use crate::failure::Failure;
use crate::human;
use crate::run::{note, say};
use crate::session::Session;
use crate::standing::Subject;
use crate::wait::{Waited, wait};

/// Makes the change and waits until every ready pod has confirmed it.
pub(crate) async fn run(
    session: &Session,
    gateway: &GatewayArg,
    args: &WaitArgs,
    change: &Change,
) -> Result<(), Failure> {
    let gateway = session.gateway(gateway.name.as_deref()).await?;
    let name = gateway.name_any();
    let Planned { field, before, after, patch } = plan(&gateway, change)?;
    let generation = match patch {
        None => {
            say(&format!("{name}: {field} is {before} already"))?;
            gateway.metadata.generation
        }
        Some(patch) => {
            if let Some(warning) = ends_rollback(&gateway, change) {
                note(&warning);
            }
            let written = session.patch(&name, &patch).await?;
            say(&format!("{name}: {field} {before} → {after}"))?;
            written.metadata.generation
        }
    };
    until_in_force(session, &name, generation.unwrap_or(0), args, Subject::Migration, &change.goal()).await
}

/// Says so where a change ends a rollback: also a lower percent then sends more than nothing.
fn ends_rollback(gateway: &BifrostGateway, change: &Change) -> Option<String> {
    let rollback = Subject::Migration.standing(gateway).rollback?;
    (!matches!(change, Change::Paused(_))).then(|| {
        format!(
            "warning: the migration was rolled back ({}); a changed spec.migration ends that, and traffic rises again",
            rollback.reason
        )
    })
}

/// Waits until every ready pod has confirmed a generation of the spec, and says where the subject stands then. What is held back does
/// not come to its goal however long it is waited for.
pub(crate) async fn until_in_force(
    session: &Session,
    name: &str,
    generation: i64,
    args: &WaitArgs,
    subject: Subject,
    goal: &Goal,
) -> Result<(), Failure> {
    if args.no_wait {
        return Ok(());
    }
    match wait(session, name, args.timeout, |gateway| in_force(gateway, generation, subject, goal)).await? {
        Waited::Done(InForce::Yes(text), took) => say(&format!("in force after {}{text}", human::duration(took))),
        Waited::Done(InForce::Held(why), _) => Err(Failure::Held(format!("{name}: written, but not in force: {why}"))),
        Waited::Done(InForce::Never(why), _) => {
            Err(Failure::no(format!("{name}: the operator does not accept it: {why}")))
        }
        Waited::TimedOut(last) => {
            let why = last.as_deref().map_or_else(|| "the gateway could not be read".to_owned(), not_yet);
            let limit = human::duration(args.timeout);
            Err(Failure::TimedOut(format!(
                "{name}: written, but not in force within {limit}: {why}; see `kubectl bifrost status {name}`"
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn pause(operator: crate::testing::Operator, milliseconds: u64) -> Result<(), Failure> {
        let (session, state) = crate::testing::session(operator);
        let result =
            run(&session, &crate::testing::ai(), &crate::testing::wait(milliseconds), &Change::Paused(true)).await;
        assert_eq!(state.lock().unwrap().patches, [serde_json::json!({"spec": {"paused": true}})]);
        result
    }

    #[tokio::test]
    async fn a_change_is_waited_for_until_it_is_in_force() {
        let confirm = |state: &mut crate::testing::State| {
            for condition in state.gateway["status"]["conditions"].as_array_mut().unwrap() {
                condition["observedGeneration"] = serde_json::json!(8);
            }
        };
        pause(confirm, 5000).await.unwrap();
        let failure = pause(|_| {}, 50).await.unwrap_err();
        assert!(
            matches!(failure, Failure::TimedOut(_)) && failure.to_string().contains("has not looked at it"),
            "{failure}"
        );
    }

    #[test]
    fn a_change_that_ends_a_rollback_says_so() {
        let (moving, back) = (crate::status::tests::gateway(), crate::status::tests::rolled_back());
        assert_eq!(ends_rollback(&moving, &Change::Percent(10)), None);
        assert!(ends_rollback(&back, &Change::Percent(10)).unwrap().contains("(Aborted)"));
        assert_eq!(ends_rollback(&back, &Change::Paused(true)), None);
    }

    #[tokio::test]
    async fn a_rise_that_is_held_is_no_success() {
        let hold = |state: &mut crate::testing::State| {
            for condition in state.gateway["status"]["conditions"].as_array_mut().unwrap() {
                condition["observedGeneration"] = serde_json::json!(8);
            }
        };
        let (session, state) = crate::testing::session(hold);
        let spec = serde_json::json!({"paused": true, "config": {"providers": []}, "migration": {"canaryPercent": 25}});
        state.lock().unwrap().gateway["spec"] = spec;
        let (ai, wait) = (crate::testing::ai(), crate::testing::wait(5000));
        let failure = run(&session, &ai, &wait, &Change::Percent(50)).await.unwrap_err();
        assert!(matches!(failure, Failure::Held(_)), "{failure}");
        assert!(failure.to_string().starts_with("ai: written, but not in force: 25 % of the users"), "{failure}");
    }
}
