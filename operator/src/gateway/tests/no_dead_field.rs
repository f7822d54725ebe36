//! No field is dead: each leaf of both kinds' specs has two values, both accepted, between which something differs that somebody can
//! see: an object that is rendered, what the migration does, or a status.
//!
//! What Kubernetes itself defines and the operator passes on gets its values from the schema; every other leaf has a line in a table
//! below, and one without fails the test. A hash of the spec is no effect and is blanked.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use bifrost_analysis::{Action, Report, Verdict};
use bifrost_crds::publish::manifests;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use serde_json::Map;

use super::*;
use crate::confirm::Summary;
use crate::gateway::draft;
use crate::gateway::observe::{ca_bundle_in, selects};
use crate::gateway::status::{Facts, status};
use crate::gateway::target::InForce;
use crate::gateway::validate::{Decision, Wanted};
use crate::provider_key;
use crate::secrets;

/// A leaf, members of the spec with `@` where it is, and its two values.
type Line = (&'static str, &'static str, &'static str, &'static str);

/// The base: two providers, three keys with labels, ten percent. A line replaces whole top-level members of it.
const GATEWAY: &[Line] = &[
    ("rollout.strategy", "rollout: {strategy: @}", "Rolling", "Canary, canary: {steps: [{percent: 10, hold: 1h}]}"),
    (
        "rollout.progressDeadline",
        "rollout: {strategy: Canary, canary: {steps: [{percent: 10}]}, progressDeadline: @}",
        "1h",
        "2h",
    ),
    (
        "rollout.canary.steps[].percent",
        "rollout: {strategy: Canary, canary: {steps: [{percent: @, hold: 1h}]}}",
        "1",
        "2",
    ),
    (
        "rollout.canary.steps[].hold",
        "rollout: {strategy: Canary, canary: {steps: [{percent: 1, hold: @}]}}",
        "1h",
        "2h",
    ),
    (
        "rollout.canary.steps[].pause",
        "rollout: {strategy: Canary, canary: {steps: [{percent: 1, hold: 0s, pause: @}]}}",
        "true",
        "false",
    ),
    ("rollout.blueGreen.watch", "rollout: {strategy: BlueGreen, blueGreen: {watch: @}}", "1h", "2h"),
    ("rollout.blueGreen.preview.hold", "rollout: {strategy: BlueGreen, blueGreen: {preview: {hold: @}}}", "1h", "2h"),
    (
        "rollout.blueGreen.preview.pause",
        "rollout: {strategy: BlueGreen, blueGreen: {preview: {hold: 0s, pause: @}}}",
        "true",
        "false",
    ),
    (
        "config.caBundleRef.key",
        "config: {caBundleRef: {name: corp, key: @}, providers: [{name: openai, type: OpenAI}]}",
        "a",
        "b",
    ),
    (
        "config.caBundleRef.name",
        "config: {caBundleRef: {name: @, key: a}, providers: [{name: openai, type: OpenAI}]}",
        "corp",
        "none",
    ),
    (
        "config.client.maxRequestBody",
        "config: {client: {maxRequestBody: @}, providers: [{name: openai, type: OpenAI}]}",
        "1Mi",
        "2Mi",
    ),
    (
        "config.providers[].baseURL",
        "config: {providers: [{name: openai, type: OpenAI, baseURL: @}]}",
        "https://a.example",
        "https://b.example",
    ),
    ("config.providers[].name", "config: {providers: [{name: @, type: OpenAI}]}", "openai", "other"),
    ("config.providers[].type", "config: {providers: [{name: openai, type: @}]}", "OpenAI", "Anthropic"),
    (
        "config.providers[].network.connectTimeout",
        "config: {providers: [{name: openai, type: OpenAI, network: {connectTimeout: @}}]}",
        "5s",
        "6s",
    ),
    (
        "config.providers[].network.firstByteTimeout",
        "config: {providers: [{name: openai, type: OpenAI, network: {firstByteTimeout: @}}]}",
        "50s",
        "60s",
    ),
    (
        "config.providers[].network.requestTimeout",
        "config: {providers: [{name: openai, type: OpenAI, network: {requestTimeout: @}}]}",
        "50s",
        "60s",
    ),
    (
        "config.providers[].network.streamIdleTimeout",
        "config: {providers: [{name: openai, type: OpenAI, network: {streamIdleTimeout: @}}]}",
        "50s",
        "60s",
    ),
    ("drain.readinessDelay", "drain: {readinessDelay: @}", "5s", "6s"),
    ("drain.timeout", "drain: {timeout: @}", "100s", "200s"),
    (
        "image.repository",
        "image: {repository: @, tag: '1'}",
        "ghcr.io/example/bifrost-gateway",
        "ghcr.io/example/other",
    ),
    ("image.tag", "image: {repository: ghcr.io/example/other, tag: @}", "'1'", "'2'"),
    ("migration.allowArmHeader", "migration: {canaryPercent: 10, allowArmHeader: @}", "false", "true"),
    (
        "migration.analysis.checks[].action",
        "migration: {canaryPercent: 10, analysis: {checks: [{name: a, type: ErrorRate, action: @}]}}",
        "Rollback",
        "Warn",
    ),
    (
        "migration.analysis.checks[].failures[]",
        "migration: {canaryPercent: 10, analysis: {checks: [{name: a, type: ErrorRate, failures: [@]}]}}",
        "Timeout",
        "Gateway",
    ),
    (
        "migration.analysis.checks[].max",
        "migration: {canaryPercent: 10, analysis: {checks: [{name: a, type: CostPerRequest, max: @}]}}",
        "'0.001'",
        "'0.002'",
    ),
    (
        "migration.analysis.checks[].maxIncrease",
        "migration: {canaryPercent: 10, analysis: {checks: [{name: a, type: Latency, maxIncrease: @}]}}",
        "10%",
        "20%",
    ),
    (
        "migration.analysis.checks[].min",
        "migration: {canaryPercent: 10, shadow: {percent: 5, dailyLimit: '1'}, analysis: {checks: [{name: a, type: ShadowAgreement, min: @}]}}",
        "90%",
        "95%",
    ),
    (
        "migration.analysis.checks[].name",
        "migration: {canaryPercent: 10, analysis: {checks: [{name: @, type: ErrorRate}]}}",
        "a",
        "b",
    ),
    (
        "migration.analysis.checks[].type",
        "migration: {canaryPercent: 10, analysis: {checks: [{name: a, type: @, max: 1%}]}}",
        "EmptyResponseRate",
        "InvalidToolCallRate",
    ),
    (
        "migration.analysis.falseAlarmPercent",
        "migration: {canaryPercent: 10, analysis: {falseAlarmPercent: @}}",
        "1",
        "2",
    ),
    (
        "migration.analysis.metrics[].name",
        "migration: {canaryPercent: 10, analysis: {metrics: [{name: @, prometheus: {url: 'http://prometheus.monitoring.svc:9090', query: up, max: '1'}}]}}",
        "a",
        "b",
    ),
    (
        "migration.analysis.metrics[].action",
        "migration: {canaryPercent: 10, analysis: {metrics: [{name: a, action: @, prometheus: {url: 'http://prometheus.monitoring.svc:9090', query: up, max: '1'}}]}}",
        "Rollback",
        "Warn",
    ),
    (
        "migration.analysis.metrics[].interval",
        "migration: {canaryPercent: 10, analysis: {metrics: [{name: a, interval: @, prometheus: {url: 'http://prometheus.monitoring.svc:9090', query: up, max: '1'}}]}}",
        "30s",
        "60s",
    ),
    (
        "migration.analysis.metrics[].prometheus.url",
        "migration: {canaryPercent: 10, analysis: {metrics: [{name: a, prometheus: {url: @, query: up, max: '1'}}]}}",
        "'http://prometheus.monitoring.svc:9090'",
        "'http://prometheus.monitoring.svc:9090/a'",
    ),
    (
        "migration.analysis.metrics[].prometheus.query",
        "migration: {canaryPercent: 10, analysis: {metrics: [{name: a, prometheus: {url: 'http://prometheus.monitoring.svc:9090', query: @, max: '1'}}]}}",
        "up",
        "down",
    ),
    (
        "migration.analysis.metrics[].prometheus.max",
        "migration: {canaryPercent: 10, analysis: {metrics: [{name: a, prometheus: {url: 'http://prometheus.monitoring.svc:9090', query: up, max: @}}]}}",
        "'1'",
        "'2'",
    ),
    (
        "migration.analysis.metrics[].prometheus.min",
        "migration: {canaryPercent: 10, analysis: {metrics: [{name: a, prometheus: {url: 'http://prometheus.monitoring.svc:9090', query: up, min: @}}]}}",
        "'1'",
        "'2'",
    ),
    (
        "migration.analysis.metrics[].webhook.url",
        "migration: {canaryPercent: 10, analysis: {metrics: [{name: a, webhook: {url: @}}]}}",
        "'http://prometheus.monitoring.svc:9090'",
        "'http://prometheus.monitoring.svc:9090/a'",
    ),
    ("migration.analysis.minRequests", "migration: {canaryPercent: 10, analysis: {minRequests: @}}", "100", "200"),
    ("migration.blueGreen.active", "migration: {strategy: BlueGreen, blueGreen: {active: @}}", "Blue", "Green"),
    (
        "migration.blueGreen.preview.hold",
        "migration: {strategy: BlueGreen, blueGreen: {active: Green, preview: {hold: @}}}",
        "10m",
        "2h",
    ),
    (
        "migration.blueGreen.preview.pause",
        "migration: {strategy: BlueGreen, blueGreen: {active: Green, preview: {hold: 1m, pause: @}}}",
        "false",
        "true",
    ),
    (
        "migration.blueGreen.watch",
        "migration: {strategy: BlueGreen, blueGreen: {active: Green, watch: @}}",
        "10m",
        "2h",
    ),
    (
        "migration.canary.steps[].hold",
        "migration: {canary: {steps: [{percent: 5, hold: @}, {percent: 100}]}}",
        "10m",
        "2h",
    ),
    (
        "migration.canary.steps[].pause",
        "migration: {canary: {steps: [{percent: 5, hold: 1m, pause: @}, {percent: 100}]}}",
        "false",
        "true",
    ),
    (
        "migration.canary.steps[].percent",
        "migration: {canary: {steps: [{percent: @, hold: 1m}, {percent: 100}]}}",
        "5",
        "6",
    ),
    ("migration.canaryPercent", "migration: {canaryPercent: @}", "5", "6"),
    (
        "migration.gradual.advance",
        "migration: {strategy: Gradual, gradual: {advance: @, currentPhase: b, phases: [{name: a, rules: [{match: {features: [x]}}]}, {name: b, rules: [{match: {paths: ['/*']}}]}]}}",
        "Manual",
        "Automatic",
    ),
    (
        "migration.gradual.currentPhase",
        "migration: {strategy: Gradual, gradual: {currentPhase: @, phases: [{name: a, rules: [{match: {features: [x]}}]}, {name: b, rules: [{match: {paths: ['/*']}}]}]}}",
        "a",
        "b",
    ),
    (
        "migration.gradual.phases[].hold",
        "migration: {strategy: Gradual, gradual: {advance: Automatic, currentPhase: b, phases: [{name: a, hold: @, rules: [{match: {features: [x]}}]}, {name: b, rules: [{match: {paths: ['/*']}}]}]}}",
        "10m",
        "2h",
    ),
    (
        "migration.gradual.phases[].name",
        "migration: {strategy: Gradual, gradual: {advance: Automatic, currentPhase: b, phases: [{name: @, rules: [{match: {features: [x]}}]}, {name: b, rules: [{match: {paths: ['/*']}}]}]}}",
        "a",
        "c",
    ),
    (
        "migration.gradual.phases[].pause",
        "migration: {strategy: Gradual, gradual: {advance: Automatic, currentPhase: b, phases: [{name: a, hold: 1m, pause: @, rules: [{match: {features: [x]}}]}, {name: b, rules: [{match: {paths: ['/*']}}]}]}}",
        "false",
        "true",
    ),
    (
        "migration.gradual.phases[].rules[].match.endpoints[]",
        "migration: {strategy: Gradual, gradual: {currentPhase: a, phases: [{name: a, rules: [{match: {endpoints: [@]}}]}]}}",
        "Messages",
        "Responses",
    ),
    (
        "migration.gradual.phases[].rules[].match.features[]",
        "migration: {strategy: Gradual, gradual: {currentPhase: a, phases: [{name: a, rules: [{match: {features: [@]}}]}]}}",
        "a",
        "b",
    ),
    (
        "migration.gradual.phases[].rules[].match.headers[].name",
        "migration: {strategy: Gradual, gradual: {currentPhase: a, phases: [{name: a, rules: [{match: {headers: [{name: @, value: v}]}}]}]}}",
        "x-a",
        "x-b",
    ),
    (
        "migration.gradual.phases[].rules[].match.headers[].value",
        "migration: {strategy: Gradual, gradual: {currentPhase: a, phases: [{name: a, rules: [{match: {headers: [{name: x-a, value: @}]}}]}]}}",
        "a",
        "b",
    ),
    (
        "migration.gradual.phases[].rules[].match.models[]",
        "migration: {strategy: Gradual, gradual: {currentPhase: a, phases: [{name: a, rules: [{match: {models: [@]}}]}]}}",
        "a",
        "b",
    ),
    (
        "migration.gradual.phases[].rules[].match.paths[]",
        "migration: {strategy: Gradual, gradual: {currentPhase: a, phases: [{name: a, rules: [{match: {paths: [@]}}]}]}}",
        "/openai/v1/a",
        "/openai/v1/b",
    ),
    (
        "migration.gradual.phases[].rules[].match.providers[]",
        "migration: {strategy: Gradual, gradual: {currentPhase: a, phases: [{name: a, rules: [{match: {providers: [@]}}]}]}}",
        "openai",
        "anthropic",
    ),
    (
        "migration.gradual.phases[].rules[].match.userPercent",
        "migration: {strategy: Gradual, gradual: {currentPhase: a, phases: [{name: a, rules: [{match: {userPercent: @}}]}]}}",
        "5",
        "6",
    ),
    (
        "migration.gradual.phases[].rules[].match.users[]",
        "migration: {strategy: Gradual, gradual: {currentPhase: a, phases: [{name: a, rules: [{match: {users: [@]}}]}]}}",
        "a",
        "b",
    ),
    (
        "migration.rollback.cooldown",
        "migration: {canary: {steps: [{percent: 5, hold: 1m}, {percent: 100}]}, analysis: {}, rollback: {retries: 1, cooldown: @}}",
        "5m",
        "2h",
    ),
    (
        "migration.rollback.retries",
        "migration: {canary: {steps: [{percent: 5, hold: 1m}, {percent: 100}]}, analysis: {}, rollback: {cooldown: 1m, retries: @}}",
        "0",
        "1",
    ),
    (
        "migration.rollback.to",
        "migration: {canary: {steps: [{percent: 5, hold: 1m}, {percent: 50, hold: 1m}, {percent: 100}]}, analysis: {}, rollback: {to: @}}",
        "Baseline",
        "PreviousStep",
    ),
    (
        "migration.shadow.dailyLimit",
        "migration: {canaryPercent: 10, shadow: {percent: 5, dailyLimit: @}}",
        "'1'",
        "'2'",
    ),
    (
        "migration.shadow.of",
        "migration: {canaryPercent: 10, shadow: {percent: 5, dailyLimit: '1', of: @}}",
        "Baseline",
        "Bifrost",
    ),
    ("migration.shadow.percent", "migration: {canaryPercent: 10, shadow: {percent: @, dailyLimit: '1'}}", "5", "6"),
    (
        "migration.shadow.skip.header",
        "migration: {canaryPercent: 10, shadow: {percent: 5, dailyLimit: '1', skip: {header: @}}}",
        "x-a",
        "x-b",
    ),
    (
        "migration.shadow.skip.size",
        "migration: {canaryPercent: 10, shadow: {percent: 5, dailyLimit: '1', skip: {size: @}}}",
        "1Ki",
        "2Ki",
    ),
    (
        "migration.shadow.skip.tools",
        "migration: {canaryPercent: 10, shadow: {percent: 5, dailyLimit: '1', skip: {tools: @}}}",
        "true",
        "false",
    ),
    (
        "migration.stickiness.header",
        "migration: {canaryPercent: 10, stickiness: {key: Header, header: @}}",
        "x-a",
        "x-b",
    ),
    ("migration.stickiness.key", "migration: {canaryPercent: 10, stickiness: {key: @}}", "Auto", "Credential"),
    ("migration.stickiness.salt", "migration: {canaryPercent: 10, stickiness: {salt: @}}", "a", "b"),
    // No two strategies go with the same members beside them.
    ("migration.strategy", "migration: {strategy: @}", "DropIn", "Canary, canaryPercent: 10"),
    (
        "providerKeySelector.matchExpressions[].key",
        "providerKeySelector: {matchExpressions: [{key: @, operator: Exists}]}",
        "team",
        "stage",
    ),
    (
        "providerKeySelector.matchExpressions[].operator",
        "providerKeySelector: {matchExpressions: [{key: team, operator: @}]}",
        "Exists",
        "DoesNotExist",
    ),
    (
        "providerKeySelector.matchExpressions[].values[]",
        "providerKeySelector: {matchExpressions: [{key: team, operator: In, values: [@]}]}",
        "a",
        "b",
    ),
    ("providerKeySelector.matchLabels.*", "providerKeySelector: {matchLabels: {team: @}}", "a", "b"),
];

