//! The conditions and figures of typical moments in a gateway's life.

use bifrost_crds::{MigrationPhase, Verdict};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::*;
use crate::gateway::news::transitions;
use crate::gateway::part::Stage;
use crate::gateway::target::InForce;
use crate::gateway::tests::{observed, observed_key, pod, policy, publish_all};
use crate::gateway::validate::validate;
use crate::migration::progress::{Cause, Rollback};

fn failure(stage: Stage) -> Failure {
    Failure {
        stage: Some(stage),
        message: "Deployment ai: the API server answered 403 Forbidden".into(),
        refusal: None,
    }
}

fn report(observed: &Observed, summary: &Summary, failure: Option<&Failure>) -> BifrostGatewayStatus {
    let decision = validate(observed, &policy());
    let in_force = InForce::of(observed, None);
    let table = in_force.as_ref().map(|in_force| &in_force.table);
    let facts = Facts {
        observed,
        decision: &decision,
        table,
        progress: observed.live.state.migration.as_ref(),
        record: observed.live.state.rollout.as_ref(),
        report: None,
        rollout_report: None,
        summary,
        deployment: None,
        failure,
    };
    status(&facts, Timestamp::UNIX_EPOCH)
}

fn shown(status: &BifrostGatewayStatus) -> Vec<String> {
    status.conditions.iter().map(|c| format!("{}={}/{}", c.type_, c.status, c.reason)).collect()
}

fn confirmed() -> Summary {
    Summary { ready: 1, confirmed: 1, programmed: true, percents: Some((90, 10)), ..Summary::default() }
}

fn serving() -> Observed {
    let mut seen = observed();
    seen.keys.push(observed_key("second", "anthropic", Ok("sk-second")));
    let mut seen = publish_all(seen);
    seen.pods = vec![pod("a", true)];
    seen
}

#[test]
fn a_provider_without_a_key_degrades_what_may_be_sent_to_it() {
    let at = |percent| {
        let mut seen = observed();
        seen.gateway.spec.migration.canary_percent = Some(percent);
        publish_all(seen)
    };
    let told = |seen: &Observed| {
        let status = report(seen, &confirmed(), None);
        let found = status.conditions.iter().find(|condition| condition.type_ == DEGRADED)?;
        Some((found.reason.clone(), found.message.clone()))
    };
    let degraded = |percent| told(&at(percent));
    let (reason, message) = degraded(10).unwrap();
    assert_eq!(reason, "NoKeyInUse");
    assert!(message.starts_with("provider anthropic has no key in use, and the bifrost arm answers"), "{message}");
    assert_eq!(degraded(0), None, "the baseline arm needs none");
    // What fails now comes before what was taken back some time ago.
    let mut seen = at(10);
    let rollback =
        Rollback { from: None, at: Timestamp::UNIX_EPOCH, reason: Cause::Aborted, message: "somebody asked".into() };
    seen.live.state.migration.as_mut().unwrap().rollback = Some(rollback);
    let (reason, both) = told(&seen).unwrap();
    assert_eq!(reason, "NoKeyInUse");
    assert!(both.starts_with(&message) && both.contains("; from ") && both.ends_with(": somebody asked"), "{both}");
}

#[test]
fn a_gateway_is_ready_when_it_is_accepted_programmed_and_available() {
    let status = report(&serving(), &confirmed(), None);
    assert_eq!(
        shown(&status),
        [
            "Accepted=True/Accepted",
            "ResolvedRefs=True/ResolvedRefs",
            "Programmed=True/Confirmed",
            "Available=True/PodsReady",
            "Ready=True/Ready",
            "Progressing=False/Settled",
        ]
    );
    assert_eq!((status.replicas, status.ready_replicas, status.observed_generation), (Some(1), Some(1), Some(1)));
    let traffic = status.traffic.unwrap();
    assert_eq!((traffic.epoch, traffic.confirmed_replicas, traffic.wanted_percent), (Some(1), Some(1), Some(10)));
    assert_eq!((traffic.baseline_percent, traffic.bifrost_percent), (Some(90), Some(10)));
    assert_eq!(status.keys, Some(KeyCounts { selected: 2, ready: 2 }));
}

