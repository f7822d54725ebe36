//! The manifests of the documentation: its examples and YAML blocks, as they are and as this cluster can serve them.

use anyhow::{Context as _, Result, bail};
use serde::Deserialize as _;
use serde_json::{Value, json};

use super::page::{Page, page};
use crate::scenarios::gateway::{POOL_ANTHROPIC, POOL_OPENAI};

/// Manifests that pages name.
pub(in crate::scenarios) const EXAMPLES: &[Page] = &[
    page!("examples/openai-and-anthropic.yaml"),
    page!("examples/strategies/drop-in.yaml"),
    page!("examples/strategies/canary-percent.yaml"),
    page!("examples/strategies/canary-steps.yaml"),
    page!("examples/strategies/canary-analysis.yaml"),
    page!("examples/strategies/gradual.yaml"),
    page!("examples/strategies/blue-green.yaml"),
    page!("examples/rollouts/canary.yaml"),
    page!("examples/rollouts/blue-green.yaml"),
];
/// What pages say of a vendor or a host of one's own in a command, and where that is played.
const PLAYED: [(&str, &str); 3] = [
    ("llm.internal.example", "openai.vendors.svc"),
    (r#""type":"OpenAI"}"#, r#""type":"OpenAI","baseURL":"https://openai.vendors.svc"}"#),
    (r#""type":"Anthropic"}"#, r#""type":"Anthropic","baseURL":"https://anthropic.vendors.svc"}"#),
];

/// A command that leads to hosts of this cluster.
pub(super) fn with_fake_hosts(command: &str) -> String {
    PLAYED.iter().fold(command.to_owned(), |text, (written, played)| text.replace(written, played))
}

/// The documents of a block, each put into the object that it is a part of.
pub(super) fn whole(block: &str) -> Result<Vec<Value>> {
    documents(block)?.into_iter().map(completed).collect()
}

fn completed(document: Value) -> Result<Value> {
    let members = document.as_object().context("no object")?;
    if members.contains_key("apiVersion") {
        return Ok(document);
    }
    if let Some(spec) = members.get("spec") {
        return Ok(gateway(spec));
    }
    if members.contains_key("migration") {
        return Ok(gateway(&document));
    }
    if let Some(env_from) = members.get("envFrom") {
        let container = json!({"name": "app", "image": "registry.example/app", "envFrom": env_from});
        let labels = json!({"app": "app"});
        return Ok(json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "app"}, "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        }}));
    }
    bail!("a block of another kind: {document}")
}

/// A gateway with this in its spec.
fn gateway(spec: &Value) -> Value {
    let mut whole = json!({"config": {"providers": [
        {"name": "openai", "type": "OpenAI"}, {"name": "anthropic", "type": "Anthropic"},
    ]}});
    for (member, value) in spec.as_object().into_iter().flatten() {
        whole[member] = value.clone();
    }
    json!({"apiVersion": "bifrost.dev/v1alpha1", "kind": "BifrostGateway", "metadata": {"name": "ai"}, "spec": whole})
}

/// Manifests whose gateway calls the fake vendors and is small, with keys that these take.
pub(super) fn for_fake_vendors(manifests: &str) -> Result<String> {
    let mut documents = documents(manifests)?;
    // The namespace is the scenario's.
    documents.retain(|document| document["kind"] != "Namespace");
    for document in &mut documents {
        match document["kind"].as_str().unwrap_or_default() {
            "BifrostGateway" => {
                let spec = &mut document["spec"];
                spec["replicas"] = json!(1);
                spec["pod"] = json!({"resources": {"requests": {"cpu": "50m", "memory": "64Mi"}}});
                spec["config"]["caBundleRef"] = json!({"name": "vendors-ca", "key": "ca.crt"});
                for provider in spec["config"]["providers"].as_array_mut().into_iter().flatten() {
                    provider["baseURL"] = json!(format!("https://{}", host(&provider["type"])));
                }
            }
            "ProviderKey" => {
                let vendor = if document["spec"]["provider"] == "anthropic" { "Anthropic" } else { "OpenAI" };
                document["spec"]["hosts"] = json!([host(&json!(vendor))]);
            }
            "Secret" => {
                let key = if document["metadata"]["name"] == "anthropic" { POOL_ANTHROPIC } else { POOL_OPENAI };
                document["stringData"]["api-key"] = json!(key);
            }
            _ => {}
        }
    }
    text(&documents)
}

fn host(vendor: &Value) -> &'static str {
    if vendor == "Anthropic" { "anthropic.vendors.svc" } else { "openai.vendors.svc" }
}

fn documents(text: &str) -> Result<Vec<Value>> {
    let all = serde_yaml_ng::Deserializer::from_str(text);
    all.map(|document| Value::deserialize(document).with_context(|| text.to_owned())).collect()
}

/// Several documents as one file.
pub(super) fn text(documents: &[Value]) -> Result<String> {
    let texts = documents.iter().map(serde_yaml_ng::to_string).collect::<Result<Vec<_>, _>>()?;
    Ok(texts.join("---\n"))
}
