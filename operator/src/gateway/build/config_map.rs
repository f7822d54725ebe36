//! The published ConfigMap, and the two for `envFrom`.

use std::collections::BTreeMap;

use bifrost_config::catalog::Front;
use bifrost_config::{Config, OwnProvider};
use k8s_openapi::api::core::v1::ConfigMap;

use super::{Observed, Part, Publication, meta, service_url};

/// What the pods act upon.
pub(super) fn build_published(observed: &Observed, publication: &Publication) -> ConfigMap {
    ConfigMap {
        metadata: meta(observed, Part::Published),
        data: Some(publication.data.clone()),
        ..ConfigMap::default()
    }
}

/// Points an application at the gateway.
pub(super) fn build_env(observed: &Observed, config: &Config) -> ConfigMap {
    let service = service_url(observed);
    let variables =
        Front::ALL.into_iter().filter(|front| config.own_provider(*front) != OwnProvider::Missing).map(|front| {
            let vendor = front.provider_type().vendor();
            (vendor.base_url_env.to_owned(), format!("{service}/{}{}", front.name(), vendor.base_url_env_path))
        });
    env(observed, Part::Env, variables.collect())
}

/// Points an application straight at the vendors.
pub(super) fn build_env_direct(observed: &Observed, config: &Config) -> ConfigMap {
    let variables = Front::ALL.into_iter().filter_map(|front| {
        let vendor = front.provider_type().vendor();
        let OwnProvider::One(index) = config.own_provider(front) else { return None };
        let provider = &config.providers[index];
        // The base URL may or may not have the version; the SDKs want it their own way.
        let base = provider.base_url.to_string();
        let url = match vendor.base_url_env_path {
            "" => base.strip_suffix(vendor.version_prefix).unwrap_or(&base).to_owned(),
            _ if provider.base_url.has_version() => base,
            version => format!("{base}{version}"),
        };
        Some((vendor.base_url_env.to_owned(), url))
    });
    env(observed, Part::EnvDirect, variables.collect())
}

fn env(observed: &Observed, part: Part, data: BTreeMap<String, String>) -> ConfigMap {
    ConfigMap { metadata: meta(observed, part), data: Some(data), ..ConfigMap::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::tests::{observed, policy};
    use crate::gateway::validate::validate;

    fn data(map: ConfigMap) -> Vec<String> {
        map.data.unwrap_or_default().into_iter().map(|(key, value)| format!("{key}={value}")).collect()
    }

    fn both(edit: impl FnOnce(&mut Observed)) -> (Vec<String>, Vec<String>) {
        let mut observed = observed();
        edit(&mut observed);
        let config = validate(&observed, &policy()).wanted.unwrap().config;
        (data(build_env(&observed, &config)), data(build_env_direct(&observed, &config)))
    }

    #[test]
    fn one_line_points_an_application_either_way() {
        let (env, direct) = both(|_| {});
        assert_eq!(
            env,
            ["ANTHROPIC_BASE_URL=http://ai.llm.svc:8080/anthropic", "OPENAI_BASE_URL=http://ai.llm.svc:8080/openai/v1"]
        );
        assert_eq!(
            direct,
            ["ANTHROPIC_BASE_URL=https://api.anthropic.com", "OPENAI_BASE_URL=https://api.openai.com/v1"]
        );
    }

    #[test]
    fn a_version_in_the_base_url_is_not_doubled() {
        let (_, direct) = both(|observed| {
            observed.gateway.spec.config.providers[0].base_url = Some("http://llm.example:81/x/v1".into());
            observed.gateway.spec.config.providers[1].base_url = Some("http://claude.example/v1".into());
        });
        assert_eq!(direct, ["ANTHROPIC_BASE_URL=http://claude.example", "OPENAI_BASE_URL=http://llm.example:81/x/v1"]);
    }

    #[test]
    fn a_front_without_a_provider_has_no_variable_and_an_ambiguous_one_no_direct_way() {
        let (env, direct) = both(|observed| {
            observed.gateway.spec.config.providers.truncate(1);
            let mut second = observed.gateway.spec.config.providers[0].clone();
            second.name = "second".into();
            observed.gateway.spec.config.providers[0].name = "first".into();
            observed.gateway.spec.config.providers.push(second);
        });
        assert_eq!(env, ["OPENAI_BASE_URL=http://ai.llm.svc:8080/openai/v1"]);
        assert!(direct.is_empty());
    }
}
