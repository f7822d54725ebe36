//! Checks of the traffic: who moves, whether it arrives, and whether it can go back.

use bifrost_crds::{GradualSpec, MigrationPhase, ProviderKey, ShadowedArm, StickinessKey, Strategy};
use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::facts::Facts;
use super::finding::Finding;
use super::phase;
use crate::change::strategy;
use crate::human::count;
use crate::standing::Standing;

/// Reason of a rollback that the analysis asked for.
const ANALYSIS_FAILED: &str = "AnalysisFailed";
/// Points by which wanted and seen share may differ.
const GAP: i32 = 5;

/// Whether a user stays on one arm.
pub(super) fn stickiness(facts: &Facts) -> Finding {
    let key = facts.gateway.spec.migration.stickiness.key;
    let fix = || facts.patch(r#"{"spec":{"migration":{"stickiness":{"key":"Auto"}}}}"#);
    match key {
        StickinessKey::None => Finding::warn("stickiness", "key None: a user's requests go now here, now there", fix()),
        StickinessKey::Credential => {
            Finding::warn("stickiness", "key Credential: an application with one key moves as a whole", fix())
        }
        StickinessKey::Auto => Finding::ok(
            "stickiness",
            "by x-bf-session-id, or the body's user: requests that have neither are split by chance",
        ),
        StickinessKey::Header | StickinessKey::Body => Finding::ok("stickiness", format!("by {key:?}")),
    }
}

/// Whether traffic starts where it can be watched. What has begun is not taken back for a checklist: another part of it fits.
pub(super) fn start(facts: &Facts) -> Finding {
    let traffic = facts.gateway.status.as_ref().and_then(|status| status.traffic.as_ref());
    let begun = match traffic.map(|traffic| traffic.wanted_percent) {
        None | Some(Some(0)) => {
            return Finding::ok("start", "everything goes straight to the vendors until you raise the share");
        }
        Some(Some(percent)) => format!("{percent} % of the users take the bifrost arm already"),
        Some(None) => "rules give a part to the bifrost arm already".to_owned(),
    };
    let (fitting, _) = phase::fitting(&facts.gateway);
    let look = format!("kubectl bifrost preflight {} --phase {}", facts.target(), phase::word(fitting));
    Finding::warn("start", format!("{begun}: another part of the checklist fits"), look)
}

/// The command that goes back, whatever the strategy.
fn back(facts: &Facts) -> String {
    format!("kubectl bifrost abort {}", facts.target())
}

/// Whether it can go back, and by whom.
pub(super) fn rollback(facts: &Facts) -> Finding {
    let namespace = facts.gateway.namespace().unwrap_or_default();
    let may = format!("kubectl auth can-i patch bifrostgateways.bifrost.dev -n {namespace}");
    match &facts.may_patch {
        Ok(true) => {}
        Ok(false) => {
            let sentence = "you may not change the gateway, which takes the role edit of the namespace: somebody must be at hand who can take traffic back";
            return Finding::warn("rollback", sentence, may);
        }
        Err(why) => return Finding::unknown("rollback", why, may),
    }
    Finding::ok("rollback", format!("in seconds, with: {}", back(facts)))
}

/// Whether the migration goes on.
pub(super) fn position(facts: &Facts) -> Finding {
    let migration = facts.gateway.status.as_ref().and_then(|status| status.migration.clone()).unwrap_or_default();
    let standing = Standing::from(&migration);
    let text = standing.describe();
    let told = migration
        .rollback
        .map(|rollback| format!("rolled back from {}, {}: {}", rollback.from, rollback.reason, rollback.message));
    // Nothing that leads on is done before that.
    if facts.gateway.spec.paused {
        let sentence = "the gateway is paused: nothing is added".to_owned();
        return match told {
            Some(told) => Finding::fail("position", format!("{told}; {sentence}"), look_back(facts)),
            None => Finding::warn("position", sentence, resume(facts)),
        };
    }
    if let Some(told) = told {
        return Finding::fail("position", told, look_back(facts));
    }
    match migration.phase {
        Some(MigrationPhase::Paused) if facts.is_refused() => Finding::warn("position", text, facts.edit()),
        Some(MigrationPhase::Paused) => Finding::warn(
            "position",
            format!("waits for you: {text}"),
            format!("kubectl bifrost promote {}", facts.target()),
        ),
        Some(MigrationPhase::Inconclusive) => {
            Finding::warn("position", text, format!("kubectl bifrost analysis {}", facts.target()))
        }
        _ if standing.waits_for_key() => {
            Finding::warn("position", text, format!("kubectl bifrost keys {}", facts.target()))
        }
        _ if text.is_empty() => Finding::ok("position", "where the spec wants it"),
        _ => Finding::ok("position", text),
    }
}

/// The command that shows why it went back. What went wrong is not sent again before somebody has looked.
fn look_back(facts: &Facts) -> String {
    let migration = facts.gateway.status.as_ref().and_then(|status| status.migration.as_ref());
    let rollback = migration.and_then(|migration| migration.rollback.as_ref());
    let verb = if rollback.is_some_and(|one| one.reason == ANALYSIS_FAILED) { "analysis" } else { "status" };
    format!("kubectl bifrost {verb} {}", facts.target())
}

/// The command that ends a pause.
fn resume(facts: &Facts) -> String {
    format!("kubectl bifrost resume {}", facts.target())
}

/// Whether the pods do what is wanted.
pub(super) fn share(facts: &Facts) -> Finding {
    let see = format!("kubectl bifrost status {}", facts.target());
    let status = facts.gateway.status.clone().unwrap_or_default();
    let traffic = status.traffic.unwrap_or_default();
    let (confirmed, ready) = (traffic.confirmed_replicas.unwrap_or(0), status.ready_replicas.unwrap_or(0));
    if confirmed < ready || ready == 0 {
        return Finding::fail("share", format!("{confirmed} of {ready} ready pods confirm the split"), see);
    }
    match (traffic.wanted_percent, traffic.bifrost_percent) {
        (_, None) => Finding::warn(
            "share",
            "no eligible request was seen lately: do applications use the gateway's address, with their own vendor key?",
            format!(
                "kubectl get configmap {}-bifrost-env -n {} -o yaml",
                facts.gateway.name_any(),
                facts.gateway.namespace().unwrap_or_default()
            ),
        ),
        (Some(wanted), Some(seen)) if (wanted - seen).abs() > GAP => Finding::warn(
            "share",
            format!(
                "{wanted} % of the users are wanted and {seen} % of the requests seen: a few users make much of the load, or there are few requests"
            ),
            see,
        ),
        (wanted, Some(seen)) => {
            let wanted = wanted.map_or("by rules".to_owned(), |percent| format!("{percent} %"));
            Finding::ok(
                "share",
                format!("wanted {wanted}, seen {seen} %, confirmed by all {}", count(ready as usize, "ready pod")),
            )
        }
    }
}

/// Whether pods crash.
pub(super) fn restarts(facts: &Facts) -> Finding {
    let namespace = facts.gateway.namespace().unwrap_or_default();
    let pods = match &facts.pods {
        Ok(pods) => pods,
        Err(why) => return Finding::unknown("restarts", why, format!("kubectl get pods -n {namespace}")),
    };
    let restarted = pods.iter().filter_map(|pod| {
        let containers = pod.status.as_ref()?.container_statuses.as_deref()?;
        let number: i32 = containers.iter().map(|container| container.restart_count).sum();
        (number > 0).then(|| (pod.name_any(), number))
    });
    match restarted.max_by_key(|(_, number)| *number) {
        None => Finding::ok("restarts", "no pod has restarted"),
        Some((pod, number)) => {
            let times = count(usize::try_from(number).unwrap_or(0), "time");
            Finding::warn(
                "restarts",
                format!("{pod} restarted {times}"),
                format!("kubectl logs -n {namespace} {pod} --previous"),
            )
        }
    }
}

/// Whether everything has moved.
pub(super) fn complete(facts: &Facts) -> Finding {
    let status = facts.gateway.status.clone().unwrap_or_default();
    let migration = status.migration.unwrap_or_default();
    let percent = status.traffic.and_then(|traffic| traffic.wanted_percent);
    let goal = strategy(&facts.gateway.spec.migration);
    match (percent, goal) {
        (Some(100), Strategy::DropIn) => Finding::ok("complete", "all eligible traffic takes the bifrost arm"),
        (Some(100), goal) => Finding::warn(
            "complete",
            format!("100 % take the bifrost arm under strategy {goal:?}: DropIn ends the migration"),
            drop_in(facts),
        ),
        (percent, _) => {
            let share = percent
                .map_or("what the rules name takes".to_owned(), |percent| format!("{percent} % of the users take"));
            let standing = Standing::from(&migration);
            let text = standing.describe();
            let fix = match standing.waits_for_key() {
                true => format!("kubectl bifrost keys {}", facts.target()),
                false => onward(facts, percent, migration.phase),
            };
            Finding::fail("complete", format!("{share} the bifrost arm; {text}"), fix)
        }
    }
}

/// The command that ends a migration: everything that belongs to another strategy goes with it.
fn drop_in(facts: &Facts) -> String {
    let mut migration = serde_json::Map::from_iter([("strategy".to_owned(), json!("DropIn"))]);
    let spec = &facts.gateway.spec.migration;
    let others = [
        ("canaryPercent", spec.canary_percent.is_some()),
        ("canary", spec.canary.is_some()),
        ("gradual", spec.gradual.is_some()),
        ("blueGreen", spec.blue_green.is_some()),
        ("analysis", spec.analysis.is_some()),
        ("rollback", spec.rollback.is_some()),
        ("shadow", spec.shadow.as_ref().is_some_and(|shadow| shadow.of == ShadowedArm::Baseline)),
    ];
    migration.extend(others.into_iter().filter(|(_, is_set)| *is_set).map(|(name, _)| (name.to_owned(), json!(null))));
    facts.patch(&json!({"spec": {"migration": migration}}).to_string())
}

/// The shares that a canary by hand goes through, in percent: nobody is told to move all users at once.
const NEXT_PERCENTS: [i32; 4] = [5, 25, 50, 100];

/// The command that takes a migration further: what moves by itself is asked, and where it is as far as the spec goes, the spec goes on.
fn onward(facts: &Facts, percent: Option<i32>, phase: Option<MigrationPhase>) -> String {
    let (name, target) = (facts.gateway.name_any(), facts.target());
    let (command, namespace) = (|words: &str| format!("kubectl bifrost {words}"), &target[name.len()..]);
    match phase {
        Some(MigrationPhase::RolledBack) => return look_back(facts),
        // Nothing that leads on is done before that.
        _ if facts.is_refused() => return facts.edit(),
        _ if facts.gateway.spec.paused => return resume(facts),
        Some(MigrationPhase::Inconclusive) => return command(&format!("analysis {target}")),
        Some(MigrationPhase::Completed) | None => {}
        Some(_) => return command(&format!("promote {target}")),
    }
    let migration = &facts.gateway.spec.migration;
    match (strategy(migration), &migration.gradual) {
        (Strategy::Canary, _) if migration.canary_percent.is_some() => {
            let next = NEXT_PERCENTS.into_iter().find(|next| *next > percent.unwrap_or(0)).unwrap_or(100);
            command(&format!("set-percent {name} {next}{namespace}"))
        }
        // The last step is below 100.
        (Strategy::Canary, _) => format!("kubectl edit bgw {target}"),
        (Strategy::BlueGreen, _) => command(&format!("switch {name} green{namespace}")),
        (Strategy::Gradual, Some(gradual)) => match next_phase(gradual) {
            Some(phase) => command(&format!("set-phase {name} {phase}{namespace}")),
            None => drop_in(facts),
        },
        (Strategy::Gradual | Strategy::DropIn, _) => drop_in(facts),
    }
}

/// The phase behind the one that a gradual migration may reach.
fn next_phase(gradual: &GradualSpec) -> Option<&str> {
    let mut names = gradual.phases.iter().map(|phase| phase.name.as_str());
    if let Some(current) = &gradual.current_phase {
        names.by_ref().find(|name| name == current)?;
    }
    names.next()
}

/// The paths in a Deployment that name a ConfigMap for the environment.
fn places(deployment: &Deployment, config_map: &str) -> Vec<String> {
    let Some(pod) = deployment.spec.as_ref().and_then(|spec| spec.template.spec.as_ref()) else { return Vec::new() };
    let kinds = [("containers", Some(&pod.containers)), ("initContainers", pod.init_containers.as_ref())];
    let containers = kinds.into_iter().flat_map(|(kind, containers)| {
        containers.into_iter().flatten().enumerate().map(move |(index, container)| (kind, index, container))
    });
    let sources = containers.flat_map(|(kind, index, container)| {
        let sources = container.env_from.iter().flatten().enumerate();
        sources.map(move |(source, from)| (format!("{kind}/{index}/envFrom/{source}"), from))
    });
    let named = sources.filter(|(_, from)| from.config_map_ref.as_ref().is_some_and(|map| map.name == config_map));
    named.map(|(place, _)| format!("/spec/template/spec/{place}/configMapRef/name")).collect()
}

/// Deployments that take their environment from a ConfigMap.
fn users<'a>(deployments: &'a [Deployment], config_map: &'a str) -> impl Iterator<Item = &'a Deployment> + 'a {
    deployments.iter().filter(move |deployment| !places(deployment, config_map).is_empty())
}

