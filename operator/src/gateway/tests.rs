//! A typical gateway for the tests of the pure steps, and golden files of everything that is built for it.

mod candidates;
mod no_dead_field;

use std::collections::BTreeMap;
use std::sync::Arc;

use bifrost_config::published::PublishedKeys;
use bifrost_config::{AddressRule, Config, Migration, Position, SecretValue, StickyKey, Strategy};
use bifrost_crds::{BifrostGateway, ProviderKey};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::Resource;
use kube::api::DynamicObject;
use kube::core::DeserializeGuard;
use serde_json::{Value, json};

use super::build::{Circumstances, Plan, build, build_retreat};
use super::images::ImagePolicy;
use super::memory::Remembered;
use super::observe::{CaBundle, Observed, ObservedKey};
use super::part::Part;
use super::publish::Live;
use super::validate::{Policy, validate};
use crate::analysis::hosts::HostRule;
use crate::confirm::Summary;
use crate::migration::progress::Progress;
use crate::secrets::NoValue;

pub(crate) fn policy() -> Policy {
    Policy {
        images: ImagePolicy::new("ghcr.io/example/bifrost-gateway:0.1.0", Vec::new()),
        addresses: AddressRule::NoLocal,
        hosts: HostRule::new(&["prometheus.monitoring.svc:9090".to_owned()], AddressRule::NoLocal).unwrap(),
    }
}

pub(crate) fn gateway() -> BifrostGateway {
    serde_json::from_value(json!({
        "apiVersion": "bifrost.dev/v1alpha1",
        "kind": "BifrostGateway",
        "metadata": {"name": "ai", "namespace": "llm", "uid": "g", "generation": 1},
        "spec": {
            "config": {"providers": [{"name": "openai", "type": "OpenAI"}, {"name": "anthropic", "type": "Anthropic"}]},
            "migration": {"canaryPercent": 10},
        },
    }))
    .unwrap()
}

pub(crate) fn observed_key(name: &str, provider: &str, value: Result<&str, NoValue>) -> ObservedKey {
    let key: ProviderKey = serde_json::from_value(json!({
        "apiVersion": "bifrost.dev/v1alpha1",
        "kind": "ProviderKey",
        "metadata": {"name": name, "namespace": "llm", "uid": name, "generation": 1},
        "spec": {"provider": provider, "secretRef": {"name": "openai", "key": "api-key"}},
    }))
    .unwrap();
    ObservedKey { key, value: Some(value.map(SecretValue::new)) }
}

/// A new gateway with one key, before anything was made.
pub(crate) fn observed() -> Observed {
    let gateway = gateway();
    let mut owner = gateway.controller_owner_ref(&()).unwrap();
    owner.block_owner_deletion = Some(true);
    Observed {
        gateway,
        owner,
        objects: BTreeMap::new(),
        live: Live::default(),
        kept: None,
        secret: PublishedKeys::default(),
        keys: vec![observed_key("main", "openai", Ok("sk-main"))],
        unreadable_keys: BTreeMap::new(),
        ca_bundle: CaBundle::NotAsked,
        pods: Vec::new(),
        remembered: None,
        candidates: Vec::new(),
        summary: Summary::default(),
        report: None,
        rollout_report: None,
        prices: Arc::default(),
        now: Timestamp::UNIX_EPOCH,
    }
}

/// What the operator that published this would know.
pub(crate) fn remembered(observed: &Observed) -> Remembered {
    let published = observed.live.published.as_ref().unwrap();
    Remembered {
        config: published.config.clone(),
        migration: observed.live.migration().unwrap(),
        progress: observed.live.state.migration.clone().unwrap(),
        candidate: observed.live.candidate().cloned(),
        record: observed.live.state.rollout.clone().unwrap(),
        image: observed.live.state.image.clone(),
        epoch: published.traffic.epoch,
        token: SecretValue::new("token"),
        network_policy: Some(true),
    }
}

pub(crate) fn pod(suffix: &str, ready: bool) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": format!("ai-{suffix}"), "namespace": "llm", "uid": suffix},
        "status": {
            "phase": "Running",
            "podIP": "10.0.0.1",
            "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}],
            "containerStatuses": [{
                "name": "gateway", "image": "", "imageID": "", "ready": ready, "restartCount": 0,
                "state": {"running": {}},
            }],
        },
    }))
    .unwrap()
}

