//! Checks of what belongs to no gateway: resource definitions and operator.

use bifrost_crds::publish;
use kube::ResourceExt;

use super::facts::ClusterFacts;
use super::finding::Finding;
use super::schema::{Difference, compare};

/// Installs.
const INSTALL: &str = "helm upgrade --install bifrost helm/bifrost -n bifrost-system --create-namespace";

/// Upgrades with the values that were set.
const UPGRADE: &str = "helm upgrade bifrost helm/bifrost -n bifrost-system --reset-then-reuse-values";

/// All of them.
pub(super) fn findings(facts: &ClusterFacts) -> Vec<Finding> {
    vec![definitions(facts), operator(facts)]
}

fn definitions(facts: &ClusterFacts) -> Finding {
    let installed = match &facts.definitions {
        Ok(installed) => installed,
        Err(why) => return Finding::unknown("crds", why, "kubectl get crd bifrostgateways.bifrost.dev -o yaml"),
    };
    let mut newer = Vec::new();
    for known in publish::manifests().unwrap_or_default() {
        let name = known.object["metadata"]["name"].as_str().unwrap_or_default();
        let Some(definition) = installed.get(name) else {
            return Finding::fail("crds", format!("{name} is not installed"), INSTALL);
        };
        match compare(definition, &known.object) {
            None => return Finding::fail("crds", format!("{name} does not serve {}", bifrost_crds::VERSION), UPGRADE),
            Some(Difference { missing, .. }) if !missing.is_empty() => {
                let sentence = format!("{name} is older than this plugin: it has no {}", some(&missing));
                return Finding::fail("crds", sentence, UPGRADE);
            }
            Some(Difference { unknown, .. }) => newer.extend(unknown),
        }
    }
    match newer.is_empty() {
        true => Finding::ok("crds", format!("installed, {} as this plugin knows it", bifrost_crds::VERSION)),
        false => Finding::warn(
            "crds",
            format!("newer than this plugin, which does not know {}", some(&newer)),
            "install the plugin of the operator's release",
        ),
    }
}

fn some(names: &[String]) -> String {
    match names {
        [first, second, third, rest @ ..] if !rest.is_empty() => {
            format!("{first}, {second}, {third} and {} more", rest.len())
        }
        all => all.join(", "),
    }
}

fn operator(facts: &ClusterFacts) -> Finding {
    let operators = match &facts.operators {
        Ok(operators) => operators,
        Err(why) => {
            let fix = "kubectl get deploy -A -l app.kubernetes.io/name=bifrost-operator";
            return Finding::unknown("operator", why, fix);
        }
    };
    let ready = |deployment: &&k8s_openapi::api::apps::v1::Deployment| {
        deployment.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0) > 0
    };
    let place = |deployment: &k8s_openapi::api::apps::v1::Deployment| {
        (deployment.namespace().unwrap_or_default(), deployment.name_any())
    };
    match (operators.iter().find(ready).map(place), operators.first().map(place)) {
        (Some((namespace, name)), _) => Finding::ok("operator", format!("{namespace}/{name} is ready")),
        (None, Some((namespace, name))) => Finding::fail(
            "operator",
            format!("{namespace}/{name} has no ready pod"),
            format!("kubectl -n {namespace} describe deploy {name}; kubectl -n {namespace} logs deploy/{name}"),
        ),
        (None, None) => Finding::fail("operator", "there is none in the cluster", INSTALL),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::finding::{Level, text};

    #[test]
    fn a_cluster_without_anything_is_told_to_install_the_chart() {
        let facts = ClusterFacts { definitions: Ok(Default::default()), operators: Ok(vec![]) };
        insta::assert_snapshot!(text(&findings(&facts)));
    }

    #[test]
    fn the_definitions_of_this_release_are_fine() {
        let known = publish::manifests().unwrap().into_iter();
        let installed =
            known.map(|known| (known.object["metadata"]["name"].as_str().unwrap().to_owned(), known.object));
        let facts = ClusterFacts { definitions: Ok(installed.collect()), operators: Err("not allowed".into()) };
        let levels: Vec<_> = findings(&facts).iter().map(|finding| finding.level).collect();
        assert_eq!(levels, [Level::Ok, Level::Warn]);
    }
}
