//! Objects without what says nothing and without what must not be said. Pure.

use serde::Serialize;
use serde_json::{Value, json};

use crate::redact::redact;

/// Annotation that repeats the whole object.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// An object without `managedFields` and without what kubectl notes.
pub(super) fn clean(object: &impl Serialize) -> Value {
    let mut value = serde_json::to_value(object).unwrap_or_default();
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.remove(LAST_APPLIED);
        }
    }
    value
}

/// A Secret with the names of its members instead of their values.
pub(super) fn members_only(mut secret: Value) -> Value {
    let Some(members) = secret.as_object_mut() else { return Value::Null };
    let names: Vec<_> = ["data", "stringData"]
        .into_iter()
        .filter_map(|member| members.remove(member))
        .flat_map(|data| data.as_object().map(|data| data.keys().cloned().collect::<Vec<_>>()).unwrap_or_default())
        .collect();
    members.insert("members".to_owned(), json!(names));
    secret
}

/// Every text without its credentials.
pub(super) fn redacted(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(redact(&text)),
        Value::Array(list) => list.into_iter().map(redacted).collect(),
        Value::Object(members) => members.into_iter().map(|(name, value)| (name, redacted(value))).collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_secret_only_the_names_of_its_members_are_left() {
        let secret = json!({
            "kind": "Secret",
            "metadata": {"name": "ai-bifrost-keys", "managedFields": [{}], "annotations": {LAST_APPLIED: "sk-0123456789", "a": "b"}},
            "data": {"key.main": "c2stMDEyMzQ1Njc4OQ==", "admin-token": "dG9rZW4="},
        });
        let left = redacted(members_only(clean(&secret))).to_string();
        assert!(left.contains("key.main") && left.contains("admin-token") && left.contains(r#""a":"b""#), "{left}");
        for value in ["c2stMDEy", "dG9rZW4", "sk-0123456789", "managedFields"] {
            assert!(!left.contains(value), "{left}");
        }
    }

    #[test]
    fn texts_inside_of_texts_are_redacted_too() {
        let object =
            json!({"data": {"stable.json": r#"{"authorization":"Bearer abcdef"}"#}, "list": ["key sk-abcdef123"]});
        assert!(!redacted(object.clone()).to_string().contains("abcdef"), "{object}");
    }
}
