//! `undo`: spec.config and spec.image as a revision of the history had them, written under the caller's own rights.

mod diff;
mod plan;

use bifrost_crds::{BifrostGateway, RolloutStrategy};
use kube::ResourceExt;
use kube::api::DynamicObject;
use serde_json::{Value, json};

use self::diff::diff;
use self::plan::{keepers, merge_patch, spec_of, target};
use crate::change::{Goal, until_in_force};
use crate::cli::UndoArgs;
use crate::failure::Failure;
use crate::history;
use crate::run::{note, say};
use crate::session::Session;
use crate::standing::Subject;

/// How often it is tried to write while only the status changes meanwhile.
const ATTEMPTS: usize = 5;

/// Goes back to a revision and waits until every ready pod has confirmed it.
pub(crate) async fn run(session: &Session, args: &UndoArgs) -> Result<(), Failure> {
    let name = session.gateway(args.gateway.name.as_deref()).await?.name_any();
    let object = session.raw(&name).await?;
    let gateway = typed(&object)?;
    let history = history::read(session, &gateway).await?;
    let before = &object.data["spec"];
    let target = target(&gateway, before, &history, args.to.as_deref())?;
    let id = &target.revision.id;
    let Some(patch) = merge_patch(before, &spec_of(&gateway, before, &target)?) else {
        return say(&format!("{name}: the spec is that of revision {id} already"));
    };
    mind(&name, &keepers(&object.metadata), args)?;
    let written = write(session, &name, &object, patch, args.dry_run).await?;
    say(&shown(&name, id, args.dry_run, &diff(before, &written.data["spec"])))?;
    if args.dry_run {
        return Ok(());
    }
    if !target.is_stable && !gateway.spec.paused && gateway.spec.rollout.strategy != RolloutStrategy::Rolling {
        say(&format!(
            "it is a candidate now, as any other change; `kubectl bifrost promote {name} --rollout --full` goes on at once"
        ))?;
    }
    let generation = written.metadata.generation.unwrap_or(0);
    until_in_force(session, &name, generation, &args.wait, Subject::Rollout, &Goal::Revision(id.clone())).await
}

/// Stops where somebody else keeps the fields, unless that is known.
fn mind(name: &str, keepers: &[String], args: &UndoArgs) -> Result<(), Failure> {
    if keepers.is_empty() {
        return Ok(());
    }
    let keepers = keepers.join(", ");
    let warning = format!("spec.config and spec.image of {name} are kept by {keepers}, which may set them back");
    if args.force || args.dry_run {
        note(&format!("warning: {warning}"));
        return Ok(());
    }
    Err(Failure::no(format!(
        "{warning}: go back at their source, such as git, or say --force; `kubectl bifrost abort {name} --rollout` takes a candidate back without a change of the spec"
    )))
}

fn shown(name: &str, revision: &str, dry_run: bool, lines: &[String]) -> String {
    let done = if dry_run { "would be set back" } else { "set back" };
    let lines: String = lines.iter().map(|line| format!("\n  {line}")).collect();
    format!("{name}: {done} to revision {revision}{lines}")
}

fn typed(object: &DynamicObject) -> Result<BifrostGateway, Failure> {
    object.clone().try_parse().map_err(|error| {
        Failure::no(format!(
            "the gateway holds what this plugin does not know: install that of the operator's release ({error})"
        ))
    })
}