const KEY: &[Line] = &[
    ("enabled", "enabled: @", "true", "false"),
    ("hosts[]", "hosts: [@]", "api.openai.com", "eu.api.openai.com"),
    ("models[]", "models: [@]", "gpt-4o", "gpt-5"),
    ("provider", "provider: @", "openai", "anthropic"),
    ("secretRef.key", "secretRef: {name: first, key: @}", "a", "b"),
    ("secretRef.name", "secretRef: {name: @, key: a}", "first", "second"),
    ("weight", "weight: @", "1", "2"),
];

/// What acts where the API server checks a manifest, and nowhere else: the leaf, and how its rule names it.
const ADMISSION: &[(&str, &str)] = &[
    // It belongs to a check that is refused there.
    ("rollout.analysis.checks[].min", "self.analysis.checks.all(c, c.type != 'ShadowAgreement')"),
    ("service.allowUnauthenticated", "self.allowUnauthenticated"),
];

/// What Kubernetes defines, or what needs no sense of ours: the schema gives the values.
const FROM_SCHEMA: &[&str] = &["availability.", "networkPolicy.", "paused", "pod.", "replicas", "service."];

#[test]
fn every_leaf_of_a_gateway_changes_something() {
    let mut problems = Vec::new();
    let schema = schema("BifrostGateway");
    let leaves = leaves(&schema);
    for leaf in &leaves {
        let spec = |which| match line(leaf) {
            Some(line) => Some(of_line(&schema, &line, which)),
            None => FROM_SCHEMA.iter().any(|known| leaf.starts_with(known)).then(|| made(&schema, leaf, which)),
        };
        if let Some((_, name)) = ADMISSION.iter().find(|known| known.0 == leaf) {
            assert!(schema.to_string().contains(name), "{leaf}: no rule names it");
        } else if let (Some(before), Some(after)) = (spec(0), spec(1)) {
            problems.extend(compare(leaf, effects(&before, &keys()), effects(&after, &keys())));
        } else {
            problems.push(format!("{leaf}: no line in the table of this test"));
        }
    }
    assert!(problems.is_empty(), "{problems:#?}");
    for line in GATEWAY {
        assert!(leaves.iter().any(|leaf| leaf == line.0), "{}: no such leaf", line.0);
    }
}

