//! The leaves of a kind's schema, and specs that have them.

use bifrost_crds::publish::manifests;
use serde_json::{Map, Value, json};

use super::table::Line;

/// The schema of a kind's spec.
pub(super) fn schema(kind: &str) -> Value {
    let manifests = manifests().unwrap();
    let manifest = manifests.iter().find(|manifest| manifest.object["spec"]["names"]["kind"] == kind).unwrap();
    manifest.object["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"].clone()
}

/// Paths such as `config.providers[].name`; the values of maps are `.*`.
pub(super) fn leaves(schema: &Value) -> Vec<String> {
    let mut found = Vec::new();
    visit(schema, String::new(), &mut found);
    found
}

fn visit(schema: &Value, path: String, found: &mut Vec<String>) {
    if let Some(members) = schema["properties"].as_object() {
        for (name, child) in members {
            visit(child, if path.is_empty() { name.clone() } else { format!("{path}.{name}") }, found);
        }
    } else if schema["items"].is_object() {
        visit(&schema["items"], format!("{path}[]"), found);
    } else if schema["additionalProperties"].is_object() {
        visit(&schema["additionalProperties"], format!("{path}.*"), found);
    } else {
        found.push(path);
    }
}

/// The members of a line with one of its values, which must be at the leaf that the line names.
pub(super) fn of_line(schema: &Value, line: &Line, which: usize) -> Value {
    let (leaf, members, before, after) = line;
    let read = |value: &str| serde_yaml_ng::from_str::<Value>(&members.replace('@', value)).unwrap();
    let mut places = Vec::new();
    differences(schema, &read("'@1'"), &read("'@2'"), String::new(), &mut places);
    assert_eq!(places, [*leaf], "the line's @ is at another leaf");
    read([before, after][which])
}

fn differences(schema: &Value, one: &Value, other: &Value, path: String, found: &mut Vec<String>) {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            for (name, value) in one {
                let (child, step) = match schema["properties"].get(name) {
                    Some(child) => (child, name.as_str()),
                    None => (&schema["additionalProperties"], "*"),
                };
                let path = if path.is_empty() { step.to_owned() } else { format!("{path}.{step}") };
                differences(child, value, &other[name], path, found);
            }
        }
        (Value::Array(one), Value::Array(other)) => {
            for (one, other) in one.iter().zip(other) {
                differences(&schema["items"], one, other, format!("{path}[]"), found);
            }
        }
        _ if one != other => found.push(path),
        _ => {}
    }
}

pub(super) fn lay_over(spec: &mut Value, members: Value) {
    let Value::Object(members) = members else { return };
    spec.as_object_mut().unwrap().extend(members);
}

/// The least value that has the leaf, and in it one of two values.
pub(super) fn made(schema: &Value, leaf: &str, which: usize) -> Value {
    let (step, rest) = match leaf.find(['.', '[']) {
        Some(at) if at > 0 => leaf.split_at(at),
        _ => (leaf, ""),
    };
    if leaf.is_empty() {
        return simple(schema, which);
    }
    if let Some(rest) = leaf.strip_prefix("[]") {
        return json!([made(&schema["items"], rest.trim_start_matches('.'), which)]);
    }
    let rest = rest.trim_start_matches('.');
    if step == "*" {
        return json!({"k": made(&schema["additionalProperties"], rest, which)});
    }
    let mut members = Map::new();
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        members.insert(name.to_owned(), simple(&schema["properties"][name], 0));
    }
    members.insert(step.to_owned(), made(&schema["properties"][step], rest, which));
    Value::Object(members)
}

fn simple(schema: &Value, which: usize) -> Value {
    let words = schema["enum"].as_array().map(|words| words.iter().filter(|word| *word != "").collect::<Vec<_>>());
    if let Some(words) = words {
        return words[which.min(words.len() - 1)].clone();
    }
    match schema["type"].as_str() {
        Some("boolean") => json!(which == 1),
        Some("integer") => json!(schema["minimum"].as_u64().unwrap_or(1).max(1) + which as u64),
        Some("array") => json!([simple(&schema["items"], which)]),
        Some("object") => {
            let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
            required.map(|name| (name.to_owned(), simple(&schema["properties"][name], 0))).collect::<Map<_, _>>().into()
        }
        _ => json!(["1", "2"][which]),
    }
}
