//! What is decided in typical and in bad moments.

use bifrost_crds::ImageSpec;
use kube::api::DynamicObject;
use serde_json::json;

use super::*;
use crate::gateway::build::build;
use crate::gateway::memory::Remembered;
use crate::gateway::publish::Live;
use crate::gateway::tests::{circumstances, observed, observed_key, policy, publish_all, remembered};

const CA: &str = include_str!("../../../../gateway/config/testdata/ca.pem");

fn message(decision: &Decision) -> &str {
    decision.rejection.as_ref().map_or("", |rejection| rejection.message.as_str())
}

#[test]
fn a_valid_gateway_is_wanted_as_a_whole() {
    let decision = validate(&observed(), &policy());
    assert!(decision.rejection.is_none() && decision.whole);
    let wanted = decision.wanted.unwrap();
    assert_eq!(wanted.image, "ghcr.io/example/bifrost-gateway:0.1.0");
    assert_eq!(wanted.migration.percent, 10);
    assert_eq!(wanted.migration.salt, "llm/ai");
    assert_eq!(wanted.config.keys.len(), 1);
}

#[test]
fn a_bad_spec_names_the_field_and_leaves_what_is_published() {
    let mut seen = publish_all(observed());
    seen.gateway.spec.config.providers[0].base_url = Some("http://127.0.0.1".into());
    seen.gateway.spec.migration.canary_percent = Some(50);
    let decision = validate(&seen, &policy());
    assert!(message(&decision).starts_with("spec.config.providers[0].baseURL: "), "{}", message(&decision));
    assert!(!decision.whole);
    let wanted = decision.wanted.unwrap();
    assert_eq!(wanted.config, seen.live.published.as_ref().unwrap().config);
    assert_eq!(wanted.migration.percent, 10);
}

#[test]
fn a_bad_spec_before_anything_was_published_publishes_nothing() {
    let mut seen = observed();
    seen.gateway.spec.config.providers[0].base_url = Some("nonsense".into());
    assert!(validate(&seen, &policy()).wanted.is_none());
}

#[test]
fn what_takes_away_goes_on_while_paused_or_rejected() {
    for pause in [true, false] {
        let mut seen = publish_all(observed());
        if pause {
            seen.gateway.spec.paused = true;
        } else {
            seen.gateway.spec.config.providers[0].base_url = Some("nonsense".into());
        }
        seen.gateway.spec.migration.canary_percent = Some(3);
        seen.keys.clear();
        let decision = validate(&seen, &policy());
        assert!(!decision.whole);
        let wanted = decision.wanted.unwrap();
        assert_eq!(wanted.migration.percent, 3);
        assert!(wanted.config.keys.is_empty());
    }
}

#[test]
fn a_paused_gateway_takes_no_new_key_and_no_new_image() {
    let mut seen = publish_all(observed());
    seen.gateway.spec.paused = true;
    seen.gateway.spec.image = Some(ImageSpec { repository: None, tag: Some("0.2.0".into()) });
    seen.keys.push(observed_key("second", "openai", Ok("sk-2")));
    let decision = validate(&seen, &policy());
    assert!(decision.rejection.is_none() && decision.paused);
    let wanted = decision.wanted.unwrap();
    assert_eq!(wanted.config.keys.len(), 1);
    assert_eq!(wanted.image, "ghcr.io/example/bifrost-gateway:0.1.0");
}

#[test]
fn a_foreign_object_is_named_and_stops_everything_but_what_is_ours_already() {
    let foreign: DynamicObject =
        serde_json::from_value(serde_json::json!({"metadata": {"name": "ai", "uid": "x"}})).unwrap();
    let mut fresh = observed();
    fresh.objects.insert(Part::Service, foreign.clone());
    let decision = validate(&fresh, &policy());
    assert_eq!(decision.rejection.as_ref().unwrap().reason, Reason::NameConflict);
    assert!(message(&decision).starts_with("Service ai is already there"), "{}", message(&decision));
    assert!(decision.wanted.is_none() && !decision.whole);

    let mut running = publish_all(observed());
    running.objects.insert(Part::PodDisruptionBudget, foreign.clone());
    running.gateway.spec.migration.canary_percent = Some(0);
    assert_eq!(validate(&running, &policy()).wanted.unwrap().migration.percent, 0);

    running.objects.insert(Part::Keys, foreign);
    assert!(validate(&running, &policy()).wanted.is_none());
}