#[test]
fn before_the_pods_confirm_it_is_not() {
    let new = report(&observed(), &Summary::default(), None);
    assert!(shown(&new).contains(&"Programmed=False/NotPublished".to_owned()));
    assert!(shown(&new).contains(&"Ready=False/NoReadyPods".to_owned()));
    let waiting =
        Summary { confirmed: 0, programmed: false, waiting: vec!["ai-a: is at epoch 0".into()], ..confirmed() };
    let status = report(&serving(), &waiting, None);
    assert!(shown(&status).contains(&"Programmed=False/WaitingForPods".to_owned()));
    assert!(shown(&status).contains(&"Reconciling=True/WaitingForPods".to_owned()));
    assert!(shown(&status).contains(&"Progressing=True/WaitingForPods".to_owned()));
    assert!(shown(&status).contains(&"Ready=False/WaitingForPods".to_owned()));
}

#[test]
fn a_bad_spec_stalls_and_the_old_configuration_stays_programmed() {
    let mut seen = serving();
    seen.gateway.spec.config.providers[0].base_url = Some("http://localhost".into());
    let status = report(&seen, &confirmed(), None);
    for wanted in ["Accepted=False/Invalid", "Programmed=True/Confirmed", "Ready=False/Invalid", "Stalled=True/Invalid"]
    {
        assert!(shown(&status).contains(&wanted.to_owned()), "{wanted} in {:?}", shown(&status));
    }
}

#[test]
fn a_missing_secret_whose_value_still_serves_and_a_pause_leave_it_ready() {
    let mut seen = serving();
    seen.keys[0].value = Some(Err(crate::secrets::NoValue::Secret("openai".into())));
    seen.gateway.spec.paused = true;
    let status = report(&seen, &confirmed(), None);
    for wanted in ["ResolvedRefs=False/NotResolved", "Ready=True/Ready", "Paused=True/Paused"] {
        assert!(shown(&status).contains(&wanted.to_owned()), "{wanted} in {:?}", shown(&status));
    }
}

#[test]
fn a_generation_whose_objects_cannot_be_written_is_not_observed() {
    let mut seen = serving();
    seen.gateway.metadata.generation = Some(7);
    seen.gateway.status = Some(BifrostGatewayStatus { observed_generation: Some(6), ..Default::default() });
    for (stage, programmed) in [(Stage::Published, "False/WriteFailed"), (Stage::Pods, "True/Confirmed")] {
        let status = report(&seen, &confirmed(), Some(&failure(stage)));
        assert_eq!(status.observed_generation, Some(6));
        let programmed = format!("Programmed={programmed}");
        for wanted in [programmed.as_str(), "Reconciling=True/WriteFailed", "Degraded=True/WriteFailed"] {
            assert!(shown(&status).contains(&wanted.to_owned()), "{wanted} in {:?}", shown(&status));
        }
    }
}

#[test]
fn a_spec_that_the_api_server_does_not_take_stalls_and_is_observed() {
    let mut seen = serving();
    seen.gateway.metadata.generation = Some(7);
    for (of_spec, accepted) in [(true, "Accepted=False/Refused"), (false, "Accepted=True/Accepted")] {
        let refusal = Refusal { message: "spec.pod.tolerations[0].key: Invalid value".into(), of_spec };
        let failure = Failure { refusal: Some(refusal), ..failure(Stage::Pods) };
        let status = report(&seen, &confirmed(), Some(&failure));
        assert_eq!(status.observed_generation, Some(7));
        for wanted in [accepted, "Stalled=True/Refused", "Programmed=True/Confirmed"] {
            assert!(shown(&status).contains(&wanted.to_owned()), "{wanted} in {:?}", shown(&status));
        }
        assert!(shown(&status).iter().all(|condition| !condition.starts_with("Reconciling")));
    }
}

