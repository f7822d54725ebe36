//! Candidates: what is decided and published of them with a whole gateway around.

use super::*;

#[test]
fn a_candidates_configuration_lies_beside_the_stable_one_and_keys_are_in_both() {
    let mut seen = rolling_out(|gateway| gateway.spec.config.client.max_request_body = "7Mi".into());
    let sizes = |seen: &Observed| {
        let published = seen.live.published.as_ref().unwrap();
        (
            published.config.client.max_request_body >> 20,
            seen.live.candidate().map(|one| one.client.max_request_body >> 20),
        )
    };
    assert_eq!(sizes(&seen), (100, Some(7)));
    assert!(!seen.objects.contains_key(&Part::Candidate), "the same image needs no pods");
    seen.keys.push(observed_key("second", "openai", Ok("sk-second")));
    seen = publish_all(seen);
    let names = |config: &Config| config.keys.iter().map(|key| key.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&seen.live.published.as_ref().unwrap().config), ["main", "second"]);
    assert_eq!(names(seen.live.candidate().unwrap()), ["main", "second"]);
    // Somebody deletes the ConfigMap: what was published comes back, not the newest of the spec.
    let before = seen.live.clone();
    seen.remembered = Some(remembered(&seen));
    seen.objects.remove(&Part::Published);
    seen.live = Live::default();
    seen = publish_all(seen);
    assert_eq!(sizes(&seen), (100, Some(7)));
    assert_eq!(seen.live.state.rollout, before.state.rollout);
    // Back at the stable revision.
    seen.gateway.spec.config.client.max_request_body = "100Mi".into();
    seen.remembered = Some(remembered(&seen));
    seen = publish_all(seen);
    assert_eq!(sizes(&seen), (100, None));
    assert!(seen.live.published.as_ref().unwrap().traffic.rollout.is_none());
}

#[test]
fn a_candidates_objects_stay_until_no_pod_forwards_to_it() {
    let mut seen = rolling_out(|gateway| {
        gateway.spec.image = serde_json::from_value(json!({"tag": "0.2.0"})).unwrap();
    });
    seen.summary.own_released = true;
    seen.gateway.spec.image = None;
    assert!(!plan(&seen, true).drops_candidate, "the table that pods have forwards");
    seen = publish_all(seen);
    seen.summary.own_released = false;
    assert!(!plan(&seen, true).drops_candidate, "a pod may have an older one");
    seen.summary.own_released = true;
    let after = plan(&seen, true);
    assert!(after.drops_candidate && after.objects.iter().all(|(part, _)| !part.is_of_candidate()));
}

#[test]
fn another_spelling_of_what_serves_is_no_candidate() {
    let seen = rolling_out(|gateway| gateway.spec.config.client.max_request_body = "102400Ki".into());
    let record = seen.live.state.rollout.clone().unwrap();
    assert!(record.candidate.is_none());
    assert_eq!(record.stable.config, crate::gateway::draft::config_revision(&seen.gateway));
}

#[test]
fn a_record_of_another_hand_does_not_choose_what_runs() {
    let mut seen = publish_all(observed());
    seen.gateway.spec.rollout =
        serde_json::from_value(json!({"strategy": "Canary", "canary": {"steps": [{"percent": 10, "pause": true}]}}))
            .unwrap();
    let evil = |image: &str| crate::rollout::revision::Revision::new("c", image);
    let record = seen.live.state.rollout.as_mut().unwrap();
    record.stable = evil("evil.example/x:1");
    record.proven = true;
    record.candidate = None;
    for paused in [false, true] {
        seen.gateway.spec.paused = paused;
        let wanted = validate(&seen, &policy()).wanted.unwrap();
        assert_eq!(wanted.image, "ghcr.io/example/bifrost-gateway:0.1.0");
        assert_eq!(wanted.record.stable.image, "ghcr.io/example/bifrost-gateway:0.1.0");
    }
    let mut seen = rolling_out(|gateway| {
        gateway.spec.image = serde_json::from_value(json!({"tag": "0.2.0"})).unwrap();
    });
    seen.live.state.rollout.as_mut().unwrap().candidate.as_mut().unwrap().revision = evil("evil.example/x:1");
    seen.gateway.spec.paused = true;
    assert_eq!(validate(&seen, &policy()).wanted.unwrap().record.candidate, None);
}

