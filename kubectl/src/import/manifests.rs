//! What was found as YAML documents: Secrets, ProviderKeys, and the gateway.

use bifrost_crds::API_VERSION;
use serde_yaml_ng::{Mapping, Value as Yaml};

use super::draft::{Imported, Key, Provider, Value};

/// Member of every Secret that holds the value.
const MEMBER: &str = "api-key";

/// All documents. `${NAME}` stands for every value that is not printed.
pub(super) fn manifests(
    imported: &Imported,
    name: &str,
    namespace: Option<&str>,
    with_secrets: bool,
) -> Result<String, serde_yaml_ng::Error> {
    let meta = |name: &str| {
        let mut members = vec![("name", text(name))];
        members.extend(namespace.map(|namespace| ("namespace", text(namespace))));
        map(members)
    };
    let mut documents = Vec::new();
    for key in &imported.keys {
        documents.push(secret(key, meta(&key.name), with_secrets));
        documents.push(provider_key(key, meta(&key.name)));
    }
    documents.push(gateway(imported, meta(name)));
    let mut all = String::from(
        "# Values of the form ${NAME} are to be filled in: by hand, or with `envsubst < FILE | kubectl apply -f -`.\n",
    );
    for document in documents {
        all.push_str("---\n");
        all.push_str(&serde_yaml_ng::to_string(&document)?);
    }
    // In quotes, as a value that is filled in may look like a number or a truth.
    for key in &imported.keys {
        let line = |value: &str| format!("{MEMBER}: {value}\n");
        let placeholder = format!("${{{}}}", key.variable());
        all = all.replace(&line(&placeholder), &line(&format!("'{placeholder}'")));
    }
    Ok(all)
}

fn secret(key: &Key, metadata: Yaml, with_secrets: bool) -> Yaml {
    let value = match &key.value {
        Value::Literal(value) if with_secrets => value.expose().to_owned(),
        _ => format!("${{{}}}", key.variable()),
    };
    map([
        ("apiVersion", text("v1")),
        ("kind", text("Secret")),
        ("metadata", metadata),
        ("stringData", map([(MEMBER, text(&value))])),
    ])
}

fn provider_key(key: &Key, metadata: Yaml) -> Yaml {
    let mut spec =
        vec![("provider", text(&key.provider)), ("secretRef", map([("name", text(&key.name)), ("key", text(MEMBER))]))];
    if !key.models.is_empty() {
        spec.push(("models", list(&key.models)));
    }
    if key.weight != 1 {
        spec.push(("weight", Yaml::from(key.weight)));
    }
    if !key.enabled {
        spec.push(("enabled", Yaml::from(false)));
    }
    if !key.hosts.is_empty() {
        spec.push(("hosts", list(&key.hosts)));
    }
    object("ProviderKey", metadata, spec)
}

fn gateway(imported: &Imported, metadata: Yaml) -> Yaml {
    let mut config = Vec::new();
    if let Some(size) = &imported.max_request_body {
        config.push(("client", map([("maxRequestBody", text(size))])));
    }
    config.push(("providers", Yaml::Sequence(imported.providers.iter().map(provider).collect())));
    let mut migration = vec![("strategy", text("Canary")), ("canaryPercent", Yaml::from(0))];
    if !imported.stickiness.is_empty() {
        migration.push(("stickiness", texts(&imported.stickiness)));
    }
    object("BifrostGateway", metadata, vec![("config", map(config)), ("migration", map(migration))])
}

fn provider(provider: &Provider) -> Yaml {
    let mut members = vec![("name", text(&provider.name)), ("type", text(provider.provider_type.as_str()))];
    members.extend(provider.base_url.as_ref().map(|url| ("baseURL", text(url))));
    if !provider.network.is_empty() {
        members.push(("network", texts(&provider.network)));
    }
    map(members)
}

fn object(kind: &str, metadata: Yaml, spec: Vec<(&str, Yaml)>) -> Yaml {
    map([("apiVersion", text(API_VERSION)), ("kind", text(kind)), ("metadata", metadata), ("spec", map(spec))])
}

/// Members in the order in which they are given.
fn map<'a>(members: impl IntoIterator<Item = (&'a str, Yaml)>) -> Yaml {
    Yaml::Mapping(members.into_iter().map(|(name, value)| (text(name), value)).collect::<Mapping>())
}

fn texts(members: &[(&'static str, String)]) -> Yaml {
    map(members.iter().map(|(name, value)| (*name, text(value))))
}

fn list(texts: &[String]) -> Yaml {
    Yaml::Sequence(texts.iter().map(|one| text(one)).collect())
}

fn text(text: &str) -> Yaml {
    Yaml::from(text)
}
