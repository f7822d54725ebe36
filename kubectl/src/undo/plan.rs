//! Which revision is meant, what the spec becomes, and who else keeps it. Pure.

use bifrost_crds::conditions::ACCEPTED;
use bifrost_crds::{BifrostGateway, GatewayConfig, MigrationPhase, RolloutStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::history::Revision;

/// The revision to go back to.
#[derive(Debug)]
pub(super) struct Target<'a> {
    pub(super) revision: &'a Revision,
    /// Whether it is the one that is stable at present: then nothing has to be rolled out.
    pub(super) is_stable: bool,
}

/// Finds it: the one that was named; else, where `spec` asks for another than the stable one, that; else the newest of the others.
pub(super) fn target<'a>(
    gateway: &BifrostGateway,
    spec: &Value,
    history: &'a [Revision],
    named: Option<&str>,
) -> Result<Target<'a>, Failure> {
    let name = gateway.name_any();
    let rollout = rollout(gateway);
    let stable = rollout.and_then(|rollout| rollout.stable_revision.as_deref());
    let find = |id: &str| history.iter().find(|revision| revision.id == id);
    let found = match (named, stable) {
        (Some(id), _) => find(id).ok_or_else(|| format!("the history of {name} has no revision {id}")),
        (None, None) => Err(format!(
            "the operator has not reported which revision of {name} is stable: name the one to go back to with --to"
        )),
        (None, Some(_)) if !is_current(gateway) => Err(format!(
            "the operator has not looked at the newest spec of {name} yet: ask again, or name the revision to go back to with --to"
        )),
        (None, Some(stable)) => match (find(stable), has_candidate(gateway) || is_held(gateway)) {
            (Some(revision), true) if has_candidate(gateway) || differs(gateway, spec, revision) => Ok(revision),
            // Until all pods run its image, the stable revision is not in the history.
            (None, true) if has_candidate(gateway) || !is_rolling(gateway) => Err(lost(&name, stable)),
            (_, _) => {
                let others = history.iter().rev().find(|revision| revision.id != stable);
                others.ok_or_else(|| format!("the history of {name} has no revision but the present one"))
            }
        },
    };
    let revision = found.map_err(|why| Failure::no(format!("{why}; see `kubectl bifrost history {name}`")))?;
    Ok(Target { revision, is_stable: stable == Some(revision.id.as_str()) })
}

/// What to do where nobody knows any more what the stable revision's spec said.
fn lost(name: &str, stable: &str) -> String {
    format!(
        "the history of {name} has no longer its stable revision {stable}, so that its spec is not known: `kubectl bifrost abort {name} --rollout` keeps it serving; then set spec.config and spec.image back yourself, or go to another revision with --to"
    )
}

fn has_candidate(gateway: &BifrostGateway) -> bool {
    rollout(gateway).is_some_and(|rollout| rollout.candidate_revision.is_some())
}

/// Whether the Deployment is on its way to the image of the stable revision.
fn is_rolling(gateway: &BifrostGateway) -> bool {
    rollout(gateway).is_some_and(|rollout| rollout.phase == Some(MigrationPhase::Progressing))
}

/// Whether the operator does not follow the newest spec. Where it does, no candidate means that the spec asks for the stable revision;
/// where it does not, a spec that asks for another one has no candidate either.
fn is_held(gateway: &BifrostGateway) -> bool {
    let conditions = gateway.status.iter().flat_map(|status| &status.conditions);
    let mut accepted = conditions.filter(|condition| condition.type_ == ACCEPTED);
    gateway.spec.paused || accepted.any(|condition| condition.status == "False")
}

/// Whether a spec asks for another configuration or image than a revision has.
fn differs(gateway: &BifrostGateway, spec: &Value, revision: &Revision) -> bool {
    let config = Value::Object(revision.config.clone());
    // As types, as an earlier operator did not know every default; as they are, where this plugin does not know every member.
    let typed = |config: &Value| serde_json::from_value::<GatewayConfig>(config.clone()).ok();
    let is_same_config = match (typed(&spec["config"]), typed(&config)) {
        (Some(now), Some(then)) => now == then,
        _ => spec["config"] == config,
    };
    !is_same_config || asked_image(gateway, spec).as_ref() != Some(&revision.image)
}