#[test]
fn a_gateway_that_lost_its_table_keeps_its_epoch_and_its_pods() {
    let mut seen = serving();
    let before = report(&seen, &confirmed(), None);
    seen.gateway.status = Some(before.clone());
    seen.live = Default::default();
    seen.objects.remove(&crate::gateway::part::Part::Published);
    let after = report(&seen, &Summary::default(), None);
    let traffic = after.traffic.as_ref().unwrap();
    assert_eq!((traffic.epoch, traffic.confirmed_replicas), (Some(1), Some(0)));
    assert_eq!(after.migration, before.migration);
    assert!(shown(&after).contains(&"Available=True/PodsReady".to_owned()), "{:?}", shown(&after));
}

#[test]
fn a_key_that_may_not_be_sent_there_is_no_missing_reference() {
    let mut seen = serving();
    seen.keys[0].key.spec.hosts = vec!["elsewhere.example".into()];
    let status = report(&seen, &confirmed(), None);
    for wanted in ["ResolvedRefs=True/ResolvedRefs", "Degraded=True/KeyUnusable", "Ready=True/Ready"] {
        assert!(shown(&status).contains(&wanted.to_owned()), "{wanted} in {:?}", shown(&status));
    }
}

#[test]
fn references_are_told_by_what_is_wrong_with_them() {
    let good = report(&serving(), &confirmed(), None).conditions;
    let mut seen = serving();
    seen.keys[0].value = Some(Err(crate::secrets::NoValue::Secret("openai".into())));
    seen.ca_bundle = crate::gateway::observe::CaBundle::Missing("ConfigMap corp-ca does not exist".into());
    let decision = validate(&seen, &policy());
    let bad = report(&seen, &confirmed(), None).conditions;
    let told: Vec<_> = transitions(&good, &bad, &decision).into_iter().map(|event| event.reason).collect();
    assert_eq!(told, [Reason::SecretMissing, Reason::NotResolved]);
}

#[test]
fn what_a_pod_cannot_load_is_said() {
    let faulty = Summary { faults: vec!["ai-a: the CA bundle cannot be used".into()], ..confirmed() };
    assert!(shown(&report(&serving(), &faulty, None)).contains(&"Degraded=True/PodFault".to_owned()));
}

#[test]
fn events_follow_changes_of_conditions_once() {
    let good = report(&serving(), &confirmed(), None).conditions;
    let mut seen = serving();
    seen.gateway.spec.config.providers[0].base_url = Some("http://localhost".into());
    let decision = validate(&seen, &policy());
    let bad = report(&seen, &confirmed(), None).conditions;
    let reasons = |before: &[Condition], after: &[Condition]| {
        transitions(before, after, &decision).into_iter().map(|event| event.reason).collect::<Vec<_>>()
    };
    assert_eq!(reasons(&good, &bad), [Reason::ConfigRejected]);
    assert!(reasons(&bad, &bad).is_empty());

    let degraded = Summary { faults: vec!["ai-a: x".into()], ..confirmed() };
    let worse = report(&serving(), &degraded, None).conditions;
    let fine = validate(&serving(), &policy());
    assert_eq!(transitions(&good, &worse, &fine)[0].reason, Reason::Degraded);
    assert_eq!(transitions(&worse, &good, &fine)[0].reason, Reason::Recovered);
}