#[test]
fn a_candidates_own_keys_stay_while_the_spec_is_held() {
    let mut seen = publish_all(observed());
    seen.keys.push(observed_key("second", "eu", Ok("sk-second")));
    seen.keys[1].key.spec.hosts = vec!["api.openai.com".into()];
    seen.gateway.spec.rollout =
        serde_json::from_value(json!({"strategy": "Canary", "canary": {"steps": [{"percent": 10, "pause": true}]}}))
            .unwrap();
    seen.summary.programmed = true;
    seen = publish_all(seen);
    let mut provider = seen.gateway.spec.config.providers[0].clone();
    provider.name = "eu".into();
    seen.gateway.spec.config.providers.push(provider);
    seen = publish_all(seen);
    seen.gateway.spec.paused = true;
    let wanted = validate(&seen, &policy()).wanted.unwrap();
    let names = |config: &Config| config.keys.iter().map(|key| key.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&wanted.config), ["main"]);
    assert_eq!(names(wanted.candidate.as_ref().unwrap()), ["main", "second"]);
    assert!(wanted.values.contains_key("second"));
}

#[test]
fn a_container_that_a_candidate_brought_down_rolls_back_the_rollout_alone() {
    let mut seen = rolling_out(|gateway| gateway.spec.config.client.max_request_body = "7Mi".into());
    seen.gateway.spec.migration =
        serde_json::from_value(json!({"canary": {"steps": [{"percent": 10, "pause": true}, {"percent": 50}]}}))
            .unwrap();
    seen.summary = Summary {
        programmed: true,
        holds_candidate: true,
        keeps_candidate: true,
        is_known: true,
        ..Summary::default()
    };
    for second in 1..4 {
        seen.now = Timestamp::from_second(second).unwrap();
        seen = publish_all(seen);
    }
    let mut ended = pod("a", true);
    let state = json!({"terminated": {"finishedAt": "1970-01-01T00:00:09Z", "exitCode": 137, "reason": "OOMKilled"}});
    ended.status.as_mut().unwrap().container_statuses.as_mut().unwrap()[0].last_state =
        serde_json::from_value(state).unwrap();
    seen.pods = vec![ended];
    for second in 10..13 {
        seen.now = Timestamp::from_second(second).unwrap();
        seen = publish_all(seen);
    }
    let state = &seen.live.state;
    let candidate = state.rollout.as_ref().unwrap().candidate.as_ref().unwrap();
    assert!(candidate.progress.rollback.is_some() && candidate.served.is_none());
    assert_eq!(state.migration.as_ref().unwrap().rollback, None);
}

#[test]
fn with_all_lost_the_history_tells_the_stable_revision_and_the_status_the_rollback() {
    let before = publish_all(observed());
    let stable = before.live.state.rollout.clone().unwrap().stable;
    let mut seen = before.clone();
    seen.gateway.spec.rollout =
        serde_json::from_value(json!({"strategy": "Canary", "canary": {"steps": [{"percent": 10, "pause": true}]}}))
            .unwrap();
    seen.gateway.spec.config.client.max_request_body = "7Mi".into();
    seen.objects.remove(&Part::Published);
    seen.live = Live::default();
    seen.kept = Some((stable.clone(), before.live.published.unwrap().config));
    let after = publish_all(seen.clone());
    let published = after.live.published.as_ref().unwrap();
    assert_eq!((&published.traffic.revision, published.config.client.max_request_body >> 20), (&stable.id, 100));
    let candidate = after.live.state.rollout.unwrap().candidate.unwrap();
    assert!(candidate.progress.rollback.is_none() && candidate.served.is_some(), "it begins anew");
    let rollout = json!({"candidateRevision": candidate.revision.id, "rollback":
        {"at": "2026-01-01T00:00:00Z", "from": "10 %", "reason": "AnalysisFailed", "message": "worse"}});
    seen.gateway.status = serde_json::from_value(json!({"rollout": rollout})).unwrap();
    let candidate = publish_all(seen).live.state.rollout.unwrap().candidate.unwrap();
    assert_eq!((candidate.progress.rollback.unwrap().message.as_str(), candidate.served), ("worse", None));
}
