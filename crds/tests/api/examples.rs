//! Every example, and every piece of YAML in README and docs, is made of fields that exist, with words the schema knows. The
//! end-to-end tests apply them.

use std::path::{Path, PathBuf};

use bifrost_crds::publish::manifests;
use serde::Deserialize;
use serde_json::Value;

use crate::walk::root;

fn files(folder: &Path, wanted: &str, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, wanted, found);
        } else if path.extension().is_some_and(|extension| extension == wanted) {
            found.push(path);
        }
    }
}

/// The documents of a YAML file, or of the YAML in a Markdown file.
fn documents(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap();
    let parts: Vec<&str> = match file.extension().is_some_and(|extension| extension == "md") {
        true => text.split("```yaml\n").skip(1).filter_map(|block| block.split("```").next()).collect(),
        false => vec![&text],
    };
    let read = |document| Value::deserialize(document).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    parts.into_iter().flat_map(serde_yaml_ng::Deserializer::from_str).map(read).collect()
}

fn check(schema: &Value, value: &Value, at: &str, problems: &mut Vec<String>) {
    match (schema["type"].as_str().unwrap_or_default(), value) {
        ("object", Value::Object(members)) => {
            for required in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                if !members.contains_key(required) {
                    problems.push(format!("{at}: {required} is missing"));
                }
            }
            for (name, member) in members {
                let child = schema["properties"].get(name).or_else(|| schema.get("additionalProperties"));
                match child {
                    Some(child) => check(child, member, &format!("{at}.{name}"), problems),
                    None => problems.push(format!("{at}: no field {name}")),
                }
            }
        }
        ("array", Value::Array(items)) => {
            for (index, item) in items.iter().enumerate() {
                check(&schema["items"], item, &format!("{at}[{index}]"), problems);
            }
        }
        ("string", Value::String(text)) => {
            if schema["enum"].as_array().is_some_and(|words| !words.contains(value)) {
                problems.push(format!("{at}: {text} is none of {}", schema["enum"]));
            }
        }
        ("integer", Value::Number(number)) if number.is_i64() => {}
        ("boolean", Value::Bool(_)) => {}
        ("", Value::Number(_) | Value::String(_)) if schema["x-kubernetes-int-or-string"] == true => {}
        (wanted, other) => problems.push(format!("{at}: {other} is no {wanted}")),
    }
}

#[test]
fn examples_use_fields_that_exist() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut found = vec![top.join("README.md")];
    files(&top.join("examples"), "yaml", &mut found);
    files(&top.join("docs"), "md", &mut found);
    let manifests = manifests().unwrap();
    let (mut checked, mut problems) = (0, Vec::new());
    for file in found {
        for object in documents(&file) {
            let at = format!("{} {}", file.display(), object["metadata"]["name"]);
            // What has a spec and no kind is a part of a gateway's.
            let (kind, is_part) = match &object["kind"] {
                Value::Null if object["spec"].is_object() => (&Value::from("BifrostGateway"), true),
                kind => (kind, false),
            };
            let Some(crd) = manifests.iter().find(|crd| crd.object["spec"]["names"]["kind"] == *kind) else {
                continue;
            };
            let mut schema = root(crd)["properties"]["spec"].clone();
            if is_part {
                schema["required"] = Value::Null;
            } else {
                assert_eq!(object["apiVersion"], bifrost_crds::API_VERSION, "{at}");
            }
            checked += 1;
            check(&schema, &object["spec"], &at, &mut problems);
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(checked >= 30, "only {checked} resources found");
}
