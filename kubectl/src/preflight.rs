//! `preflight`: the migration checklist, as far as it can be checked. Reading and judging are apart: [`facts`] asks the cluster, the
//! checks are pure.

mod cluster;
mod facts;
mod finding;
mod gateway;
mod phase;
mod schema;
mod traffic;

use self::facts::{ClusterFacts, Facts};
use self::finding::{Finding, Level, text};
use crate::cli::{Phase, PreflightArgs};
use crate::failure::Failure;
use crate::run::say;
use crate::session::Session;

/// Goes through the checklist of a phase. A check that failed is exit code 1, a warning is none.
pub(crate) async fn run(session: &Session, args: &PreflightArgs) -> Result<(), Failure> {
    let cluster = ClusterFacts::read(session).await;
    let mut findings = cluster::findings(&cluster);
    match session.gateway(args.gateway.name.as_deref()).await {
        Ok(gateway) => {
            let (fitting, why) = phase::fitting(&gateway);
            if args.phase.is_none() {
                say(&format!("phase {}, as {why}; --phase takes another", phase::word(fitting)))?;
            }
            findings.extend(self::findings(&Facts::read(session, gateway).await, args.phase.unwrap_or(fitting)));
        }
        Err(failure @ Failure::Usage(_)) => return Err(failure),
        Err(failure) => findings.push(unread(&failure, &session.namespace)),
    }
    say(&text(&findings))?;
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    let (failed, warned) = (count(Level::Fail), count(Level::Warn));
    say(&format!("{} ok, {warned} warn, {failed} fail", count(Level::Ok)))?;
    if failed == 0 { Ok(()) } else { Err(Failure::Said) }
}

/// A gateway that cannot be read, by why: only one that is not there is to be made.
fn unread(failure: &Failure, namespace: &str) -> Finding {
    let fix = match failure {
        Failure::Api(kube::Error::Api(status)) if status.code == 403 => format!(
            "kubectl create rolebinding bifrost-view -n {namespace} --clusterrole=view --user={}",
            user(&status.message)
        ),
        Failure::No(_) => "kubectl apply -f examples/openai-and-anthropic.yaml".to_owned(),
        _ => format!("kubectl get bgw -n {namespace}"),
    };
    Finding::fail("gateway", failure.to_string(), fix)
}

/// Whom a refusal of the API server names. A name that a shell would take apart is left to whoever writes the command.
fn user(refusal: &str) -> &str {
    let named = refusal.split_once("User \"").and_then(|(_, rest)| rest.split_once('"')).map(|(name, _)| name);
    let is_plain = |name: &&str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":@._-".contains(&byte));
    named.filter(|name| !name.is_empty()).filter(is_plain).unwrap_or("USER")
}

/// The checks of a phase.
fn findings(facts: &Facts, phase: Phase) -> Vec<Finding> {
    let mut findings = vec![gateway::accepted(facts), gateway::ready(facts)];
    findings.extend(of_keys(facts, phase));
    findings.extend(gateway::stuck(facts));
    findings.extend([gateway::replicas(facts), gateway::disruption_budget(facts), gateway::spread(facts)]);
    findings.extend([gateway::network_policy(facts), gateway::monitoring(facts)]);
    match phase {
        Phase::Before => {
            findings.extend([traffic::stickiness(facts), gateway::drain(facts), traffic::rollback(facts)]);
            findings.push(traffic::start(facts));
        }
        Phase::During => {
            findings.extend([traffic::stickiness(facts), traffic::position(facts), traffic::share(facts)]);
            findings.extend([traffic::restarts(facts), traffic::rollback(facts)]);
        }
        Phase::After => {
            findings.extend([traffic::complete(facts), traffic::direct(facts), traffic::through(facts)]);
            findings.extend([traffic::restarts(facts), gateway::drain(facts)]);
        }
    }
    findings
}