#[test]
fn a_rollout_is_told_as_kubectl_tells_it() {
    let deployment = |status: serde_json::Value| {
        serde_json::from_value::<DynamicObject>(serde_json::json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "ai", "generation": 2},
            "spec": {"replicas": 3, "selector": {}, "template": {}},
            "status": status,
        }))
        .unwrap()
    };
    let all = |generation, replicas, updated, available| {
        rolls_out(&deployment(serde_json::json!({
            "observedGeneration": generation, "replicas": replicas,
            "updatedReplicas": updated, "availableReplicas": available,
        })))
    };
    assert_eq!(all(1, 3, 3, 3).unwrap(), "the Deployment has a new spec");
    assert_eq!(all(2, 3, 1, 1).unwrap(), "1 of 3 pods are up to date");
    assert_eq!(all(2, 4, 3, 3).unwrap(), "1 old pods are still ending");
    assert_eq!(all(2, 3, 3, 2).unwrap(), "2 of 3 updated pods are available");
    assert_eq!(all(2, 3, 3, 3), None);
}

#[test]
fn an_image_without_a_candidate_is_complete_once_all_pods_run_it() {
    let mut seen = serving();
    let pending: DynamicObject = serde_json::from_value(serde_json::json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "ai", "generation": 2},
        "spec": {"replicas": 2, "selector": {}, "template": {}},
        "status": {"observedGeneration": 2, "replicas": 3, "updatedReplicas": 1, "availableReplicas": 2},
    }))
    .unwrap();
    let waits = serde_json::json!({"waiting": {"reason": "ErrImagePull", "message": "no such image"}});
    let container = serde_json::json!({"name": "gateway", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": waits});
    let mut stuck = pod("b", false);
    stuck.status.get_or_insert_default().container_statuses = Some(vec![serde_json::from_value(container).unwrap()]);
    seen.pods.push(stuck);
    let mut record = seen.live.state.rollout.clone().unwrap();
    record.ran = Some("g:before".into());
    let decision = validate(&seen, &policy());
    let told = |record: &Record| {
        let facts = Facts {
            observed: &seen,
            decision: &decision,
            table: None,
            progress: None,
            record: Some(record),
            report: None,
            rollout_report: None,
            summary: &confirmed(),
            deployment: Some(&pending),
            failure: None,
        };
        let rollout = status(&facts, Timestamp::UNIX_EPOCH).rollout.unwrap();
        (rollout.phase.unwrap(), rollout.message.unwrap())
    };
    let (phase, message) = told(&record);
    assert_eq!(phase, MigrationPhase::Progressing);
    let image = &record.stable.image;
    let why = "1 of 2 pods are up to date; pod ai-b: ErrImagePull: no such image";
    assert_eq!(message, format!("the Deployment is rolled to {image}: {why}"));
    // One that ran already is rolled for another reason.
    record.ran = None;
    assert_eq!(told(&record).0, MigrationPhase::Completed);
}

#[test]
fn a_rollout_that_was_given_up_makes_no_progress() {
    let stuck: DynamicObject = serde_json::from_value(serde_json::json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "ai"},
        "spec": {"replicas": 1, "selector": {}, "template": {}},
        "status": {"conditions": [
            {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "too slow"}]},
    }))
    .unwrap();
    let (observed, summary) = (serving(), confirmed());
    let decision = validate(&observed, &policy());
    let facts = Facts {
        observed: &observed,
        decision: &decision,
        table: None,
        progress: None,
        record: None,
        report: None,
        rollout_report: None,
        summary: &summary,
        deployment: Some(&stuck),
        failure: None,
    };
    let status = status(&facts, Timestamp::UNIX_EPOCH);
    for wanted in ["Progressing=False/ProgressDeadlineExceeded", "Degraded=True/ProgressDeadlineExceeded"] {
        assert!(shown(&status).contains(&wanted.to_owned()), "{wanted} in {:?}", shown(&status));
    }
}

#[test]
fn many_pods_are_not_all_named() {
    let names: Vec<String> = (0..5).map(|n| format!("p{n}")).collect();
    assert_eq!(some_of(&names), "p0; p1; p2; and 2 more");
    assert_eq!(some_of(&names[..3]), "p0; p1; p2");
}

