//! Every example is made of fields that exist, with words the schema knows. The end-to-end tests apply them.

use std::path::{Path, PathBuf};

use bifrost_crds::publish::manifests;
use serde::Deserialize;
use serde_json::Value;

use crate::walk::root;

fn yaml_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            yaml_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            found.push(path);
        }
    }
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
    let mut files = Vec::new();
    yaml_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples"), &mut files);
    let manifests = manifests().unwrap();
    let (mut checked, mut problems) = (0, Vec::new());
    for file in files {
        for document in serde_yaml_ng::Deserializer::from_str(&std::fs::read_to_string(&file).unwrap()) {
            let object = Value::deserialize(document).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            let Some(crd) = manifests.iter().find(|crd| crd.object["spec"]["names"]["kind"] == object["kind"]) else {
                continue;
            };
            assert_eq!(object["apiVersion"], bifrost_crds::API_VERSION, "{}", file.display());
            checked += 1;
            let at = format!("{} {}", file.display(), object["metadata"]["name"]);
            check(&root(crd)["properties"]["spec"], &object["spec"], &at, &mut problems);
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(checked >= 6, "only {checked} resources found");
}
