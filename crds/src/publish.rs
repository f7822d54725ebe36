//! From the types to the manifests that clusters get.
//!
//! What the derived schemas say differently from Kubernetes' conventions is put right here, for both kinds alike.

use kube::CustomResourceExt;
use serde_json::{Map, Value, json};

use crate::{BifrostGateway, ProviderKey};

/// Where the manifests lie, relative to this crate: the ones to read, and the chart's copy of them.
pub const FOLDERS: [&str; 2] = ["generated", "../helm/bifrost/files/crds"];

/// A CustomResourceDefinition, ready to be written.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// File name below `generated/`.
    pub file_name: &'static str,
    /// The whole object.
    pub object: Value,
}

impl Manifest {
    /// The object as a YAML document, with the note that it is generated.
    pub fn to_yaml(&self) -> Result<String, serde_yaml_ng::Error> {
        Ok(format!(
            "# Generated from the types in crds/src by `make crds`.\n{}",
            serde_yaml_ng::to_string(&self.object)?
        ))
    }
}

/// The manifests of all kinds.
pub fn manifests() -> Result<Vec<Manifest>, serde_json::Error> {
    Ok(vec![
        Manifest { file_name: "bifrostgateways.yaml", object: finish(serde_json::to_value(BifrostGateway::crd())?) },
        Manifest { file_name: "providerkeys.yaml", object: finish(serde_json::to_value(ProviderKey::crd())?) },
    ])
}

fn finish(mut crd: Value) -> Value {
    if let Some(versions) = crd.pointer_mut("/spec/versions").and_then(Value::as_array_mut) {
        for version in versions {
            if let Some(schema) = version.pointer_mut("/schema/openAPIV3Schema").and_then(Value::as_object_mut) {
                schema.remove("title");
                schema.insert("required".into(), json!(["spec"]));
                finish_schema(schema);
            }
        }
    }
    sorted(crd)
}

/// Members in alphabetical order, whatever order the build's serde_json keeps.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let mut members: Vec<_> = members.into_iter().map(|(name, member)| (name, sorted(member))).collect();
            members.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(members.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        other => other,
    }
}

fn finish_schema(schema: &mut Map<String, Value>) {
    // An explicit null means "absent": the API server drops it before it sets defaults, but only where null is no value.
    schema.remove("nullable");
    if schema.get("default").is_some_and(Value::is_null) {
        schema.remove("default");
    }
    if let Some(Value::String(text)) = schema.get_mut("description") {
        *text = one_line_paragraphs(text);
    }
    for limit in ["minimum", "maximum"] {
        if let Some(whole) = schema.get(limit).and_then(Value::as_f64).filter(|number| number.fract() == 0.0) {
            schema.insert(limit.into(), json!(whole as i64));
        }
    }
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        properties.values_mut().filter_map(Value::as_object_mut).for_each(finish_schema);
    }
    for name in ["items", "additionalProperties"] {
        if let Some(Value::Object(child)) = schema.get_mut(name) {
            finish_schema(child);
        }
    }
}

/// Joins the lines of doc comments; empty lines stay as the ends of paragraphs.
fn one_line_paragraphs(text: &str) -> String {
    let paragraphs = text.split("\n\n").map(|p| p.split_whitespace().collect::<Vec<_>>().join(" "));
    paragraphs.collect::<Vec<_>>().join("\n\n")
}