/// The line of a leaf. A rollout is analysed as a migration is.
fn line(leaf: &str) -> Option<Line> {
    const ROLLOUT: &str = "rollout: {strategy: Canary, canary: {steps: [{percent: 10, hold: 1h}]}, analysis:";
    let analysed = leaf.strip_prefix("rollout.analysis.").map(|rest| format!("migration.analysis.{rest}"));
    let same = analysed.as_deref().unwrap_or(leaf);
    let line = GATEWAY.iter().find(|line| line.0 == same)?;
    if analysed.is_none() {
        return Some(*line);
    }
    let (_, members, one, other) = line;
    let members = members.replace("migration: {canaryPercent: 10, analysis:", ROLLOUT);
    Some((leaf.to_owned().leak(), members.leak(), one, other))
}

#[test]
fn every_leaf_of_a_key_changes_something() {
    let schema = schema("ProviderKey");
    let mut problems = Vec::new();
    for leaf in leaves(&schema) {
        let Some(line) = KEY.iter().find(|line| line.0 == leaf) else {
            problems.push(format!("{leaf}: no line in the table of this test"));
            continue;
        };
        let seen = |which| {
            let mut spec = json!({"provider": "openai", "secretRef": {"name": "first", "key": "a"}});
            lay_over(&mut spec, of_line(&schema, line, which));
            let key = key("main", json!({}), spec);
            let status = key_status(&key);
            effects(&json!({}), &[key]).map(|text| text + &status)
        };
        problems.extend(compare(&leaf, seen(0), seen(1)));
    }
    assert!(problems.is_empty(), "{problems:#?}");
}