pub(crate) fn config() -> Config {
    validate(&observed(), &policy()).wanted.unwrap().config
}

pub(crate) fn migration(percent: u8) -> Migration {
    Migration {
        strategy: Strategy::Canary,
        percent,
        rules: Vec::new(),
        sticky_key: StickyKey::Auto,
        salt: "llm/ai".into(),
        allow_arm_header: false,
        shadow: None,
        tool_calls: false,
        empty_answers: false,
    }
}

pub(crate) fn progress(percent: u8) -> Progress {
    Progress {
        position: Some(Position::Percent(percent)),
        ..Progress::new(Strategy::Canary, "r", None, Timestamp::UNIX_EPOCH)
    }
}

pub(crate) fn circumstances(released: bool) -> Circumstances {
    Circumstances { known_epoch: 0, released, token: SecretValue::new("token"), addresses: AddressRule::NoLocal }
}

pub(crate) fn plan(observed: &Observed, released: bool) -> Plan {
    let decision = validate(observed, &policy());
    let wanted = decision.wanted.clone().unwrap();
    build(observed, &decision, &wanted, &circumstances(released)).unwrap()
}

/// The same gateway after everything was made.
pub(crate) fn publish_all(mut observed: Observed) -> Observed {
    for (part, object) in plan(&observed, true).objects {
        let mut live: DynamicObject = serde_json::from_value(object.body).unwrap();
        live.metadata.uid = Some(format!("{part:?}"));
        live.metadata.resource_version = Some("1".into());
        observed.objects.insert(part, live);
    }
    read_back(observed)
}

fn read_back(mut observed: Observed) -> Observed {
    let data = |part: Part| observed.objects[&part].data["data"].clone();
    observed.live = Live::parse(serde_json::from_value(data(Part::Published)).unwrap(), "g");
    let secret: BTreeMap<String, ByteString> = serde_json::from_value(data(Part::Keys)).unwrap();
    observed.secret = PublishedKeys::parse(secret.iter().map(|(key, value)| (key.as_str(), value.0.as_slice())));
    observed
}

/// Members that hold JSON, as JSON, so that a golden file can be read.
fn readable(mut body: Value) -> Value {
    if body["kind"] == "ConfigMap" {
        for (name, value) in body["data"].as_object_mut().unwrap() {
            if name.ends_with(".json") {
                *value = serde_json::from_str(value.as_str().unwrap()).unwrap();
            }
        }
    }
    body
}

#[test]
fn everything_that_is_built_for_a_typical_gateway() {
    for (part, object) in plan(&observed(), true).objects {
        insta::assert_yaml_snapshot!(format!("{part:?}"), readable(object.body));
    }
}

#[test]
fn a_second_look_changes_nothing() {
    let seen = publish_all(observed());
    for (part, object) in plan(&seen, true).objects {
        let live = serde_json::to_value(&seen.objects[&part].data).unwrap();
        for member in ["data", "spec", "rules", "subjects"] {
            assert_eq!(object.body.get(member), live.get(member), "{part:?}");
        }
    }
}

#[test]
fn a_configuration_never_reaches_the_pod_template() {
    let before = plan(&observed(), true);
    let mut changed = observed();
    changed.gateway.spec.migration.canary_percent = Some(90);
    changed.gateway.spec.config.client.max_request_body = "1Mi".into();
    changed.keys.push(observed_key("second", "openai", Ok("sk-second")));
    let deployment = |plan: &Plan| {
        plan.objects.iter().find(|(part, _)| *part == Part::Deployment).map(|(_, object)| object.body.clone())
    };
    assert_eq!(deployment(&before), deployment(&plan(&changed, true)));
}

#[test]
fn a_key_leaves_the_configmap_first_and_the_secret_when_no_pod_uses_it() {
    let mut seen = publish_all(observed());
    seen.keys.clear();
    // The ConfigMap as it was read still names the key, so even pods that confirm it hold the key.
    let first = plan(&seen, true);
    assert!(first.secret.data.contains_key("key.main"));
    assert!(!first.publication.data["stable.json"].contains("main"));

    seen.live = Live::parse(first.publication.data, "g");
    assert!(plan(&seen, false).secret.data.contains_key("key.main"));
    let last = plan(&seen, true);
    assert_eq!(last.secret.released, ["main"]);
    assert_eq!(last.publication.traffic.epoch, 2);
}

