//! All that a spec leads to.

use std::fmt::Write as _;
use std::time::Duration;

use bifrost_analysis::{Action, Report, Verdict};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};

use super::schema::lay_over;
use crate::analysis::fixed;
use crate::gateway::draft;
use crate::gateway::observe::{ca_bundle_in, selects};
use crate::gateway::status::{Facts, status};
use crate::gateway::target::InForce;
use crate::gateway::tests::*;
use crate::gateway::validate::{Decision, Wanted};
use crate::provider_key;
use crate::secrets;

/// All that a spec leads to, in a life of ten moments: new; half an hour after all was published and confirmed; after an analysis
/// that passed, and a minute later; after one that failed; and when three quarters of an hour are over. Then with another configuration: new; confirmed; a minute later; and half an hour
/// later, after an analysis that failed.
pub(super) fn effects(spec: &Value, keys: &[ProviderKey]) -> Result<String, String> {
    let mut gateway = serde_json::to_value(gateway()).unwrap();
    lay_over(&mut gateway["spec"], spec.clone());
    let gateway: BifrostGateway = serde_json::from_value(gateway).map_err(|error| error.to_string())?;
    let chosen = keys.iter().filter(|key| selects(&gateway, &key.metadata));
    let second = observed_key("second", "anthropic", Ok("sk-second"));
    let mut seen = Observed {
        ca_bundle: gateway.spec.config.ca_bundle_ref.as_ref().map_or(CaBundle::NotAsked, |reference| {
            let map = ConfigMap {
                data: Some(BTreeMap::from([("a".to_owned(), "no certificates".to_owned())])),
                ..ConfigMap::default()
            };
            ca_bundle_in(reference, (reference.name == "corp").then_some(map))
        }),
        // The second provider has a key whatever is chosen: without one nothing would rise.
        keys: chosen.map(|key| ObservedKey { key: key.clone(), value: value(key) }).chain([second]).collect(),
        gateway,
        ..observed()
    };
    let mut text = String::new();
    let passed = Report { verdict: Verdict::Pass, action: None, checks: Vec::new() };
    let failed = Report { verdict: Verdict::Fail, action: Some(Action::Rollback), checks: Vec::new() };
    let reports = [None, None, Some(passed), None, Some(failed.clone()), None];
    for (minutes, report) in [0, 30, 32, 33, 34, 45].into_iter().zip(reports) {
        at(&mut seen, minutes);
        seen.report = report.map(Arc::new);
        moment(&mut seen, &mut text)?;
    }
    seen.gateway.spec.config.client.max_request_body = "77Mi".into();
    for (minutes, report) in [(60, None), (61, None), (62, None), (90, Some(failed))] {
        at(&mut seen, minutes);
        seen.summary.holds_candidate = minutes > 60;
        seen.summary.keeps_candidate = minutes > 60;
        seen.rollout_report = report.map(Arc::new);
        moment(&mut seen, &mut text)?;
    }
    Ok(text)
}

fn at(seen: &mut Observed, minutes: u64) {
    seen.now = Timestamp::UNIX_EPOCH + Duration::from_secs(minutes * 60);
    seen.summary.programmed = minutes > 0;
}

/// The names of what is migrated to, and of the revisions of the gateway.
fn hashes(seen: &Observed, wanted: &Wanted) -> Vec<String> {
    let candidate = wanted.record.candidate.as_ref().map(|candidate| &candidate.revision);
    let revisions = candidate.into_iter().chain([&wanted.record.stable]);
    let mut hashes: Vec<_> = revisions.flat_map(|revision| [revision.id.clone(), revision.config.clone()]).collect();
    hashes.extend(hashes.clone().iter().map(|config| draft::migration_revision(&seen.gateway, config)));
    hashes
}

