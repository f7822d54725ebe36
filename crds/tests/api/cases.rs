//! The cases in `tests/cel`: what the API server must accept and what it must refuse. Here it is only checked that none is
//! missing; see `tests/cel/README.md` for what the members mean.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use crate::walk::{Node, nodes};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    #[serde(default)]
    accepted: Vec<Value>,
    #[serde(default)]
    rejected: Vec<Rejected>,
    #[serde(default)]
    updates: Vec<Update>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rejected {
    manifest: Value,
    field: String,
    message: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Update {
    from: Value,
    to: Value,
    field: Option<String>,
    message: Option<String>,
}

fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cel");
    let mut cases = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for document in serde_yaml_ng::Deserializer::from_str(&text) {
            cases.push(Case::deserialize(document).unwrap_or_else(|error| panic!("{}: {error}", path.display())));
        }
    }
    cases
}

/// (kind, field, message) of everything that must be refused.
fn refusals() -> Vec<(String, String, String)> {
    let mut found = Vec::new();
    for case in cases() {
        for Rejected { manifest, field, message } in case.rejected {
            found.push((kind(&manifest), field, message));
        }
        for Update { to, field, message, .. } in case.updates {
            found.extend(message.map(|message| (kind(&to), field.unwrap_or_default(), message)));
        }
    }
    found
}

fn kind(manifest: &Value) -> String {
    manifest["kind"].as_str().unwrap_or_default().to_owned()
}

/// Whether a field as the API server names it (`spec.config.providers[0].name`) is at a path of the schema.
fn is_at(field: &str, path: &str) -> bool {
    let parts = |text: &str| text.replace('[', ".[").split('.').map(str::to_owned).collect::<Vec<_>>();
    let (field, path) = (parts(field), parts(path));
    let same =
        |(field, path): (&String, &String)| field == path || path == "*" || (path == "[]" && field.starts_with('['));
    field.len() == path.len() && field.iter().zip(&path).all(same)
}

/// Field that a rule blames, as a path of the schema.
fn blamed(node: &Node, rule: &Value) -> String {
    format!("{}{}", node.path, rule["fieldPath"].as_str().unwrap_or_default())
}

#[test]
fn every_rule_has_a_case_that_breaks_it() {
    let refusals = refusals();
    for node in nodes() {
        for rule in node.schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
            let path = blamed(&node, rule);
            let found = refusals.iter().any(|(kind, field, message)| {
                *kind == node.kind && is_at(field, &path) && rule["message"] == message.as_str()
            });
            assert!(found, "no case breaks {} {path}: {}", node.kind, rule["message"]);
        }
    }
}

#[test]
fn every_pattern_has_a_case_that_breaks_it() {
    let refusals = refusals();
    for node in nodes() {
        let Some(pattern) = node.schema["pattern"].as_str() else { continue };
        let expected = format!("should match '{pattern}'");
        let found = refusals
            .iter()
            .any(|(kind, field, message)| *kind == node.kind && is_at(field, &node.path) && *message == expected);
        assert!(found, "no case breaks the pattern of {} {}", node.kind, node.path);
    }
}

#[test]
fn every_rule_and_pattern_has_a_case_that_keeps_it() {
    let accepted: Vec<Value> = cases()
        .into_iter()
        .flat_map(|case| {
            let updates = case.updates.into_iter().filter(|update| update.message.is_none()).map(|update| update.to);
            case.accepted.into_iter().chain(updates).collect::<Vec<_>>()
        })
        .collect();
    for node in nodes() {
        if node.schema["pattern"].is_null() && node.schema["x-kubernetes-validations"].is_null() {
            continue;
        }
        let found = accepted.iter().any(|manifest| kind(manifest) == node.kind && reaches(manifest, &node.path));
        assert!(found, "no accepted case has {} {}", node.kind, node.path);
    }
}

/// Whether a manifest has a value at a path of the schema.
fn reaches(value: &Value, path: &str) -> bool {
    let path = path.strip_prefix('.').unwrap_or(path);
    if path.is_empty() {
        return !value.is_null();
    }
    if let Some(rest) = path.strip_prefix("[]") {
        return value.as_array().is_some_and(|items| items.iter().any(|item| reaches(item, rest)));
    }
    let end = path.find(['.', '[']).unwrap_or(path.len());
    match &path[..end] {
        "*" => value.as_object().is_some_and(|members| members.values().any(|member| reaches(member, &path[end..]))),
        name => reaches(&value[name], &path[end..]),
    }
}

#[test]
fn case_names_are_unique_and_no_case_is_empty() {
    let mut names = BTreeSet::new();
    for case in cases() {
        assert!(!case.accepted.is_empty() || !case.updates.is_empty(), "{:?} accepts nothing", case.name);
        for manifest in case.accepted.iter().chain(case.updates.iter().map(|update| &update.from)) {
            assert_eq!(manifest["apiVersion"], bifrost_crds::API_VERSION, "{:?}", case.name);
        }
        assert!(names.insert(case.name.clone()), "{:?} occurs twice", case.name);
    }
    assert!(!names.is_empty());
}