#[test]
fn a_network_policy_that_is_switched_off_is_not_built() {
    let mut seen = observed();
    seen.gateway.spec.network_policy.enabled = false;
    assert!(plan(&seen, true).objects.iter().all(|(part, _)| *part != Part::NetworkPolicy));
}

#[test]
fn while_the_spec_is_held_back_what_is_missing_comes_back_and_nothing_else_changes() {
    for pause in [true, false] {
        let mut seen = publish_all(observed());
        seen.remembered = Some(remembered(&seen));
        seen.objects.retain(|part, _| ![Part::Service, Part::Deployment, Part::NetworkPolicy].contains(part));
        seen.gateway.spec.paused = pause;
        if !pause {
            seen.gateway.spec.config.providers[0].base_url = Some("nonsense".into());
        }
        let written: Vec<_> = plan(&seen, true).objects.into_iter().map(|(part, _)| part).collect();
        assert_eq!(
            written,
            [Part::Keys, Part::Published, Part::Service, Part::NetworkPolicy, Part::Deployment],
            "paused: {pause}"
        );
    }
}

#[test]
fn a_network_policy_that_was_not_wanted_before_does_not_appear_while_the_spec_is_held_back() {
    let mut seen = publish_all(observed());
    seen.objects.remove(&Part::NetworkPolicy);
    seen.gateway.spec.paused = true;
    for known in [Some(Remembered { network_policy: Some(false), ..remembered(&seen) }), None] {
        seen.remembered = known;
        assert!(plan(&seen, true).objects.iter().all(|(part, _)| *part != Part::NetworkPolicy));
    }
}

