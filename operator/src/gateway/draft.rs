//! The resource as the unchecked form that the shared rules read: a plain translation, no decisions.

use bifrost_config::published::revision;
use bifrost_config::{
    self as config, BlueGreenDraft, Draft, GateDraft, GradualDraft, KeyDraft, MatchRule, MigrationDraft, NetworkDraft,
    PhaseDraft, ProviderDraft, ShadowDraft, StepDraft, StickinessDraft, StickinessKind, catalog,
};
use bifrost_crds::{
    Advance, BifrostGateway, CanaryStep, Colour, EndpointKind, GradualSpec, HeaderMatch, MigrationSpec, NetworkSpec,
    Phase, PreviewSpec, ProviderKey, ProviderSpec, ProviderType, RequestMatch, ShadowSpec, ShadowedArm, StickinessKey,
    Strategy,
};
use kube::ResourceExt;

/// The member that names the CA bundle.
pub const CA_BUNDLE: &str = "spec.config.caBundleRef";

/// A gateway's configuration without keys.
pub fn draft(gateway: &BifrostGateway, ca_bundle: Option<String>) -> Draft {
    let config = &gateway.spec.config;
    let providers = config.providers.iter().enumerate();
    Draft {
        max_request_body: Some(("spec.config.client.maxRequestBody".into(), config.client.max_request_body.clone())),
        ca_bundle: ca_bundle.map(|pem| (CA_BUNDLE.to_owned(), pem)),
        providers: providers.map(|(index, spec)| provider(&format!("spec.config.providers[{index}]"), spec)).collect(),
        keys: Vec::new(),
        migration: migration(gateway),
    }
}

fn provider(path: &str, spec: &ProviderSpec) -> ProviderDraft {
    ProviderDraft {
        path: path.to_owned(),
        name: spec.name.clone(),
        provider_type: provider_type(spec.type_),
        base_url: spec.base_url.clone().map(|url| (format!("{path}.baseURL"), url)),
        network: network(&format!("{path}.network"), &spec.network),
    }
}

fn network(path: &str, spec: &NetworkSpec) -> NetworkDraft {
    let member = |name: &str, text: &Option<String>| text.clone().map(|text| (format!("{path}.{name}"), text));
    NetworkDraft {
        connect_timeout: member("connectTimeout", &spec.connect_timeout),
        first_byte_timeout: member("firstByteTimeout", &spec.first_byte_timeout),
        request_timeout: member("requestTimeout", &spec.request_timeout),
        stream_idle_timeout: member("streamIdleTimeout", &spec.stream_idle_timeout),
    }
}

/// The migration of a gateway.
pub fn migration(gateway: &BifrostGateway) -> MigrationDraft {
    let spec = &gateway.spec.migration;
    MigrationDraft {
        path: "spec.migration".into(),
        strategy: spec.strategy.map(strategy),
        canary_percent: spec.canary_percent.map(i64::from),
        canary_steps: spec.canary.as_ref().map(|canary| canary.steps.iter().map(step).collect()),
        gradual: spec.gradual.as_ref().map(gradual),
        blue_green: spec.blue_green.as_ref().map(|spec| BlueGreenDraft {
            green: spec.active == Colour::Green,
            watch: spec.watch.clone(),
            preview: spec.preview.as_ref().map(|PreviewSpec { hold, pause }| gate(hold.as_ref(), Some(*pause))),
        }),
        stickiness: StickinessDraft {
            kind: match spec.stickiness.key {
                StickinessKey::Auto => StickinessKind::Auto,
                StickinessKey::Header => StickinessKind::Header,
                StickinessKey::Body => StickinessKind::Body,
                StickinessKey::Credential => StickinessKind::Credential,
                StickinessKey::None => StickinessKind::None,
            },
            header: spec.stickiness.header.clone(),
            salt: spec.stickiness.salt.clone(),
        },
        default_salt: format!("{}/{}", gateway.namespace().unwrap_or_default(), gateway.name_any()),
        allow_arm_header: spec.allow_arm_header,
        shadow: spec.shadow.as_ref().map(shadow),
    }
}

/// Short name of a gateway's configuration.
pub fn config_revision(gateway: &BifrostGateway) -> String {
    revision(&serde_json::to_string(&gateway.spec.config).unwrap_or_default())
}

/// Short name of what a migration moves to: `config` is that of the configuration that serves. Only members that are set count, so that
/// a later operator with more of them calls it the same; the number of replicas for instance is no part of it.
pub fn migration_revision(gateway: &BifrostGateway, config: &str) -> String {
    // What is copied, and who may try an arm, moves nothing.
    let mut migration = MigrationSpec { shadow: None, allow_arm_header: false, ..gateway.spec.migration.clone() };
    if let Some(analysis) = &mut migration.analysis {
        // Each has a name, so their order says nothing.
        analysis.checks.sort_by(|one, other| one.name.cmp(&other.name));
        analysis.metrics.sort_by(|one, other| one.name.cmp(&other.name));
    }
    let parts = (&migration, config);
    // Both have string keys only and always serialise.
    revision(&serde_json::to_string(&parts).unwrap_or_default())
}