/// Looks once, writes down what comes of it, and makes it.
fn moment(seen: &mut Observed, text: &mut String) -> Result<(), String> {
    let images = ImagePolicy::new("ghcr.io/example/bifrost-gateway:0.1.0", vec!["ghcr.io/example/other".into()]);
    let decision = validate(seen, &Policy { images, ..policy() });
    if let Some(rejection) = &decision.rejection {
        return Err(rejection.message.clone());
    }
    let Some(wanted) = decision.wanted.clone() else {
        text.push_str("nothing is made\n");
        return Ok(());
    };
    let plan = build(seen, &decision, &wanted, &circumstances(true)).unwrap();
    let Decision { guard, wake, unresolved, unusable, wish, .. } = &decision;
    if text.is_empty() {
        // An analysis is what it finds, not what was read of it.
        let guards = [Some(guard), wish.as_ref().map(|wish| &wish.guard)];
        for analysis in guards.into_iter().flatten().filter_map(|guard| guard.analysis.as_ref()) {
            text.push_str(&fixed::told_by(analysis));
        }
    }
    let (begin, hashes) = (text.len(), hashes(seen, &wanted));
    writeln!(text, "{wake:?} {unresolved:?} {unusable:?}").unwrap();
    for (part, object) in plan.objects {
        writeln!(text, "{part:?} {}", object.body).unwrap();
        let mut live: DynamicObject = serde_json::from_value(object.body).unwrap();
        live.metadata.uid = Some(format!("{part:?}"));
        live.metadata.resource_version = Some("1".into());
        seen.objects.insert(part, live);
    }
    let made = read_back(seen.clone());
    (seen.objects, seen.live, seen.secret) = (made.objects, made.live, made.secret);
    seen.pods = vec![pod("a", true)];
    let in_force = InForce::of(seen, None);
    let summary = Summary { ready: 1, confirmed: 1, programmed: true, ..Summary::default() };
    let facts = Facts {
        observed: seen,
        decision: &decision,
        table: in_force.as_ref().map(|in_force| &in_force.table),
        progress: seen.live.state.migration.as_ref(),
        record: seen.live.state.rollout.as_ref(),
        report: None,
        rollout_report: None,
        summary: &summary,
        deployment: None,
        failure: None,
    };
    writeln!(text, "{}", serde_json::to_value(status(&facts, seen.now)).unwrap()).unwrap();
    let told = hashes.iter().fold(text[begin..].to_owned(), |told, hash| told.replace(hash, "REVISION"));
    text.replace_range(begin.., &told);
    Ok(())
}

pub(super) fn key(name: &str, labels: Value, spec: Value) -> ProviderKey {
    let metadata = json!({"name": name, "namespace": "llm", "uid": name, "generation": 1, "labels": labels});
    let object =
        json!({"apiVersion": "bifrost.dev/v1alpha1", "kind": "ProviderKey", "metadata": metadata, "spec": spec});
    serde_json::from_value(object).unwrap()
}

pub(super) fn keys() -> Vec<ProviderKey> {
    let spec = json!({"provider": "openai", "secretRef": {"name": "first", "key": "a"}});
    let labels = [json!({"team": "a"}), json!({"team": "b", "stage": "x"}), json!({})];
    let keys = ["main", "other", "third"].into_iter().zip(labels);
    keys.map(|(name, labels)| key(name, labels, spec.clone())).collect()
}

/// What the key's Secret gives, as the operator reads it.
fn value(key: &ProviderKey) -> Option<Result<SecretValue, NoValue>> {
    let members: &[(&str, &str)] = match key.spec.secret_ref.name.as_str() {
        "first" => &[("a", "sk-first-a"), ("b", "sk-first-b")],
        _ => &[("a", "sk-second-a")],
    };
    let data = members.iter().map(|(name, text)| ((*name).to_owned(), ByteString(text.as_bytes().to_vec()))).collect();
    let secret = Secret { data: Some(data), ..Secret::default() };
    key.spec.enabled.then(|| secrets::value(&key.spec.secret_ref, &Ok(Some(secret))))
}

pub(super) fn key_status(key: &ProviderKey) -> String {
    let observed = provider_key::observe::Observed {
        key: key.clone(),
        value: value(key).unwrap_or_else(|| Ok(SecretValue::new("sk"))),
        gateways: vec![provider_key::observe::Selecting { gateway: gateway(), names_key: true }],
    };
    let verdict = provider_key::validate::validate(&observed, AddressRule::NoLocal);
    serde_json::to_string(&provider_key::status::status(key, &verdict, Timestamp::UNIX_EPOCH)).unwrap()
}