/// Writes only over the spec that was read. The status may change as often as it likes.
async fn write(
    session: &Session,
    name: &str,
    read: &DynamicObject,
    spec: Value,
    dry_run: bool,
) -> Result<DynamicObject, Failure> {
    let mut version = read.metadata.resource_version.clone();
    for _ in 0..ATTEMPTS {
        let patch = json!({"metadata": {"resourceVersion": version}, "spec": spec});
        match session.patch_raw(name, &patch, dry_run).await {
            Err(Failure::Api(kube::Error::Api(status))) if status.code == 409 => {}
            answer => return answer,
        }
        let now = session.raw(name).await?;
        if now.metadata.generation != read.metadata.generation || now.metadata.uid != read.metadata.uid {
            return Err(Failure::no(format!(
                "somebody else changed the spec of {name} meanwhile: look again (`kubectl bifrost status {name}`), and ask again"
            )));
        }
        version = now.metadata.resource_version;
    }
    Err(Failure::no(format!("{name} changes too often to be written over safely: ask again")))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::history::tests::maps;
    use crate::status::tests::rolling_out;
    use crate::testing::{Operator, State};

    fn args() -> UndoArgs {
        UndoArgs {
            gateway: crate::testing::ai(),
            to: None,
            dry_run: false,
            force: false,
            wait: crate::testing::wait(5000),
        }
    }

    /// A session with the candidate of `rolling_out`, and the state behind it.
    fn session(operator: Operator) -> (Session, std::sync::Arc<std::sync::Mutex<State>>) {
        let (session, state) = crate::testing::session(operator);
        let mut held = state.lock().unwrap();
        let version = held.gateway["metadata"]["resourceVersion"].clone();
        held.gateway = serde_json::to_value(rolling_out()).unwrap();
        held.gateway["metadata"]["resourceVersion"] = version;
        held.config_maps = maps().iter().map(|map| serde_json::to_value(map).unwrap()).collect();
        drop(held);
        (session, state)
    }

    /// Confirms what was written.
    fn confirm(state: &mut State) {
        let generation = state.gateway["metadata"]["generation"].clone();
        for condition in state.gateway["status"]["conditions"].as_array_mut().unwrap() {
            condition["observedGeneration"] = generation.clone();
        }
    }

    #[test]
    fn what_changes_is_shown() {
        let before = json!({"image": {"tag": "0.2.0"}, "config": {"client": {"maxRequestBody": "100Mi"}}});
        let image = json!({"repository": "registry.example/bifrost-gateway", "tag": "0.1.0"});
        let after = json!({"image": image, "config": {"client": {"maxRequestBody": "20Mi"}}});
        insta::assert_snapshot!(shown("ai", "77aa00bb11", true, &diff(&before, &after)));
    }

    #[tokio::test]
    async fn a_candidate_is_given_up_by_the_stable_revision() {
        let (session, state) = session(confirm);
        run(&session, &args()).await.unwrap();
        let patches = state.lock().unwrap().patches.clone();
        let spec = json!({"image": {"tag": "0.1.0"}});
        assert_eq!(patches, [json!({"metadata": {"resourceVersion": "1"}, "spec": spec})]);
    }

    #[tokio::test]
    async fn what_was_refused_goes_back_to_the_stable_revision_with_its_image() {
        let accept = |state: &mut State| {
            confirm(state);
            set_accepted(state, "True");
        };
        let (session, state) = session(accept);
        {
            let state = &mut *state.lock().unwrap();
            set_accepted(state, "False");
            let rollout = state.gateway["status"]["rollout"].as_object_mut().unwrap();
            rollout.retain(|member, _| member.starts_with("stable"));
            state.gateway["spec"]["image"] = json!({"repository": "elsewhere.example/g", "tag": "1"});
        }
        run(&session, &args()).await.unwrap();
        let spec = state.lock().unwrap().gateway["spec"].clone();
        assert_eq!(spec["image"], json!({"repository": "registry.example/bifrost-gateway", "tag": "0.1.0"}));
        assert_eq!(spec["config"]["client"]["maxRequestBody"], json!("100Mi"), "that of the stable revision");
    }

    fn set_accepted(state: &mut State, status: &str) {
        let conditions = state.gateway["status"]["conditions"].as_array_mut().unwrap();
        let accepted = conditions.iter_mut().find(|condition| condition["type"] == "Accepted");
        accepted.unwrap()["status"] = json!(status);
    }

    #[tokio::test]
    async fn what_the_revision_did_not_have_is_taken_out() {
        let (session, state) = session(confirm);
        state.lock().unwrap().gateway["spec"]["config"]["caBundleRef"] = json!({"name": "ca", "key": "ca.crt"});
        let to = Some("77aa00bb11".to_owned());
        run(&session, &UndoArgs { to, ..args() }).await.unwrap();
        let spec = state.lock().unwrap().gateway["spec"].clone();
        let network = json!({"requestTimeout": "60s"});
        let providers = json!([{"name": "openai", "type": "OpenAI", "network": network}]);
        assert_eq!(spec["config"], json!({"client": {"maxRequestBody": "20Mi"}, "providers": providers}));
        assert_eq!(spec["image"], json!({"repository": "registry.example/bifrost-gateway", "tag": "0.1.0"}));
        assert_eq!(spec["replicas"], json!(3), "nothing else changes");
    }

    #[tokio::test]
    async fn a_dry_run_asks_the_api_server_and_changes_nothing() {
        let (session, state) = session(|_| {});
        run(&session, &UndoArgs { dry_run: true, ..args() }).await.unwrap();
        assert_eq!(state.lock().unwrap().gateway["spec"]["image"]["tag"], json!("0.2.0"));
    }

    #[tokio::test]
    async fn a_status_that_changed_meanwhile_is_no_hindrance_and_a_spec_is() {
        let (session, state) = session(confirm);
        state.lock().unwrap().before_patch = Some(|state| state.gateway["metadata"]["resourceVersion"] = json!("2"));
        run(&session, &args()).await.unwrap();
        assert_eq!(state.lock().unwrap().gateway["spec"]["image"]["tag"], json!("0.1.0"));

        let (session, state) = self::session(confirm);
        state.lock().unwrap().before_patch = Some(|state| {
            state.gateway["metadata"]["resourceVersion"] = json!("2");
            state.gateway["metadata"]["generation"] = json!(10);
        });
        let failure = run(&session, &args()).await.unwrap_err();
        assert!(failure.to_string().contains("somebody else changed the spec"), "{failure}");
    }

    #[tokio::test]
    async fn what_git_keeps_is_only_changed_by_force() {
        let kept = |state: &mut State| {
            let fields = json!({"f:spec": {"f:config": {"f:providers": {}}}});
            let entry = json!({"manager": "argocd-controller", "operation": "Update", "fieldsV1": fields});
            state.gateway["metadata"]["managedFields"] = json!([entry]);
        };
        let (session, state) = session(confirm);
        kept(&mut state.lock().unwrap());
        let failure = run(&session, &args()).await.unwrap_err().to_string();
        assert!(failure.contains("argocd-controller") && failure.contains("--force"), "{failure}");
        assert!(state.lock().unwrap().patches.is_empty());
        run(&session, &UndoArgs { force: true, ..args() }).await.unwrap();
        assert_eq!(state.lock().unwrap().patches.len(), 1);
    }

    #[tokio::test]
    async fn it_is_waited_for_until_it_is_in_force() {
        let (session, _) = session(|_| {});
        let wait = crate::cli::WaitArgs { timeout: Duration::from_millis(50), no_wait: false };
        let failure = run(&session, &UndoArgs { wait, ..args() }).await.unwrap_err();
        assert!(matches!(failure, Failure::TimedOut(_)), "{failure}");
    }
}