fn shadow(ShadowSpec { percent, of, daily_limit, skip }: &ShadowSpec) -> ShadowDraft {
    ShadowDraft {
        percent: i64::from(*percent),
        of_bifrost: *of == ShadowedArm::Bifrost,
        daily_limit: daily_limit.clone(),
        skip_tools: skip.tools,
        skip_size: skip.size.clone(),
        skip_header: skip.header.clone(),
    }
}

const fn strategy(strategy: Strategy) -> config::Strategy {
    match strategy {
        Strategy::DropIn => config::Strategy::DropIn,
        Strategy::Gradual => config::Strategy::Gradual,
        Strategy::Canary => config::Strategy::Canary,
        Strategy::BlueGreen => config::Strategy::BlueGreen,
    }
}

fn gate(hold: Option<&String>, pause: Option<bool>) -> GateDraft {
    GateDraft { hold: hold.cloned(), pause: pause.unwrap_or(false) }
}

fn step(CanaryStep { percent, hold, pause }: &CanaryStep) -> StepDraft {
    StepDraft { percent: i64::from(*percent), gate: gate(hold.as_ref(), *pause) }
}

fn gradual(spec: &GradualSpec) -> GradualDraft {
    let phase = |Phase { name, rules, hold, pause }: &Phase| PhaseDraft {
        name: name.clone(),
        rules: rules.iter().map(|rule| match_rule(&rule.matches)).collect(),
        gate: gate(hold.as_ref(), *pause),
    };
    GradualDraft {
        phases: spec.phases.iter().map(phase).collect(),
        current_phase: spec.current_phase.clone(),
        automatic: spec.advance == Advance::Automatic,
    }
}

fn match_rule(spec: &RequestMatch) -> MatchRule {
    let header =
        |HeaderMatch { name, value }: &HeaderMatch| config::HeaderMatch { name: name.clone(), value: value.clone() };
    MatchRule {
        paths: spec.paths.clone(),
        endpoints: spec.endpoints.iter().map(|kind| endpoint(*kind)).collect(),
        models: spec.models.clone(),
        providers: spec.providers.clone(),
        features: spec.features.clone(),
        headers: spec.headers.iter().map(header).collect(),
        users: spec.users.clone(),
        // The schema bounds it; were it out of bounds, the shared rules would say so.
        user_percent: spec.user_percent.map(|percent| u8::try_from(percent).unwrap_or(u8::MAX)),
    }
}

const fn endpoint(kind: EndpointKind) -> config::EndpointKind {
    match kind {
        EndpointKind::ChatCompletions => config::EndpointKind::ChatCompletions,
        EndpointKind::Completions => config::EndpointKind::Completions,
        EndpointKind::Responses => config::EndpointKind::Responses,
        EndpointKind::Embeddings => config::EndpointKind::Embeddings,
        EndpointKind::Messages => config::EndpointKind::Messages,
        EndpointKind::CountTokens => config::EndpointKind::CountTokens,
    }
}

/// A provider key. Its path is the resource itself: problems are reported on it.
pub fn key(key: &ProviderKey) -> KeyDraft {
    KeyDraft {
        path: "spec".into(),
        name: key.name_any(),
        provider: key.spec.provider.clone(),
        models: key.spec.models.clone(),
        weight: u32::try_from(key.spec.weight).unwrap_or(0),
        enabled: key.spec.enabled,
        hosts: key.spec.hosts.clone(),
    }
}

const fn provider_type(kind: ProviderType) -> catalog::ProviderType {
    match kind {
        ProviderType::OpenAI => catalog::ProviderType::OpenAI,
        ProviderType::Anthropic => catalog::ProviderType::Anthropic,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_moves_nothing_is_no_other_migration() {
        let revision = |migration| {
            let mut gateway = crate::gateway::tests::gateway();
            gateway.spec.migration = serde_json::from_value(migration).unwrap();
            migration_revision(&gateway, "c")
        };
        let plain = revision(json!({"canaryPercent": 10}));
        let more = json!({"canaryPercent": 10, "allowArmHeader": true, "shadow": {"percent": 5, "dailyLimit": "1"}});
        assert_eq!(revision(more), plain, "an abort would end by it");
        assert_ne!(revision(json!({"canaryPercent": 11})), plain);
        let checks = |names: [&str; 2]| {
            let checks = names.map(|name| json!({"name": name, "type": "ErrorRate", "max": "5%"}));
            revision(json!({"canaryPercent": 10, "analysis": {"checks": checks}}))
        };
        assert_eq!(checks(["a", "b"]), checks(["b", "a"]));
        assert_ne!(checks(["a", "b"]), checks(["a", "c"]));
    }
}