/// The command that makes a Deployment take its environment from another ConfigMap, unless it was changed meanwhile.
fn repoint(deployment: &Deployment, from: &str, to: &str) -> String {
    let operations = places(deployment, from).into_iter().flat_map(|path| {
        [json!({"op": "test", "path": path, "value": from}), json!({"op": "replace", "path": path, "value": to})]
    });
    let (name, namespace) = (deployment.name_any(), deployment.namespace().unwrap_or_default());
    format!("kubectl patch deploy {name} -n {namespace} --type=json -p '{}'", operations.collect::<Value>())
}

/// Whether an application still goes past the gateway.
pub(super) fn direct(facts: &Facts) -> Finding {
    let config_map = format!("{}-bifrost-env-direct", facts.gateway.name_any());
    let namespace = facts.gateway.namespace().unwrap_or_default();
    let see = format!("kubectl get deploy -n {namespace} -o yaml | grep -n {config_map}");
    match &facts.deployments {
        Err(why) => Finding::unknown("direct", why, see),
        Ok(deployments) => {
            let users: Vec<_> = users(deployments, &config_map).collect();
            let names: Vec<_> = users.iter().map(|user| user.name_any()).collect();
            match users.first() {
                None => Finding::ok("direct", format!("no Deployment of the namespace uses {config_map}")),
                Some(first) => Finding::fail(
                    "direct",
                    format!("go past the gateway by {config_map}: {}", names.join(", ")),
                    repoint(first, &config_map, &format!("{}-bifrost-env", facts.gateway.name_any())),
                ),
            }
        }
    }
}