#[test]
fn objects_of_an_earlier_gateway_are_waited_for() {
    let mut seen = observed();
    let earlier = serde_json::json!({"metadata": {"name": "ai", "ownerReferences": [{
        "apiVersion": "bifrost.dev/v1alpha1", "kind": "BifrostGateway", "name": "ai", "uid": "before", "controller": true}]}});
    seen.objects.insert(Part::Deployment, serde_json::from_value(earlier).unwrap());
    let decision = validate(&seen, &policy());
    assert_eq!(decision.waits_for, ["Deployment ai"]);
    assert!(decision.rejection.is_none() && decision.wanted.is_none() && !decision.whole);
}

#[test]
fn an_image_must_come_from_an_allowed_repository_and_runs_on_when_the_spec_names_none() {
    let mut seen = observed();
    seen.gateway.spec.image = Some(ImageSpec { repository: Some("evil.example/x".into()), tag: None });
    assert!(message(&validate(&seen, &policy())).starts_with("spec.image.repository: evil.example/x"));
    let mut running = publish_all(observed());
    running.remembered =
        Some(Remembered { image: "ghcr.io/example/bifrost-gateway:0.0.9".into(), ..remembered(&running) });
    assert_eq!(validate(&running, &policy()).wanted.unwrap().image, "ghcr.io/example/bifrost-gateway:0.0.9");
    running.gateway.spec.image = Some(ImageSpec { repository: None, tag: Some("0.2.0".into()) });
    assert_eq!(validate(&running, &policy()).wanted.unwrap().image, "ghcr.io/example/bifrost-gateway:0.2.0");
}

#[test]
fn an_image_that_no_pod_runs_is_left_where_the_spec_names_it_no_more() {
    let mut seen = publish_all(observed());
    seen.gateway.spec.image = Some(ImageSpec { repository: None, tag: Some("nonsuch".into()) });
    let mut seen = publish_all(seen);
    let of = |seen: &Observed| validate(seen, &policy()).wanted.unwrap().image;
    assert_eq!(of(&seen), "ghcr.io/example/bifrost-gateway:nonsuch");
    seen.gateway.spec.image = None;
    assert_eq!(of(&seen), "ghcr.io/example/bifrost-gateway:0.1.0", "as before it named one");
    let record = seen.live.state.rollout.as_mut().unwrap();
    assert_eq!(record.ran.as_deref(), Some("ghcr.io/example/bifrost-gateway:0.1.0"));
    record.ran = Some("evil.example/x:1".into());
    assert_eq!(of(&seen), "ghcr.io/example/bifrost-gateway:nonsuch", "another hand may have written that");
    seen.live.state.rollout.as_mut().unwrap().ran = None;
    assert_eq!(of(&seen), "ghcr.io/example/bifrost-gateway:nonsuch", "it runs");
}

#[test]
fn a_missing_ca_bundle_keeps_the_last_one() {
    let mut seen = observed();
    seen.ca_bundle = CaBundle::Found(CA.into());
    let mut seen = publish_all(seen);
    seen.ca_bundle = CaBundle::Missing("ConfigMap corp-ca does not exist".into());
    let decision = validate(&seen, &policy());
    assert_eq!(decision.wanted.unwrap().config.ca_bundle.as_deref(), Some(CA));
    assert_eq!(decision.unresolved[0].reason, Reason::NotResolved);
    assert_eq!(
        decision.unresolved[0].message,
        "spec.config.caBundleRef: ConfigMap corp-ca does not exist; the last certificates stay in use"
    );
}

#[test]
fn a_bad_ca_bundle_holds_nothing_up_and_the_last_good_one_stays() {
    let bad = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let mut seen = observed();
    seen.gateway.spec.config.ca_bundle_ref = Some(CaBundleRef { name: "corp-ca".into(), key: "ca.crt".into() });
    seen.ca_bundle = CaBundle::Found(CA.into());
    let mut seen = publish_all(seen);
    seen.ca_bundle = CaBundle::Found(format!("{CA}{bad}"));
    seen.gateway.spec.migration.canary_percent = Some(0);
    let decision = validate(&seen, &policy());
    assert!(decision.rejection.is_none() && decision.whole);
    let wanted = decision.wanted.unwrap();
    assert_eq!((wanted.config.ca_bundle.as_deref(), wanted.migration.percent), (Some(CA), 0));
    let told = &decision.unresolved[0].message;
    assert!(told.starts_with("spec.config.caBundleRef: member ca.crt of ConfigMap corp-ca: certificate 2: "), "{told}");

    let mut fresh = observed();
    fresh.ca_bundle = CaBundle::Found(bad.into());
    let decision = validate(&fresh, &policy());
    assert_eq!(decision.wanted.unwrap().config.ca_bundle, None);
    assert!(decision.unresolved[0].message.ends_with("only the built-in roots are trusted"));
}

