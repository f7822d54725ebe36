//! Visits every node of the schemas.

use bifrost_crds::publish::{Manifest, manifests};
use serde_json::Value;

/// A node of a schema: of which kind, where, and what it says.
pub(crate) struct Node {
    /// `BifrostGateway` or `ProviderKey`.
    pub(crate) kind: String,
    /// Such as `spec.config.providers[].name`; empty for the object itself; values of maps are `.*`.
    pub(crate) path: String,
    /// The schema at this place.
    pub(crate) schema: Value,
}

impl Node {
    pub(crate) fn has_type(&self, name: &str) -> bool {
        self.schema["type"] == name
    }

    pub(crate) fn is_leaf(&self) -> bool {
        self.schema["properties"].is_null() && self.schema["items"].is_null()
    }
}

/// Root schema of a manifest.
pub(crate) fn root(manifest: &Manifest) -> &Value {
    &manifest.object["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
}

/// Every node of both kinds.
pub(crate) fn nodes() -> Vec<Node> {
    let mut found = Vec::new();
    for manifest in manifests().unwrap() {
        let kind = manifest.object["spec"]["names"]["kind"].as_str().unwrap().to_owned();
        visit(&kind, String::new(), root(&manifest), &mut found);
    }
    found
}

fn visit(kind: &str, path: String, schema: &Value, found: &mut Vec<Node>) {
    found.push(Node { kind: kind.to_owned(), path: path.clone(), schema: schema.clone() });
    for (name, child) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        visit(kind, path, child, found);
    }
    if schema["items"].is_object() {
        visit(kind, format!("{path}[]"), &schema["items"], found);
    }
    if schema["additionalProperties"].is_object() {
        visit(kind, format!("{path}.*"), &schema["additionalProperties"], found);
    }
}
