//! Which fields of an object are somebody's, as the API server keeps book: `metadata.managedFields`, as paths.

use serde_json::Value;

/// The paths (RFC 6901) of all fields that a manager has set in an object and that are there; without those by which a list tells its
/// members apart, as another value there makes another member.
pub(super) fn of(object: &Value, manager: &str) -> Vec<String> {
    let entries = object["metadata"]["managedFields"].as_array().into_iter().flatten();
    let mut found = Vec::new();
    for entry in entries.filter(|entry| entry["manager"] == manager) {
        collect(&entry["fieldsV1"], object, "", &Value::Null, &mut found);
    }
    found.sort();
    found.dedup();
    found
}

fn collect(fields: &Value, live: &Value, path: &str, keys: &Value, found: &mut Vec<String>) {
    for (name, below) in fields.as_object().into_iter().flatten() {
        if name.strip_prefix("f:").is_some_and(|member| keys.get(member).is_some()) {
            continue;
        }
        let Some(step) = step(name, live) else { continue };
        let Some(member) = live.pointer(&step) else { continue };
        let path = format!("{path}{step}");
        let is_leaf = below.as_object().is_none_or(|below| below.keys().all(|name| name == "."));
        if is_leaf { found.push(path) } else { collect(below, member, &path, &keys_of(name), found) }
    }
}

/// `f:name` is a member, `k:{…}` the member of a list that has these; `.` and `v:…` lead no further.
fn step(name: &str, live: &Value) -> Option<String> {
    if let Some(member) = name.strip_prefix("f:") {
        return Some(format!("/{}", member.replace('~', "~0").replace('/', "~1")));
    }
    let keys = keys_of(name);
    let fits =
        |member: &Value| keys.as_object().is_some_and(|keys| keys.iter().all(|(key, value)| member[key] == *value));
    Some(format!("/{}", live.as_array()?.iter().position(fits)?))
}

/// What `k:{…}` names; nothing in other steps.
fn keys_of(name: &str) -> Value {
    name.strip_prefix("k:").and_then(|keys| serde_json::from_str(keys).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_become_paths_of_the_object() {
        let fields = json!({
            "f:metadata": {"f:labels": {"f:a/b": {}}, "f:ownerReferences": {"k:{\"uid\":\"u\"}": {}}},
            "f:spec": {".": {}, "f:ports": {"k:{\"port\":2,\"protocol\":\"TCP\"}": {".": {}, "f:name": {}, "f:port": {}}}},
            "f:gone": {},
        });
        let object = json!({
            "metadata": {
                "labels": {"a/b": "c"}, "ownerReferences": [{"uid": "t"}, {"uid": "u"}],
                "managedFields": [{"manager": "us", "fieldsV1": fields}, {"manager": "other", "fieldsV1": {"f:spec": {}}}],
            },
            "spec": {"ports": [{"port": 1}, {"port": 2, "protocol": "TCP", "name": "http"}]},
        });
        let expected = ["/metadata/labels/a~1b", "/metadata/ownerReferences/1", "/spec/ports/1/name"];
        assert_eq!(of(&object, "us"), expected);
    }
}