fn shadowed() -> Observed {
    let mut seen = observed();
    let shadow = serde_json::json!({"percent": 5, "dailyLimit": "10.00"});
    seen.gateway.spec.migration.shadow = Some(serde_json::from_value(shadow).unwrap());
    let prices = br#"{"currency":"USD","models":{"OpenAI":{"m":{"input":"1","output":"2"}}}}"#;
    seen.prices = std::sync::Arc::new(bifrost_config::Prices::parse(prices).unwrap());
    publish_all(seen)
}

#[test]
fn what_became_of_copies_is_told_while_there_are_some() {
    assert_eq!(report(&serving(), &confirmed(), None).shadow, None);
    let told = bifrost_config::report::ShadowReport {
        copied: 200,
        failed: 3,
        agreed: 190,
        skipped: [("limit".to_owned(), 12), ("tools".to_owned(), 4)].into(),
        similarity: [0, 0, 0, 0, 0, 0, 0, 50, 140, 0],
        day: 1,
        spent: 1_234_500,
    };
    let summary = Summary { shadow: Some(told), ..confirmed() };
    let shadow = report(&shadowed(), &summary, None).shadow.unwrap();
    assert_eq!((shadow.copied, shadow.agreed_percent, shadow.spent.as_str()), (200, Some(95), "1.2345 USD"));
    assert_eq!(
        shadow.message,
        "the median copy's text is 80 to 90 % similar to the first; 3 copies got no whole answer; not copied: 12 limit, 4 tools"
    );
    let nothing_yet = report(&shadowed(), &confirmed(), None).shadow.unwrap();
    assert_eq!((nothing_yet.agreed_percent, nothing_yet.spent.as_str()), (None, "0.00 USD"));
}

#[test]
fn without_prices_the_status_says_that_nothing_is_copied() {
    let mut seen = shadowed();
    seen.prices = Default::default();
    let shadow = report(&publish_all(seen), &confirmed(), None).shadow.unwrap();
    assert!(shadow.message.starts_with("nothing is copied"), "{}", shadow.message);
}

#[test]
fn money_for_copies_is_divided_among_the_pods_and_is_no_part_of_the_revision() {
    let mut seen = shadowed();
    let table = |seen: &Observed| InForce::of(&publish_all(seen.clone()), None).unwrap().table;
    let wanted = usize::try_from(seen.gateway.spec.replicas).unwrap();
    assert_eq!(table(&seen).shadow.unwrap().pods as usize, wanted);
    seen.pods = (0..wanted + 2).map(|number| pod(&number.to_string(), true)).collect();
    assert_eq!(table(&seen).shadow.unwrap().pods as usize, wanted + 2);
    let revision = |seen: &Observed| crate::gateway::draft::migration_revision(&seen.gateway, "c");
    let before = revision(&seen);
    seen.gateway.spec.migration.shadow = None;
    assert_eq!(revision(&seen), before);
}

#[test]
fn a_crash_that_led_back_is_a_check_of_the_analysis() {
    let mut seen = observed();
    seen.gateway.spec.migration.analysis = Some(bifrost_crds::AnalysisSpec::default());
    let mut seen = publish_all(seen);
    seen.pods = vec![pod("a", true)];
    let told = |seen: &Observed| {
        let analysis = report(seen, &confirmed(), None).analysis?;
        Some((analysis.verdict, analysis.checks.first()?.name.clone(), analysis.checks.first()?.verdict))
    };
    assert_eq!(told(&seen), Some((Verdict::Inconclusive, "GatewayCrash".to_owned(), Verdict::Pass)));
    let progress = seen.live.state.migration.as_mut().unwrap();
    let (at, message) = (Timestamp::UNIX_EPOCH, "it ended".to_owned());
    progress.rollback = Some(Rollback { from: None, at, reason: Cause::GatewayCrash, message });
    assert_eq!(told(&seen), Some((Verdict::Fail, "GatewayCrash".to_owned(), Verdict::Fail)));
    seen.gateway.spec.migration.analysis = None;
    assert_eq!(told(&seen), None);
}