/// What the spec becomes. An image that is what the spec asks for already is left as the spec has it.
pub(super) fn spec_of(gateway: &BifrostGateway, before: &Value, target: &Target<'_>) -> Result<Value, Failure> {
    let revision = target.revision;
    let mut spec = before.clone();
    spec["config"] = Value::Object(revision.config.clone());
    if asked_image(gateway, before).as_ref() == Some(&revision.image) {
        return Ok(spec);
    }
    match image(&revision.image) {
        Some(image) => spec["image"] = image,
        // Without one it is as it is.
        None if target.is_stable => {
            spec.as_object_mut().map(|spec| spec.remove("image"));
        }
        None => {
            return Err(Failure::no(format!(
                "revision {} ran {}, which spec.image cannot name, as it has no tag: set spec.image yourself",
                revision.id, revision.image
            )));
        }
    }
    Ok(spec)
}

/// The image that a spec asks for; none while that is not known. Parts that it leaves open are the stable revision's, as the operator
/// fills them in.
fn asked_image(gateway: &BifrostGateway, spec: &Value) -> Option<String> {
    let part = |name: &str| spec["image"][name].as_str();
    if let (Some(repository), Some(tag)) = (part("repository"), part("tag")) {
        return Some(format!("{repository}:{tag}"));
    }
    let stable = rollout(gateway).filter(|_| is_current(gateway))?.stable_image.as_deref()?;
    let (repository, rest) = stable.split_at(name_end(stable));
    let rest = part("tag").map_or_else(|| rest.to_owned(), |tag| format!(":{tag}"));
    Some(format!("{}{rest}", part("repository").unwrap_or(repository)))
}

/// Whether the status describes the newest spec.
fn is_current(gateway: &BifrostGateway) -> bool {
    gateway.status.as_ref().and_then(|status| status.observed_generation) == gateway.metadata.generation
}

fn rollout(gateway: &BifrostGateway) -> Option<&RolloutStatus> {
    gateway.status.as_ref()?.rollout.as_ref()
}

/// An image as the spec has it.
fn image(text: &str) -> Option<Value> {
    let (repository, tag) = text.split_at(name_end(text));
    tag.strip_prefix(':').map(|tag| json!({"repository": repository, "tag": tag}))
}

/// Where the repository of an image ends. A port of the registry is no tag.
fn name_end(image: &str) -> usize {
    let name = image.rfind('/').map_or(0, |slash| slash + 1);
    image[name..].find([':', '@']).map_or(image.len(), |end| name + end)
}

/// The merge patch that turns one value into another; none if they are the same.
pub(super) fn merge_patch(before: &Value, after: &Value) -> Option<Value> {
    match (before, after) {
        _ if before == after => None,
        (Value::Object(before), Value::Object(after)) => {
            let gone = before.keys().filter(|name| !after.contains_key(*name));
            let gone = gone.map(|name| (name.clone(), Value::Null));
            let changed = after.iter().filter_map(|(name, value)| {
                let patch = before.get(name).map_or_else(|| Some(value.clone()), |before| merge_patch(before, value));
                Some((name.clone(), patch?))
            });
            Some(gone.chain(changed).collect())
        }
        _ => Some(after.clone()),
    }
}