#[test]
fn pods_are_told_when_local_addresses_are_allowed() {
    let env = |addresses| {
        let seen = observed();
        let decision = validate(&seen, &policy());
        let circumstances = Circumstances { addresses, ..circumstances(true) };
        let plan = build(&seen, &decision, decision.wanted.as_ref().unwrap(), &circumstances).unwrap();
        let (_, deployment) = plan.objects.into_iter().find(|(part, _)| *part == Part::Deployment).unwrap();
        deployment.body["spec"]["template"]["spec"]["containers"][0]["env"].to_string()
    };
    assert!(!env(AddressRule::NoLocal).contains("BIFROST_ALLOW_LOCAL_ADDRESSES"));
    assert!(env(AddressRule::Any).contains(r#"{"name":"BIFROST_ALLOW_LOCAL_ADDRESSES","value":"true"}"#));
}

#[test]
fn what_only_takes_away_can_be_published_without_touching_the_secret() {
    let mut seen = publish_all(observed());
    seen.gateway.spec.migration.canary_percent = Some(0);
    let wanted = crate::gateway::validate::retreat(&seen, &policy()).unwrap();
    let plan = build_retreat(&seen, &wanted, &circumstances(true)).unwrap();
    let parts: Vec<_> = plan.objects.iter().map(|(part, _)| *part).collect();
    assert_eq!(parts, [Part::Published]);
    assert_eq!((plan.publication.traffic.percent, plan.publication.traffic.epoch), (0, 2));
    assert_eq!(plan.secret.generations, seen.secret.generations);
}

#[test]
fn no_configmap_holds_a_key_value() {
    for (part, object) in plan(&observed(), true).objects {
        assert!(!object.body.to_string().contains("sk-main"), "{part:?}");
    }
}

#[test]
fn one_object_that_cannot_be_read_keeps_its_name_and_labels() {
    let mut object = serde_json::to_value(gateway()).unwrap();
    object["metadata"]["labels"] = json!({"team": "search"});
    object["spec"]["pod"] = json!({
        "resources": {"limits": {"cpu": 2, "memory": "1Gi"}},
        "tolerations": [{"key": "a", "operator": "Exists", "tolerationSeconds": 3}],
    });
    let read = |object: &Value| serde_json::from_value::<DeserializeGuard<BifrostGateway>>(object.clone()).unwrap();
    let whole: BifrostGateway = serde_json::from_value(object.clone()).unwrap();
    assert_eq!(read(&object).0.unwrap(), whole);
    object["spec"]["migration"]["strategy"] = json!("OfALaterVersion");
    let invalid = read(&object).0.unwrap_err();
    assert_eq!(invalid.metadata.name.as_deref(), Some("ai"));
    assert_eq!(invalid.metadata.labels.unwrap()["team"], "search");
}

/// A gateway that serves, with a canary rollout of this change on its way.
fn rolling_out(change: impl FnOnce(&mut BifrostGateway)) -> Observed {
    let mut seen = publish_all(observed());
    seen.gateway.spec.rollout = serde_json::from_value(json!({
        "strategy": "Canary", "canary": {"steps": [{"percent": 10, "hold": "10m"}, {"percent": 50, "hold": "10m"}]},
    }))
    .unwrap();
    seen.summary.programmed = true;
    seen = publish_all(seen);
    change(&mut seen.gateway);
    publish_all(seen)
}

#[test]
fn everything_that_a_candidate_with_an_image_of_its_own_needs() {
    let seen = rolling_out(|gateway| {
        gateway.spec.image = serde_json::from_value(json!({"tag": "0.2.0"})).unwrap();
    });
    for part in Part::ALL.into_iter().filter(|part| part.is_of_candidate()) {
        let object = &seen.objects[&part];
        insta::assert_yaml_snapshot!(format!("{part:?}"), json!({"metadata": object.metadata, "rest": object.data}));
    }
    let image = |part: Part| {
        seen.objects[&part].data.pointer("/spec/template/spec/containers/0/image").unwrap().as_str().unwrap().to_owned()
    };
    assert_eq!(image(Part::Deployment), "ghcr.io/example/bifrost-gateway:0.1.0");
    assert_eq!(image(Part::Candidate), "ghcr.io/example/bifrost-gateway:0.2.0");
    let published = seen.live.published.as_ref().unwrap();
    let rollout = published.traffic.rollout.as_ref().unwrap();
    assert_eq!((rollout.percent, rollout.config.as_ref(), published.candidate.as_ref()), (0, None, None));
    assert_eq!(rollout.forward.as_deref(), Some("http://ai-bifrost-candidate.llm.svc:8082"));
}

#[test]
fn a_candidate_is_reached_at_the_address_that_its_service_has_now() {
    let mut seen = rolling_out(|gateway| {
        gateway.spec.image = serde_json::from_value(json!({"tag": "0.2.0"})).unwrap();
    });
    for (address, url) in [("10.96.0.7", "http://10.96.0.7:8082"), ("fd00::7", "http://[fd00::7]:8082")] {
        let service = seen.objects.get_mut(&Part::CandidateService).unwrap();
        service.data["spec"]["clusterIP"] = json!(address);
        seen = publish_all(seen);
        let rollout = seen.live.published.as_ref().unwrap().traffic.rollout.as_ref().unwrap();
        assert_eq!(rollout.forward.as_deref(), Some(url));
    }
}

#[test]
fn nothing_that_selects_the_gateways_pods_selects_a_candidates() {
    let seen = rolling_out(|gateway| {
        gateway.spec.image = serde_json::from_value(json!({"tag": "0.2.0"})).unwrap();
    });
    let labels = seen.objects[&Part::Candidate].data["spec"]["template"]["metadata"]["labels"].clone();
    let selectors = [
        (Part::Service, "/spec/selector"),
        (Part::PodDisruptionBudget, "/spec/selector/matchLabels"),
        (Part::NetworkPolicy, "/spec/podSelector/matchLabels"),
        (Part::Deployment, "/spec/selector/matchLabels"),
    ];
    for (part, at) in selectors {
        let selector = seen.objects[&part].data.pointer(at).unwrap().as_object().unwrap();
        assert!(selector.iter().any(|(key, value)| labels[key] != *value), "{part:?}");
    }
    let own = seen.objects[&Part::CandidateService].data["spec"]["selector"].as_object().unwrap().clone();
    assert!(own.iter().all(|(key, value)| labels[key] == *value));
}
