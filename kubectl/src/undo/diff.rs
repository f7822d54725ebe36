//! What differs between two specs, a line each. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// `path: before → after` of every member that differs. Things in a list are known by their names.
pub(super) fn diff(before: &Value, after: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    walk("", Some(before), Some(after), &mut lines);
    lines
}

fn walk(path: &str, before: Option<&Value>, after: Option<&Value>, lines: &mut Vec<String>) {
    if before == after {
        return;
    }
    let (Some(old), Some(new)) = (before.and_then(members), after.and_then(members)) else {
        return lines.push(format!("{}: {} → {}", path.trim_start_matches('.'), shown(before), shown(after)));
    };
    let count = lines.len();
    for name in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
        walk(&format!("{path}{name}"), old.get(name).copied(), new.get(name).copied(), lines);
    }
    if lines.len() == count {
        lines.push(format!("{}: in another order", path.trim_start_matches('.')));
    }
}

/// The members of an object, or of a list of things with names.
fn members(value: &Value) -> Option<BTreeMap<String, &Value>> {
    match value {
        Value::Object(members) => Some(members.iter().map(|(name, value)| (format!(".{name}"), value)).collect()),
        Value::Array(items) => {
            items.iter().map(|item| Some((format!("[{}]", item.get("name")?.as_str()?), item))).collect()
        }
        _ => None,
    }
}

fn shown(value: Option<&Value>) -> String {
    match value {
        None => "not set".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_member_that_differs_has_a_line() {
        let before = json!({"replicas": 3, "config": {
            "client": {"maxRequestBody": "20Mi"},
            "providers": [
                {"name": "openai", "type": "OpenAI", "network": {"requestTimeout": "60s"}},
                {"name": "internal", "type": "OpenAI", "baseURL": "https://llm.internal.example"},
            ],
        }});
        let after = json!({"replicas": 3, "image": {"tag": "0.1.0"}, "config": {
            "client": {"maxRequestBody": "100Mi"},
            "providers": [{"name": "openai", "type": "OpenAI", "network": {"requestTimeout": "600s"}}],
        }});
        insta::assert_snapshot!(diff(&before, &after).join("\n"), @r#"
        config.client.maxRequestBody: 20Mi → 100Mi
        config.providers[internal]: {"baseURL":"https://llm.internal.example","name":"internal","type":"OpenAI"} → not set
        config.providers[openai].network.requestTimeout: 60s → 600s
        image: not set → {"tag":"0.1.0"}
        "#);
        assert!(diff(&before, &before).is_empty());
    }

    #[test]
    fn an_order_and_a_list_without_names_are_told_as_a_whole() {
        let named = |names: [&str; 2]| json!({"list": names.map(|name| json!({"name": name}))});
        assert_eq!(diff(&named(["a", "b"]), &named(["b", "a"])), ["list: in another order"]);
        assert_eq!(diff(&json!({"list": ["a", "b"]}), &json!({"list": ["a"]})), [r#"list: ["a","b"] → ["a"]"#]);
    }
}
