//! The resource as the unchecked form that the shared rules read: a plain translation, no decisions.

use bifrost_config::catalog;
use bifrost_config::{Draft, KeyDraft, MigrationDraft, NetworkDraft, ProviderDraft, StickinessDraft, StickinessKind};
use bifrost_crds::{
    BifrostGateway, MigrationSpec, NetworkSpec, ProviderKey, ProviderSpec, ProviderType, StickinessKey, Strategy,
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

/// The split of a gateway.
pub fn migration(gateway: &BifrostGateway) -> MigrationDraft {
    let MigrationSpec { strategy, canary_percent, stickiness } = &gateway.spec.migration;
    MigrationDraft {
        path: "spec.migration".into(),
        canary: strategy.map(|strategy| strategy == Strategy::Canary),
        canary_percent: canary_percent.map(i64::from),
        stickiness: StickinessDraft {
            kind: match stickiness.key {
                StickinessKey::Auto => StickinessKind::Auto,
                StickinessKey::Header => StickinessKind::Header,
                StickinessKey::Body => StickinessKind::Body,
                StickinessKey::Credential => StickinessKind::Credential,
                StickinessKey::None => StickinessKind::None,
            },
            header: stickiness.header.clone(),
            salt: stickiness.salt.clone(),
        },
        default_salt: format!("{}/{}", gateway.namespace().unwrap_or_default(), gateway.name_any()),
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
