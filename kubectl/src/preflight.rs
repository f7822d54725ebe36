//! `preflight`: the migration checklist, as far as it can be checked. Reading and judging are apart: [`facts`] asks the cluster, the
//! checks are pure.

mod cluster;
mod facts;
mod finding;
mod gateway;
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
        Ok(gateway) => findings.extend(self::findings(&Facts::read(session, gateway).await, args.phase)),
        Err(failure @ Failure::Usage(_)) => return Err(failure),
        Err(failure) => {
            let apply = "kubectl apply -f examples/openai-and-anthropic.yaml";
            findings.push(Finding::fail("gateway", failure.to_string(), apply));
        }
    }
    say(&text(&findings))?;
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    let (failed, warned) = (count(Level::Fail), count(Level::Warn));
    say(&format!("{} ok, {warned} warn, {failed} fail", count(Level::Ok)))?;
    if failed == 0 { Ok(()) } else { Err(Failure::Said) }
}

/// The checks of a phase.
fn findings(facts: &Facts, phase: Phase) -> Vec<Finding> {
    let mut findings = vec![gateway::accepted(facts), gateway::ready(facts)];
    findings.extend(of_keys(facts, phase));
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

    #[test]
    fn a_gateway_on_which_all_is_well_has_no_finding_that_fails() {
        let mut facts = facts();
        facts.keys.truncate(1);
        let anthropic = bifrost_crds::ProviderKeySpec { provider: "anthropic".into(), ..facts.keys[0].spec.clone() };
        facts.keys.push(bifrost_crds::ProviderKey { spec: anthropic, ..facts.keys[0].clone() });
        facts.metrics = Ok(true);
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
