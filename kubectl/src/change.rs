//! `pause`, `resume`, `set-percent`, `switch`, `set-phase`: one field of the spec, from before to after, until it is in force.

mod plan;

use bifrost_crds::BifrostGateway;
use bifrost_crds::conditions::{ACCEPTED, PROGRAMMED};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;

pub(crate) use self::plan::{Change, strategy};
use self::plan::{Planned, plan};
use crate::cli::{GatewayArg, WaitArgs};
use crate::failure::Failure;
use crate::human;
use crate::run::say;
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
            let written = session.patch(&name, &patch).await?;
            say(&format!("{name}: {field} {before} → {after}"))?;
            written.metadata.generation
        }
    };
    until_in_force(session, &name, generation.unwrap_or(0), args, Subject::Migration).await
}

/// Waits until every ready pod has confirmed a generation of the spec, and says where the subject stands then.
pub(crate) async fn until_in_force(
    session: &Session,
    name: &str,
    generation: i64,
    args: &WaitArgs,
    subject: Subject,
) -> Result<(), Failure> {
    if args.no_wait {
        return Ok(());
    }
    match wait(session, name, args.timeout, |gateway| in_force(gateway, generation, subject)).await? {
        Waited::Done(InForce::Yes(text), took) => say(&format!("in force after {}{text}", human::duration(took))),
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

/// What the status says of a generation.
#[derive(Debug, PartialEq, Eq)]
enum InForce {
    /// Every ready pod has confirmed it; what else is to be said.
    Yes(String),
    /// It was refused.
    Never(String),
}

fn in_force(gateway: &BifrostGateway, generation: i64, subject: Subject) -> Option<InForce> {
    let accepted = condition(gateway, ACCEPTED, generation);
    if let Some(refused) = accepted.filter(|condition| condition.status == "False") {
        return Some(InForce::Never(refused.message.clone()));
    }
    let programmed = condition(gateway, PROGRAMMED, generation)?;
    if programmed.status != "True" {
        return None;
    }
    let place = Some(subject.standing(gateway).describe()).filter(|place| !place.is_empty());
    let mut text = place.map_or_else(String::new, |place| format!(": {place}"));
    if gateway.spec.paused {
        text.push_str("; spec.paused holds back what adds, `kubectl bifrost resume` lets it go on");
    }
    Some(InForce::Yes(text))
}

fn condition<'a>(gateway: &'a BifrostGateway, type_: &str, generation: i64) -> Option<&'a Condition> {
    let conditions = &gateway.status.as_ref()?.conditions;
    let found = conditions.iter().find(|condition| condition.type_ == type_)?;
    (found.observed_generation? >= generation).then_some(found)
}

/// Why the newest generation is not in force yet.
fn not_yet(gateway: &BifrostGateway) -> String {
    let generation = gateway.metadata.generation.unwrap_or(0);
    match condition(gateway, PROGRAMMED, generation) {
        Some(condition) => condition.message.clone(),
        None => "the operator has not looked at it; is it running, and does it serve this namespace?".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::tests::gateway;

    #[test]
    fn an_older_confirmation_is_none() {
        let gateway = gateway();
        let generation = gateway.metadata.generation.unwrap();
        assert!(matches!(in_force(&gateway, generation, Subject::Migration), Some(InForce::Yes(_))));
        assert_eq!(in_force(&gateway, generation + 1, Subject::Migration), None);
        assert!(!not_yet(&gateway).is_empty());
    }

    #[test]
    fn a_spec_that_is_not_accepted_is_not_waited_for() {
        let mut gateway = gateway();
        let conditions = &mut gateway.status.as_mut().unwrap().conditions;
        let accepted = conditions.iter_mut().find(|condition| condition.type_ == ACCEPTED).unwrap();
        accepted.status = "False".into();
        accepted.message = "spec.config.providers[0].baseURL: no".into();
        let refused = InForce::Never("spec.config.providers[0].baseURL: no".into());
        assert_eq!(in_force(&gateway, gateway.metadata.generation.unwrap(), Subject::Migration), Some(refused));
    }

    #[test]
    fn a_paused_gateway_says_what_it_holds_back() {
        let mut gateway = gateway();
        gateway.spec.paused = true;
        let Some(InForce::Yes(text)) = in_force(&gateway, 1, Subject::Migration) else { panic!("not in force") };
        assert!(text.contains("kubectl bifrost resume"), "{text}");
    }

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
}