/// Whether an application uses the gateway's ConfigMap; others may have the address in their own configuration.
pub(super) fn through(facts: &Facts) -> Finding {
    let config_map = format!("{}-bifrost-env", facts.gateway.name_any());
    let namespace = facts.gateway.namespace().unwrap_or_default();
    let see = format!("kubectl get configmap {config_map} -n {namespace} -o yaml");
    match &facts.deployments {
        Err(why) => Finding::unknown("through", why, see),
        Ok(deployments) => match users(deployments, &config_map).count() {
            0 => Finding::warn(
                "through",
                format!("no Deployment of the namespace uses {config_map}: check the others' base URLs"),
                see,
            ),
            number => Finding::ok(
                "through",
                format!("{config_map} is used by {} of the namespace", count(number, "Deployment")),
            ),
        },
    }
}

/// Whether a key was left switched off.
pub(super) fn enabled(facts: &Facts) -> Finding {
    let off: Vec<_> = facts.keys.iter().filter(|key| !key.spec.enabled).map(ResourceExt::name_any).collect();
    let has_other = |key: &&ProviderKey| {
        facts.keys.iter().any(|other| other.spec.enabled && other.spec.provider == key.spec.provider)
    };
    let providers = &facts.gateway.spec.config.providers;
    let is_needed = |key: &&ProviderKey| providers.iter().any(|provider| provider.name == key.spec.provider);
    let only = facts.keys.iter().filter(|key| !key.spec.enabled).find(|key| is_needed(key) && !has_other(key));
    match (off.first(), only) {
        (None, _) => Finding::ok("enabled", "every key is enabled"),
        (Some(_), Some(only)) => Finding::warn(
            "enabled",
            format!("switched off: {}; provider {} has no other key", off.join(", "), only.spec.provider),
            format!(
                "kubectl patch pk {} -n {} --type=merge -p '{{\"spec\":{{\"enabled\":true}}}}'",
                only.name_any(),
                facts.gateway.namespace().unwrap_or_default()
            ),
        ),
        (Some(first), None) => Finding::warn(
            "enabled",
            format!("switched off: {}; delete what is not needed any more", off.join(", ")),
            format!("kubectl delete pk {first} -n {}", facts.gateway.namespace().unwrap_or_default()),
        ),
    }
}