/// What is to be said of the keys; where they cannot be read, nothing but that.
fn of_keys(facts: &Facts, phase: Phase) -> Vec<Finding> {
    if let Some(why) = &facts.keys_fault {
        return vec![Finding::unknown("keys", why, "kubectl auth can-i list providerkeys.bifrost.dev")];
    }
    let mut findings = gateway::keys(facts);
    findings.extend([gateway::secrets(facts), gateway::hosts(facts)]);
    if phase == Phase::After {
        findings.push(traffic::enabled(facts));
    }
    findings
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::keys::tests::keys;
    use crate::status::tests::gateway;

    fn facts() -> Facts {
        Facts {
            gateway: gateway(),
            keys: keys(),
            keys_fault: None,
            secrets: BTreeMap::from([
                ("openai".to_owned(), Ok(true)),
                ("anthropic".to_owned(), Ok(false)),
                ("openai-old".to_owned(), Err("not allowed".to_owned())),
            ]),
            budget: Ok(true),
            pods: Ok(serde_yaml_ng::from_str(include_str!("../testdata/pods.yaml")).unwrap()),
            deployments: Ok(serde_yaml_ng::from_str(include_str!("../testdata/deployments.yaml")).unwrap()),
            metrics: Err("no port-forward to pod ai-x".to_owned()),
            may_patch: Ok(true),
        }
    }

    #[test]
    fn before_traffic_moves() {
        insta::assert_snapshot!(text(&findings(&facts(), Phase::Before)));
    }

    #[test]
    fn while_it_moves() {
        insta::assert_snapshot!(text(&findings(&facts(), Phase::During)));
    }

    #[test]
    fn when_all_of_it_has_moved() {
        insta::assert_snapshot!(text(&findings(&facts(), Phase::After)));
    }

    /// What a check of this phase tells to do.
    fn fix(facts: &Facts, phase: Phase, name: &str) -> Option<String> {
        let found = findings(facts, phase).into_iter().find(|finding| finding.name == name);
        found.unwrap_or_else(|| panic!("no check {name}")).fix
    }

    #[test]
    fn a_missing_secret_is_made_with_the_members_that_keys_name() {
        let mut facts = facts();
        for (key, member) in facts.keys.iter_mut().zip(["value", "second"]) {
            key.spec.secret_ref = bifrost_crds::SecretKeyRef { name: "anthropic".into(), key: member.into() };
        }
        let fix = fix(&facts, Phase::Before, "secrets").unwrap();
        assert!(fix.ends_with("anthropic -n llm --from-file=second=FILE --from-file=value=FILE"), "{fix}");
    }

    #[test]
    fn a_key_that_is_its_providers_only_one_is_not_deleted() {
        let mut facts = facts();
        facts.keys.retain(|key| !key.spec.enabled);
        let patch = r#"kubectl patch pk openai-old -n llm --type=merge -p '{"spec":{"enabled":true}}'"#;
        assert_eq!(fix(&facts, Phase::After, "enabled").unwrap(), patch);
        facts.gateway.spec.config.providers.retain(|provider| provider.name != "openai");
        assert_eq!(fix(&facts, Phase::After, "enabled").unwrap(), "kubectl delete pk openai-old -n llm");
    }

    #[test]
    fn a_pod_that_does_not_get_on_is_named() {
        let mut facts = facts();
        facts.pods.as_mut().unwrap().truncate(1);
        let container = |reason: &str| {
            let state = serde_json::json!({"waiting": {"reason": reason}});
            serde_json::json!({"name": "gateway", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state})
        };
        let mut waits = |reason: &str| {
            let status = facts.pods.as_mut().unwrap()[0].status.get_or_insert_default();
            status.container_statuses = Some(vec![serde_json::from_value(container(reason)).unwrap()]);
            findings(&facts, Phase::During).into_iter().find(|finding| finding.name == "pods")
        };
        assert!(waits("ContainerCreating").is_none());
        let found = waits("ErrImagePull").unwrap();
        assert!(
            found.sentence.ends_with(" waits: ErrImagePull")
                && found.fix.unwrap().starts_with("kubectl describe pod -n llm ")
        );
    }

    #[test]
    fn one_pod_is_not_helped_by_another_disruption_budget() {
        let mut facts = facts();
        facts.gateway.spec.replicas = 1;
        assert_eq!(fix(&facts, Phase::Before, "disruption").unwrap(), "kubectl scale bgw ai -n llm --replicas=3");
    }

    #[test]
    fn what_is_left_of_a_migration_is_told_by_its_strategy() {
        let onward = |migration: &str, phase: Option<bifrost_crds::MigrationPhase>| {
            let mut facts = facts();
            facts.gateway.spec.migration = serde_yaml_ng::from_str(migration).unwrap();
            facts.gateway.status.as_mut().unwrap().migration.as_mut().unwrap().phase = phase;
            fix(&facts, Phase::After, "complete").unwrap()
        };
        let done = Some(bifrost_crds::MigrationPhase::Completed);
        assert_eq!(onward("{canaryPercent: 25}", done), "kubectl bifrost set-percent ai 50 -n llm");
        let unsure = Some(bifrost_crds::MigrationPhase::Inconclusive);
        assert_eq!(onward("{canaryPercent: 25}", unsure), "kubectl bifrost analysis ai -n llm");
        let blue = "{strategy: BlueGreen, blueGreen: {active: Blue}}";
        assert_eq!(onward(blue, done), "kubectl bifrost switch ai green -n llm");
        let gradual = |current: &str| {
            format!(
                "{{strategy: Gradual, gradual: {{{current}phases: [{{name: a, rules: []}}, {{name: b, rules: []}}]}}}}"
            )
        };
        assert_eq!(onward(&gradual(""), done), "kubectl bifrost set-phase ai a -n llm");
        assert_eq!(onward(&gradual("currentPhase: a, "), done), "kubectl bifrost set-phase ai b -n llm");
        assert!(onward(&gradual("currentPhase: b, "), done).contains(r#""gradual":null"#));
        let rolled_back = Some(bifrost_crds::MigrationPhase::RolledBack);
        assert_eq!(onward("{canaryPercent: 25}", rolled_back), "kubectl bifrost status ai -n llm", "look first");
    }

    #[test]
    fn after_a_rollback_one_looks_before_anything_is_sent_again() {
        let mut facts = facts();
        facts.gateway = crate::status::tests::rolled_back();
        for (phase, check) in [(Phase::During, "position"), (Phase::After, "complete")] {
            assert_eq!(fix(&facts, phase, check).unwrap(), "kubectl bifrost status ai -n llm");
            facts.gateway.spec.paused = true;
            assert_eq!(fix(&facts, phase, check).unwrap(), "kubectl bifrost status ai -n llm", "also while paused");
            facts.gateway.spec.paused = false;
        }
        let migration = facts.gateway.status.as_mut().unwrap().migration.as_mut().unwrap();
        migration.rollback.as_mut().unwrap().reason = "AnalysisFailed".into();
        assert_eq!(fix(&facts, Phase::During, "position").unwrap(), "kubectl bifrost analysis ai -n llm");
    }

    #[test]
    fn where_a_key_is_waited_for_nothing_is_promoted() {
        let mut facts = facts();
        let migration = facts.gateway.status.as_mut().unwrap().migration.as_mut().unwrap();
        migration.message = Some("50 % waits for a key: provider openai has no key in use".into());
        for (phase, check) in [(Phase::During, "position"), (Phase::After, "complete")] {
            assert_eq!(fix(&facts, phase, check).unwrap(), "kubectl bifrost keys ai -n llm");
        }
    }

    #[test]
    fn a_spec_that_is_not_accepted_is_mended_first() {
        let mut facts = facts();
        facts.gateway.status.as_mut().unwrap().conditions[0].status = "False".into();
        facts.gateway.status.as_mut().unwrap().migration.as_mut().unwrap().phase =
            Some(bifrost_crds::MigrationPhase::Paused);
        for (phase, check) in [(Phase::During, "position"), (Phase::After, "complete")] {
            assert_eq!(fix(&facts, phase, check).unwrap(), "kubectl edit bgw ai -n llm");
        }
    }

    #[test]
    fn what_has_begun_is_not_taken_back_for_a_checklist() {
        let mut facts = facts();
        let start = |facts: &Facts| fix(facts, Phase::Before, "start").unwrap();
        assert_eq!(start(&facts), "kubectl bifrost preflight ai -n llm --phase during");
        facts.gateway.status = crate::status::tests::rolling_out().status;
        assert_eq!(start(&facts), "kubectl bifrost preflight ai -n llm --phase after");
        facts.gateway.status.as_mut().unwrap().traffic.as_mut().unwrap().wanted_percent = None;
        assert_eq!(start(&facts), "kubectl bifrost preflight ai -n llm --phase during");
    }

    #[test]
    fn who_may_not_read_the_gateway_needs_a_role_and_no_other_gateway() {
        let refused = |message: &str| {
            let status = kube::core::Status { code: 403, message: message.to_owned(), ..kube::core::Status::default() };
            unread(&Failure::Api(kube::Error::Api(Box::new(status))), "llm").fix.unwrap()
        };
        let by = |user: &str| {
            refused(&format!(r#"User "{user}" cannot get resource "bifrostgateways" in API group "bifrost.dev""#))
        };
        let role = "kubectl create rolebinding bifrost-view -n llm --clusterrole=view --user=";
        assert_eq!(by("system:serviceaccount:llm:ci"), format!("{role}system:serviceaccount:llm:ci"));
        for unknown in [by("a b"), by("x;y"), by(""), refused("no")] {
            assert_eq!(unknown, format!("{role}USER"));
        }
        let missing = unread(&Failure::no("no BifrostGateway ai in namespace llm"), "llm").fix.unwrap();
        assert!(missing.starts_with("kubectl apply -f examples/"), "{missing}");
    }

    #[test]
    fn a_migration_ends_without_what_the_api_server_refuses_under_drop_in() {
        let mut facts = facts();
        let migration = "{canaryPercent: 100, analysis: {}, rollback: {}, shadow: {percent: 1, dailyLimit: \"1\"}}";
        facts.gateway.spec.migration = serde_yaml_ng::from_str(migration).unwrap();
        facts.gateway.status.as_mut().unwrap().traffic.as_mut().unwrap().wanted_percent = Some(100);
        let fix = fix(&facts, Phase::After, "complete").unwrap();
        for member in ["canaryPercent", "analysis", "rollback", "shadow"] {
            assert!(fix.contains(&format!("\"{member}\":null")), "{fix}");
        }
        assert!(fix.contains(r#""strategy":"DropIn""#) && !fix.contains("gradual"), "{fix}");
    }

    #[test]
    fn who_may_not_change_the_gateway_is_told_that_somebody_must_be_at_hand() {
        let mut facts = facts();
        facts.may_patch = Ok(false);
        let found = findings(&facts, Phase::Before).into_iter().find(|finding| finding.name == "rollback").unwrap();
        assert_eq!(found.level, Level::Warn, "{found:?}");
    }

    #[test]
    fn a_gateway_on_which_all_is_well_has_no_finding_that_fails() {
        let mut facts = facts();
        facts.keys.truncate(1);
        let anthropic = bifrost_crds::ProviderKeySpec { provider: "anthropic".into(), ..facts.keys[0].spec.clone() };
        facts.keys.push(bifrost_crds::ProviderKey { spec: anthropic, ..facts.keys[0].clone() });
        facts.metrics = Ok(true);
        facts.pods.as_mut().unwrap().truncate(1);
        facts.secrets = BTreeMap::from([("openai".to_owned(), Ok(true))]);
        facts.gateway.spec.migration = bifrost_crds::MigrationSpec {
            strategy: Some(bifrost_crds::Strategy::DropIn),
            ..bifrost_crds::MigrationSpec::default()
        };
        let traffic = facts.gateway.status.as_mut().unwrap().traffic.as_mut().unwrap();
        (traffic.wanted_percent, traffic.bifrost_percent) = (Some(100), Some(100));
        facts.deployments.as_mut().unwrap().retain(|deployment| deployment.metadata.name.as_deref() != Some("legacy"));
        let findings = findings(&facts, Phase::After);
        let failed: Vec<_> = findings.iter().filter(|finding| finding.level == Level::Fail).collect();
        assert!(failed.is_empty(), "{failed:?}");
    }
}
