//! Which revision is meant, what the spec becomes, and who else keeps it. Pure.

use bifrost_crds::{BifrostGateway, RolloutStatus};
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

/// Finds it: the one that was named; else, while there is a candidate, the stable one; else the newest of the others.
pub(super) fn target<'a>(
    gateway: &BifrostGateway,
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
        (None, Some(stable)) => match rollout.is_some_and(|rollout| rollout.candidate_revision.is_some()) {
            true => {
                find(stable).ok_or_else(|| format!("the history of {name} has no longer its stable revision {stable}"))
            }
            false => {
                let others = history.iter().rev().find(|revision| revision.id != stable);
                others.ok_or_else(|| format!("the history of {name} has no revision but the present one"))
            }
        },
    };
    let revision = found.map_err(|why| Failure::no(format!("{why}; see `kubectl bifrost history {name}`")))?;
    Ok(Target { revision, is_stable: stable == Some(revision.id.as_str()) })
}

/// What the spec becomes. An image that is what the spec asks for already is left as the spec has it.
pub(super) fn spec_of(gateway: &BifrostGateway, before: &Value, revision: &Revision) -> Result<Value, Failure> {
    let mut spec = before.clone();
    spec["config"] = Value::Object(revision.config.clone());
    let wanted = rollout(gateway).filter(|_| is_current(gateway));
    let wanted = wanted.and_then(|rollout| rollout.candidate_image.as_ref().or(rollout.stable_image.as_ref()));
    if wanted != Some(&revision.image) {
        spec["image"] = image(&revision.image).ok_or_else(|| {
            Failure::no(format!(
                "revision {} ran {}, which spec.image cannot name, as it has no tag: set spec.image yourself",
                revision.id, revision.image
            ))
        })?;
    }
    Ok(spec)
}

/// Whether the status describes the newest spec.
fn is_current(gateway: &BifrostGateway) -> bool {
    gateway.status.as_ref().and_then(|status| status.observed_generation) == gateway.metadata.generation
}

fn rollout(gateway: &BifrostGateway) -> Option<&RolloutStatus> {
    gateway.status.as_ref()?.rollout.as_ref()
}

/// An image as the spec has it. A port of the registry is no tag.
fn image(text: &str) -> Option<Value> {
    let name = text.rfind('/').map_or(0, |slash| slash + 1);
    let colon = name + text[name..].find([':', '@'])?;
    let (repository, tag) = text.split_at(colon);
    tag.strip_prefix(':').map(|tag| json!({"repository": repository, "tag": tag}))
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
        Revision { id: id.to_owned(), image: image.to_owned(), at, config: serde_json::Map::new() }
    }

    fn history() -> [Revision; 3] {
        ["77aa00bb11", "3f2a9c1e07", "9b1c2d3e4f"].map(|id| revision(id, "registry.example/bifrost-gateway:0.1.0"))
    }

    fn settled(stable: &str) -> BifrostGateway {
        let mut gateway = rolling_out();
        let rollout = gateway.status.as_mut().unwrap().rollout.as_mut().unwrap();
        rollout.stable_revision = Some(stable.to_owned());
        (rollout.candidate_revision, rollout.candidate_image) = (None, None);
        gateway
    }

    fn chosen(gateway: &BifrostGateway, named: Option<&str>) -> Result<(String, bool), String> {
        let history = history();
        let target = target(gateway, &history, named).map_err(|failure| failure.to_string())?;
        Ok((target.revision.id.clone(), target.is_stable))
    }

    #[test]
    fn a_candidate_gives_way_to_the_stable_revision_and_that_to_the_one_before() {
        assert_eq!(chosen(&rolling_out(), None), Ok(("3f2a9c1e07".into(), true)));
        assert_eq!(chosen(&settled("9b1c2d3e4f"), None), Ok(("3f2a9c1e07".into(), false)));
        assert_eq!(chosen(&settled("3f2a9c1e07"), None), Ok(("9b1c2d3e4f".into(), false)), "an undo can be undone");
        assert_eq!(chosen(&settled("9b1c2d3e4f"), Some("77aa00bb11")), Ok(("77aa00bb11".into(), false)));
    }

    #[test]
    fn what_cannot_be_found_says_where_to_look() {
        let unknown = chosen(&rolling_out(), Some("deadbeef00")).unwrap_err();
        assert!(unknown.contains("no revision deadbeef00; see `kubectl bifrost history ai`"), "{unknown}");
        let mut stale = rolling_out();
        stale.metadata.generation = Some(10);
        assert!(chosen(&stale, None).unwrap_err().contains("has not looked at the newest spec"));
        assert!(chosen(&stale, Some("77aa00bb11")).is_ok());
        let mut silent = rolling_out();
        silent.status = None;
        assert!(chosen(&silent, None).unwrap_err().contains("--to"));
        let only = [revision("3f2a9c1e07", "a:1")];
        let failure = target(&settled("3f2a9c1e07"), &only, None).unwrap_err();
        assert!(failure.to_string().contains("no revision but the present one"), "{failure}");
    }

    #[test]
    fn an_image_is_written_where_the_spec_asks_for_another() {
        let before = json!({"image": {"tag": "0.2.0"}, "config": {}});
        let spec = |gateway: &BifrostGateway, image| spec_of(gateway, &before, &revision("r", image));
        let candidate = rolling_out();
        assert_eq!(spec(&candidate, "registry.example/bifrost-gateway:0.2.0").unwrap(), before, "it is so already");
        let written = spec(&candidate, "registry.example:5000/g:0.1.0@sha256:00").unwrap();
        assert_eq!(written["image"], json!({"repository": "registry.example:5000/g", "tag": "0.1.0@sha256:00"}));
        for none in ["registry.example:5000/g", "g@sha256:00"] {
            assert!(spec(&candidate, none).unwrap_err().to_string().contains("has no tag"), "{none}");
        }
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