#[test]
fn a_bad_ca_bundle_that_was_published_all_the_same_is_not_held() {
    let mut seen = publish_all(observed());
    seen.live.published.as_mut().unwrap().config.ca_bundle = Some("nothing".into());
    seen.gateway.spec.paused = true;
    assert_eq!(validate(&seen, &policy()).wanted.unwrap().config.ca_bundle, None);
}

#[test]
fn a_configuration_that_does_not_fit_is_refused() {
    let mut seen = observed();
    seen.ca_bundle = CaBundle::Found(CA.repeat(1 + (500 << 10) / CA.len()));
    let decision = validate(&seen, &policy());
    assert_eq!(decision.rejection.as_ref().unwrap().reason, Reason::ConfigTooLarge);
    assert!(message(&decision).starts_with("spec.config.caBundleRef: "), "{}", message(&decision));

    let mut seen = observed();
    seen.keys[0].key.spec.models = vec!["m".repeat(500 << 10)];
    let decision = validate(&seen, &policy());
    assert!(message(&decision).starts_with("spec.providerKeySelector: "), "{}", message(&decision));
}

#[test]
fn values_that_fit_into_no_secret_are_refused() {
    let mut seen = publish_all(observed());
    let value = "k".repeat(8 << 10);
    seen.keys = (0..100).map(|n| observed_key(&format!("key-{n}"), "openai", Ok(&value))).collect();
    seen.gateway.spec.migration.canary_percent = Some(0);
    let decision = validate(&seen, &policy());
    assert!(message(&decision).starts_with("spec.providerKeySelector: the values "), "{}", message(&decision));
    assert_eq!(decision.wanted.unwrap().migration.percent, 0, "what takes away goes on");
}

#[test]
fn a_selector_that_cannot_be_read_takes_no_key_away() {
    let mut seen = publish_all(observed());
    seen.gateway.spec.provider_key_selector =
        serde_json::from_value(serde_json::json!({"matchExpressions": [{"key": "a", "operator": "In"}]})).unwrap();
    let decision = validate(&seen, &policy());
    assert!(message(&decision).starts_with("spec.providerKeySelector.matchExpressions[0]: "), "{}", message(&decision));
    assert_eq!(decision.wanted.unwrap().config.keys.len(), 1);
}

#[test]
fn an_image_that_was_noted_by_another_hand_is_not_run() {
    let mut seen = publish_all(observed());
    seen.live.state.image = "evil.example/x:1".into();
    let decision = validate(&seen, &policy());
    assert_eq!(decision.wanted.unwrap().image, "ghcr.io/example/bifrost-gateway:0.1.0");
    seen.objects.remove(&Part::Deployment);
    seen.gateway.spec.paused = true;
    assert_eq!(validate(&seen, &policy()).wanted.unwrap().image, "ghcr.io/example/bifrost-gateway:0.1.0");
    seen.gateway.spec.paused = false;
    seen.gateway.spec.image = Some(ImageSpec { repository: None, tag: Some("2".into()) });
    assert_eq!(validate(&seen, &policy()).wanted.unwrap().image, "ghcr.io/example/bifrost-gateway:2");
}

#[test]
fn an_image_that_runs_and_is_not_allowed_any_more_is_told_and_not_replaced() {
    let mut seen = publish_all(observed());
    let other = Policy { images: ImagePolicy::new("mirror.example/gateway:1", Vec::new()), ..policy() };
    let decision = validate(&seen, &other);
    let told = message(&decision);
    assert!(told.starts_with("spec.image.repository: ghcr.io/example/bifrost-gateway is not among"), "{told}");
    assert!(!decision.whole);
    let spec = ImageSpec { repository: Some("mirror.example/gateway".into()), tag: Some("1".into()) };
    seen.gateway.spec.image = Some(spec);
    assert_eq!(validate(&seen, &other).wanted.unwrap().image, "mirror.example/gateway:1");
}

#[test]
fn an_image_that_is_not_allowed_any_more_runs_on_however_often_it_is_looked_at() {
    let runs = "ghcr.io/example/bifrost-gateway:0.1.0";
    let other = Policy { images: ImagePolicy::new("mirror.example/gateway:1", Vec::new()), ..policy() };
    let mut seen = publish_all(observed());
    for _ in 0..2 {
        let decision = validate(&seen, &other);
        assert!(decision.rejection.is_some() && !decision.whole);
        let wanted = decision.wanted.clone().unwrap();
        assert_eq!(wanted.image, runs);
        let plan = build(&seen, &decision, &wanted, &circumstances(true)).unwrap();
        assert!(plan.objects.iter().all(|(part, _)| *part != Part::Deployment));
        seen.live = Live::parse(plan.publication.data, "g");
        assert_eq!(seen.live.state.image, runs);
        seen.remembered = Some(Remembered { image: wanted.image, ..remembered(&seen) });
    }
    seen.objects.remove(&Part::Deployment);
    assert_eq!(validate(&seen, &other).wanted.unwrap().image, "mirror.example/gateway:1", "one that is made anew");
}