fn compare(leaf: &str, before: Result<String, String>, after: Result<String, String>) -> Option<String> {
    match (before, after) {
        (Ok(before), Ok(after)) if before == after => Some(format!("{leaf}: changes nothing")),
        (Ok(_), Ok(_)) => None,
        (Err(why), _) | (_, Err(why)) => Some(format!("{leaf}: not accepted: {why}")),
    }
}

/// All that a spec leads to, in a life of eight moments: new; half an hour after all was published and confirmed; after an analysis
/// that failed; and a quarter of an hour later. Then with another configuration: new; confirmed; a minute later; and half an hour
/// later, after an analysis that failed.
fn effects(spec: &Value, keys: &[ProviderKey]) -> Result<String, String> {
    let mut gateway = serde_json::to_value(gateway()).unwrap();
    lay_over(&mut gateway["spec"], spec.clone());
    let gateway: BifrostGateway = serde_json::from_value(gateway).map_err(|error| error.to_string())?;
    let chosen = keys.iter().filter(|key| selects(&gateway, &key.metadata));
    let mut seen = Observed {
        ca_bundle: gateway.spec.config.ca_bundle_ref.as_ref().map_or(CaBundle::NotAsked, |reference| {
            let map = ConfigMap {
                data: Some(BTreeMap::from([("a".to_owned(), "no certificates".to_owned())])),
                ..ConfigMap::default()
            };
            ca_bundle_in(reference, (reference.name == "corp").then_some(map))
        }),
        keys: chosen.map(|key| ObservedKey { key: key.clone(), value: value(key) }).collect(),
        gateway,
        ..observed()
    };
    let mut text = String::new();
    let failed = Report { verdict: Verdict::Fail, action: Some(Action::Rollback), checks: Vec::new() };
    for (minutes, report) in [(0, None), (30, None), (30, Some(failed.clone())), (45, None)] {
        at(&mut seen, minutes);
        seen.report = report.map(Arc::new);
        moment(&mut seen, &mut text)?;
    }
    seen.gateway.spec.config.client.max_request_body = "77Mi".into();
    for (minutes, report) in [(60, None), (61, None), (62, None), (90, Some(failed))] {
        at(&mut seen, minutes);
        seen.summary.holds_candidate = minutes > 60;
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
    let Decision { plan: stages, guard, wake, unresolved, unusable, wish, .. } = &decision;
    let of_rollout = wish.as_ref().map(|wish| &wish.guard);
    let (begin, hashes) = (text.len(), hashes(seen, &wanted));
    writeln!(text, "{stages:?} {guard:?} {of_rollout:?} {wake:?} {unresolved:?} {unusable:?}").unwrap();
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

fn key(name: &str, labels: Value, spec: Value) -> ProviderKey {
    let metadata = json!({"name": name, "namespace": "llm", "uid": name, "generation": 1, "labels": labels});
    let object =
        json!({"apiVersion": "bifrost.dev/v1alpha1", "kind": "ProviderKey", "metadata": metadata, "spec": spec});
    serde_json::from_value(object).unwrap()
}

fn keys() -> Vec<ProviderKey> {
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

fn key_status(key: &ProviderKey) -> String {
    let observed = provider_key::observe::Observed {
        key: key.clone(),
        value: value(key).unwrap_or_else(|| Ok(SecretValue::new("sk"))),
        gateways: vec![provider_key::observe::Selecting { gateway: gateway(), names_key: true }],
    };
    let verdict = provider_key::validate::validate(&observed, AddressRule::NoLocal);
    serde_json::to_string(&provider_key::status::status(key, &verdict, Timestamp::UNIX_EPOCH)).unwrap()
}

/// The schema of a kind's spec.
fn schema(kind: &str) -> Value {
    let manifests = manifests().unwrap();
    let manifest = manifests.iter().find(|manifest| manifest.object["spec"]["names"]["kind"] == kind).unwrap();
    manifest.object["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"].clone()
}

/// Paths such as `config.providers[].name`; the values of maps are `.*`.
fn leaves(schema: &Value) -> Vec<String> {
    let mut found = Vec::new();
    visit(schema, String::new(), &mut found);
    found
}

fn visit(schema: &Value, path: String, found: &mut Vec<String>) {
    if let Some(members) = schema["properties"].as_object() {
        for (name, child) in members {
            visit(child, if path.is_empty() { name.clone() } else { format!("{path}.{name}") }, found);
        }
    } else if schema["items"].is_object() {
        visit(&schema["items"], format!("{path}[]"), found);
    } else if schema["additionalProperties"].is_object() {
        visit(&schema["additionalProperties"], format!("{path}.*"), found);
    } else {
        found.push(path);
    }
}

/// The members of a line with one of its values, which must be at the leaf that the line names.
fn of_line(schema: &Value, line: &Line, which: usize) -> Value {
    let (leaf, members, before, after) = line;
    let read = |value: &str| serde_yaml_ng::from_str::<Value>(&members.replace('@', value)).unwrap();
    let mut places = Vec::new();
    differences(schema, &read("'@1'"), &read("'@2'"), String::new(), &mut places);
    assert_eq!(places, [*leaf], "the line's @ is at another leaf");
    read([before, after][which])
}

fn differences(schema: &Value, one: &Value, other: &Value, path: String, found: &mut Vec<String>) {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            for (name, value) in one {
                let (child, step) = match schema["properties"].get(name) {
                    Some(child) => (child, name.as_str()),
                    None => (&schema["additionalProperties"], "*"),
                };
                let path = if path.is_empty() { step.to_owned() } else { format!("{path}.{step}") };
                differences(child, value, &other[name], path, found);
            }
        }
        (Value::Array(one), Value::Array(other)) => {
            for (one, other) in one.iter().zip(other) {
                differences(&schema["items"], one, other, format!("{path}[]"), found);
            }
        }
        _ if one != other => found.push(path),
        _ => {}
    }
}

fn lay_over(spec: &mut Value, members: Value) {
    let Value::Object(members) = members else { return };
    spec.as_object_mut().unwrap().extend(members);
}

/// The least value that has the leaf, and in it one of two values.
fn made(schema: &Value, leaf: &str, which: usize) -> Value {
    let (step, rest) = match leaf.find(['.', '[']) {
        Some(at) if at > 0 => leaf.split_at(at),
        _ => (leaf, ""),
    };
    if leaf.is_empty() {
        return simple(schema, which);
    }
    if let Some(rest) = leaf.strip_prefix("[]") {
        return json!([made(&schema["items"], rest.trim_start_matches('.'), which)]);
    }
    let rest = rest.trim_start_matches('.');
    if step == "*" {
        return json!({"k": made(&schema["additionalProperties"], rest, which)});
    }
    let mut members = Map::new();
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        members.insert(name.to_owned(), simple(&schema["properties"][name], 0));
    }
    members.insert(step.to_owned(), made(&schema["properties"][step], rest, which));
    Value::Object(members)
}

fn simple(schema: &Value, which: usize) -> Value {
    let words = schema["enum"].as_array().map(|words| words.iter().filter(|word| *word != "").collect::<Vec<_>>());
    if let Some(words) = words {
        return words[which.min(words.len() - 1)].clone();
    }
    match schema["type"].as_str() {
        Some("boolean") => json!(which == 1),
        Some("integer") => json!(schema["minimum"].as_u64().unwrap_or(1).max(1) + which as u64),
        Some("array") => json!([simple(&schema["items"], which)]),
        Some("object") => {
            let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
            required.map(|name| (name.to_owned(), simple(&schema["properties"][name], 0))).collect::<Map<_, _>>().into()
        }
        _ => json!(["1", "2"][which]),
    }
}