/// Who else than kubectl wrote spec.config or spec.image: what keeps them as git or a chart has them.
pub(super) fn keepers(metadata: &ObjectMeta) -> Vec<String> {
    let fields = metadata.managed_fields.iter().flatten();
    let keepers = fields.filter(|entry| {
        let spec = entry.fields_v1.as_ref().and_then(|fields| fields.0.get("f:spec"));
        spec.is_some_and(|spec| spec.get("f:config").is_some() || spec.get("f:image").is_some())
    });
    let mut names: Vec<_> = keepers.filter_map(|entry| entry.manager.clone()).collect();
    // kubectl, its subcommands and this plugin are people's hands.
    names.retain(|name| !name.starts_with("kubectl"));
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::tests::rolling_out;

    fn revision(id: &str, image: &str) -> Revision {
        let at = "2026-03-01T08:00:00Z".parse().unwrap();
        let Value::Object(config) = config() else { panic!("no object") };
        Revision { id: id.to_owned(), image: image.to_owned(), at, config }
    }

    fn config() -> Value {
        json!({"providers": [{"name": "openai", "type": "OpenAI"}]})
    }

    fn history() -> [Revision; 3] {
        ["77aa00bb11", "3f2a9c1e07", "9b1c2d3e4f"].map(|id| revision(id, "registry.example/bifrost-gateway:0.1.0"))
    }

    /// Without a candidate: this one is stable.
    fn settled(stable: &str) -> BifrostGateway {
        let mut gateway = rolling_out();
        let rollout = gateway.status.as_mut().unwrap().rollout.as_mut().unwrap();
        rollout.stable_revision = Some(stable.to_owned());
        (rollout.candidate_revision, rollout.candidate_image) = (None, None);
        gateway
    }

    fn refused(mut gateway: BifrostGateway) -> BifrostGateway {
        let conditions = &mut gateway.status.as_mut().unwrap().conditions;
        conditions.iter_mut().find(|condition| condition.type_ == ACCEPTED).unwrap().status = "False".into();
        gateway
    }

    /// A spec with the configuration that `revision` has, and an image.
    fn spec(image: &Value) -> Value {
        json!({"config": config(), "image": image})
    }

    fn chosen(gateway: &BifrostGateway, spec: &Value, named: Option<&str>) -> Result<(String, bool), String> {
        let history = history();
        let target = target(gateway, spec, &history, named).map_err(|failure| failure.to_string())?;
        Ok((target.revision.id.clone(), target.is_stable))
    }

    #[test]
    fn a_candidate_gives_way_to_the_stable_revision_and_that_to_the_one_before() {
        let chosen = |gateway: &BifrostGateway, named| chosen(gateway, &spec(&json!({"tag": "0.1.0"})), named);
        assert_eq!(chosen(&rolling_out(), None), Ok(("3f2a9c1e07".into(), true)));
        assert_eq!(chosen(&settled("9b1c2d3e4f"), None), Ok(("3f2a9c1e07".into(), false)));
        assert_eq!(chosen(&settled("3f2a9c1e07"), None), Ok(("9b1c2d3e4f".into(), false)), "an undo can be undone");
        assert_eq!(chosen(&settled("9b1c2d3e4f"), Some("77aa00bb11")), Ok(("77aa00bb11".into(), false)));
    }

    #[test]
    fn a_spec_that_is_refused_or_held_gives_way_to_the_stable_revision() {
        let stable = || Ok(("9b1c2d3e4f".to_owned(), true));
        let before = || Ok(("3f2a9c1e07".to_owned(), false));
        let mut paused = settled("9b1c2d3e4f");
        paused.spec.paused = true;
        for gateway in [refused(settled("9b1c2d3e4f")), paused] {
            let other_image = spec(&json!({"repository": "elsewhere.example/g", "tag": "1"}));
            assert_eq!(chosen(&gateway, &other_image, None), stable());
            assert_eq!(chosen(&gateway, &spec(&json!({"tag": "0.9.0"})), None), stable());
            let mut other_config = spec(&Value::Null);
            other_config["config"]["providers"][0]["baseURL"] = json!("ftp://refused.example");
            assert_eq!(chosen(&gateway, &other_config, None), stable());
            // Something else of the spec is refused or held.
            assert_eq!(chosen(&gateway, &spec(&Value::Null), None), before());
            assert_eq!(chosen(&gateway, &spec(&json!({"tag": "0.1.0"})), None), before());
            let mut spelled_out = spec(&Value::Null);
            spelled_out["config"]["client"] = serde_json::to_value(bifrost_crds::ClientSpec::default()).unwrap();
            assert_eq!(chosen(&gateway, &spelled_out, None), before(), "a default that is spelled out");
        }
    }

    #[test]
    fn while_an_image_is_on_its_way_it_gives_way_to_the_newest_that_ran() {
        for mut gateway in [settled("0000000000"), refused(settled("0000000000"))] {
            let rollout = gateway.status.as_mut().unwrap().rollout.as_mut().unwrap();
            rollout.phase = Some(MigrationPhase::Progressing);
            let spec = spec(&json!({"tag": "nonsuch"}));
            assert_eq!(chosen(&gateway, &spec, None), Ok(("9b1c2d3e4f".to_owned(), false)));
            gateway.spec.paused = true;
            assert_eq!(chosen(&gateway, &spec, None), Ok(("9b1c2d3e4f".to_owned(), false)));
        }
    }

    #[test]
    fn what_cannot_be_found_says_where_to_look() {
        let same = spec(&Value::Null);
        let unknown = chosen(&rolling_out(), &same, Some("deadbeef00")).unwrap_err();
        assert!(unknown.contains("no revision deadbeef00; see `kubectl bifrost history ai`"), "{unknown}");
        let mut stale = rolling_out();
        stale.metadata.generation = Some(10);
        assert!(chosen(&stale, &same, None).unwrap_err().contains("has not looked at the newest spec"));
        assert!(chosen(&stale, &same, Some("77aa00bb11")).is_ok());
        let mut silent = rolling_out();
        silent.status = None;
        assert!(chosen(&silent, &same, None).unwrap_err().contains("--to"));
        let only = [revision("3f2a9c1e07", "a:1")];
        let failure = target(&settled("3f2a9c1e07"), &same, &only, None).unwrap_err();
        assert!(failure.to_string().contains("no revision but the present one"), "{failure}");
    }

    #[test]
    fn a_stable_revision_that_was_deleted_leaves_a_way_out() {
        let only = [revision("77aa00bb11", "a:1")];
        for gateway in [rolling_out(), refused(settled("3f2a9c1e07"))] {
            let failure = target(&gateway, &spec(&Value::Null), &only, None).unwrap_err().to_string();
            assert!(failure.contains("no longer its stable revision 3f2a9c1e07"), "{failure}");
            assert!(failure.contains("`kubectl bifrost abort ai --rollout` keeps it serving"), "{failure}");
        }
    }

    /// What becomes of spec.image.
    fn image_of(gateway: &BifrostGateway, image: &Value, revision: &Revision, is_stable: bool) -> Option<Value> {
        let spec = spec_of(gateway, &spec(image), &Target { revision, is_stable }).unwrap();
        assert_eq!(spec["config"], config());
        spec.get("image").cloned()
    }

    #[test]
    fn an_image_is_written_where_the_spec_asks_for_another() {
        let tag = json!({"tag": "0.2.0"});
        let written = |image| image_of(&rolling_out(), &tag, &revision("r", image), false).unwrap();
        assert_eq!(written("registry.example/bifrost-gateway:0.2.0"), tag, "it is so already");
        let other = json!({"repository": "registry.example:5000/g", "tag": "0.1.0@sha256:00"});
        assert_eq!(written("registry.example:5000/g:0.1.0@sha256:00"), other);
        for none in ["registry.example:5000/g", "g@sha256:00"] {
            let revision = revision("r", none);
            let target = Target { revision: &revision, is_stable: false };
            let failure = spec_of(&rolling_out(), &spec(&tag), &target).unwrap_err();
            assert!(failure.to_string().contains("has no tag"), "{none}");
        }
    }

    #[test]
    fn an_image_that_was_refused_goes_whichever_revision_is_meant() {
        let gateway = refused(settled("3f2a9c1e07"));
        let bad = json!({"repository": "elsewhere.example/g", "tag": "1"});
        let good = json!({"repository": "registry.example/bifrost-gateway", "tag": "0.1.0"});
        let stable = revision("r", "registry.example/bifrost-gateway:0.1.0");
        for is_stable in [true, false] {
            assert_eq!(image_of(&gateway, &bad, &stable, is_stable), Some(good.clone()));
            assert_eq!(image_of(&gateway, &Value::Null, &stable, is_stable), Some(Value::Null), "as it is");
        }
        let mut by_digest = gateway;
        let digest = "registry.example/bifrost-gateway@sha256:00";
        by_digest.status.as_mut().unwrap().rollout.as_mut().unwrap().stable_image = Some(digest.into());
        assert_eq!(image_of(&by_digest, &bad, &revision("r", digest), true), None, "without one it is as it is");
        assert_eq!(image_of(&by_digest, &json!({"tag": "0.2.0"}), &revision("r", digest), true), None);
    }

    #[test]
    fn a_patch_takes_out_what_is_no_longer_there() {
        let before = json!({"a": 1, "b": {"c": 2, "d": 3}, "list": [1, 2]});
        let after = json!({"b": {"c": 2}, "list": [1], "e": {"f": 1}});
        let patch = json!({"a": null, "b": {"d": null}, "list": [1], "e": {"f": 1}});
        assert_eq!(merge_patch(&before, &after), Some(patch));
        assert_eq!(merge_patch(&before, &before), None);
    }

    #[test]
    fn only_who_keeps_these_fields_and_is_no_kubectl_is_named() {
        let entry = |manager: &str, field: &str| json!({"manager": manager, "operation": "Apply", "fieldsV1": {"f:spec": {field: {}}}});
        let fields = json!({"managedFields": [
            entry("kubectl-client-side-apply", "f:config"),
            entry("kustomize-controller", "f:image"),
            entry("kustomize-controller", "f:config"),
            entry("helm", "f:config"),
            entry("scaler", "f:replicas"),
        ]});
        let metadata: ObjectMeta = serde_json::from_value(fields).unwrap();
        assert_eq!(keepers(&metadata), ["helm", "kustomize-controller"]);
    }
}