#[test]
fn what_this_process_published_counts_more_than_what_it_finds() {
    let mut seen = publish_all(observed());
    seen.remembered = Some(remembered(&seen));
    seen.live = Default::default();
    seen.objects.remove(&Part::Published);
    seen.gateway.spec.config.providers[0].base_url = Some("nonsense".into());
    let wanted = validate(&seen, &policy()).wanted.unwrap();
    assert_eq!((wanted.migration.percent, wanted.config.keys.len()), (10, 1));
}

#[test]
fn a_paused_gateway_whose_configmap_is_lost_gets_what_its_spec_says() {
    let mut seen = publish_all(observed());
    seen.live = Default::default();
    seen.objects.remove(&Part::Published);
    seen.gateway.spec.paused = true;
    let decision = validate(&seen, &policy());
    assert!(!decision.whole);
    assert_eq!(decision.wanted.unwrap().migration.percent, 10);
    seen.objects.clear();
    assert!(validate(&seen, &policy()).wanted.is_none(), "nothing was published yet");
}

#[test]
fn where_the_secret_cannot_be_written_only_what_takes_away_goes_on() {
    let mut seen = publish_all(observed());
    seen.keys[0].value = Some(Ok(bifrost_config::SecretValue::new("sk-rotated")));
    seen.keys.push(observed_key("second", "openai", Ok("sk-2")));
    seen.gateway.spec.migration.canary_percent = Some(3);
    let wanted = retreat(&seen, &policy()).unwrap();
    assert_eq!((wanted.migration.percent, wanted.config.keys.len()), (3, 1));
    assert_eq!(wanted.values["main"].expose(), "sk-main");
    seen.gateway.spec.migration.canary_percent = Some(50);
    assert_eq!(retreat(&seen, &policy()).unwrap().migration.percent, 10);
    seen.objects.remove(&Part::Keys);
    assert!(retreat(&seen, &policy()).is_none());
}

#[test]
fn a_metric_asks_only_hosts_that_the_operator_allows() {
    let mut seen = observed();
    let metrics = |url: &str| {
        let spec = json!({"canaryPercent": 10, "analysis": {"metrics": [
            {"name": "a", "prometheus": {"url": "http://prometheus.monitoring.svc:9090", "query": "q", "max": "1"}},
            {"name": "b", "webhook": {"url": url}},
        ]}});
        serde_json::from_value(spec).unwrap()
    };
    seen.gateway.spec.migration = metrics("http://prometheus.monitoring.svc:9090/judge");
    assert_eq!(validate(&seen, &policy()).rejection, None);
    for (url, why) in [
        (
            "https://judge.example",
            "judge.example is not among the hosts that an analysis may ask: let whoever runs the operator",
        ),
        ("http://127.0.0.1", "127.0.0.1 is a loopback or link-local address"),
    ] {
        seen.gateway.spec.migration = metrics(url);
        let rejection = validate(&seen, &policy()).rejection.unwrap();
        assert_eq!(rejection.reason, Reason::ConfigRejected);
        let expected = format!("spec.migration.analysis.metrics[1].webhook.url: {why}");
        assert!(rejection.message.starts_with(&expected), "{}", rejection.message);
    }
}

#[test]
fn pods_look_into_answers_where_a_check_of_either_axis_asks_for_it() {
    let looks = |seen: &Observed| {
        let migration = validate(seen, &policy()).wanted.unwrap().migration;
        (migration.tool_calls, migration.empty_answers)
    };
    assert_eq!(looks(&observed()), (false, false));
    for (kind, expected) in [("InvalidToolCallRate", (true, false)), ("EmptyResponseRate", (false, true))] {
        let check = json!({"checks": [{"name": "it", "type": kind, "max": "1%"}]});
        let mut seen = observed();
        seen.gateway.spec.migration =
            serde_json::from_value(json!({"canaryPercent": 10, "analysis": check.clone()})).unwrap();
        assert_eq!(looks(&seen), expected);
        let mut seen = observed();
        seen.gateway.spec.rollout = serde_json::from_value(
            json!({"strategy": "Canary", "canary": {"steps": [{"percent": 10, "pause": true}]}, "analysis": check}),
        )
        .unwrap();
        assert_eq!(looks(&seen), expected);
    }
}
