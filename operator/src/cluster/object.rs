//! An object as it shall be, of any kind.

use kube::api::{ApiResource, DynamicObject};
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde_json::{Map, Value, json};

/// How an object is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Server-side apply: what others add stays.
    Apply,
    /// A ConfigMap or Secret whose `data` is ours as a whole: one write, bound to the version that was read, that sets our members
    /// and removes all others.
    Data,
    /// A Service: other ports are removed, then server-side apply.
    Ports,
}

/// An object as it shall be. Not `Debug`: it may be a Secret.
#[derive(Clone)]
pub struct Object {
    /// Its kind.
    pub resource: ApiResource,
    /// Its name.
    pub name: String,
    /// How it is written.
    pub mode: Mode,
    /// The whole object.
    pub body: Value,
}

impl Object {
    /// Of a typed object.
    pub fn new<K>(mode: Mode, object: &K) -> Self
    where
        K: Resource<DynamicType = ()> + Serialize,
    {
        // Types of k8s-openapi have string keys only and always serialise.
        let body = serde_json::to_value(object).unwrap_or_default();
        Self { resource: ApiResource::erase::<K>(&()), name: object.name_any(), mode, body }
    }
}

/// Whether somebody has forbidden every change of a ConfigMap or Secret. Only a new one takes changes again.
pub fn is_immutable(live: &DynamicObject) -> bool {
    live.data.get("immutable").and_then(Value::as_bool) == Some(true)
}

/// Whether a new one cannot be made yet: it is on its way out already, and its name with it.
pub fn cannot_be_replaced(live: &DynamicObject) -> bool {
    is_immutable(live) && live.metadata.deletion_timestamp.is_some()
}

/// What a merge patch must send so that `live` gets exactly our `data`, and our labels and owner beside those of others. `None`:
/// it is so already. The patch carries uid and resourceVersion of `live`.
pub fn data_patch(live: &DynamicObject, body: &Value) -> Option<Value> {
    let empty = Map::new();
    let wanted = body.get("data").and_then(Value::as_object).unwrap_or(&empty);
    let present = live.data.get("data").and_then(Value::as_object).unwrap_or(&empty);
    let mut data: Map<String, Value> = wanted
        .iter()
        .filter(|(key, value)| present.get(*key) != Some(value))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    data.extend(present.keys().filter(|key| !wanted.contains_key(*key)).map(|key| (key.clone(), Value::Null)));

    let labels = missing_labels(live, body);
    let owners = missing_owner(live, body);
    let binary = live.data.get("binaryData").is_some_and(|v| v.as_object().is_some_and(|members| !members.is_empty()));
    if data.is_empty() && labels.is_empty() && owners.is_none() && !binary {
        return None;
    }
    let mut metadata = json!({"uid": live.uid(), "resourceVersion": live.resource_version()});
    if !labels.is_empty() {
        metadata["labels"] = Value::Object(labels);
    }
    if let Some(owners) = owners {
        metadata["ownerReferences"] = owners;
    }
    let mut patch = json!({"metadata": metadata});
    if !data.is_empty() {
        patch["data"] = Value::Object(data);
    }
    if binary {
        patch["binaryData"] = Value::Null;
    }
    Some(patch)
}

fn missing_labels(live: &DynamicObject, body: &Value) -> Map<String, Value> {
    let wanted = body.pointer("/metadata/labels").and_then(Value::as_object);
    wanted
        .into_iter()
        .flatten()
        .filter(|(key, value)| live.labels().get(*key).map(String::as_str) != value.as_str())
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

/// The whole list with ours as it should be, if somebody edited it. It was there, or the object would not be ours.
fn missing_owner(live: &DynamicObject, body: &Value) -> Option<Value> {
    let ours = body.pointer("/metadata/ownerReferences/0")?;
    let present: Vec<Value> =
        live.owner_references().iter().filter_map(|reference| serde_json::to_value(reference).ok()).collect();
    if present.contains(ours) {
        return None;
    }
    let mut list: Vec<Value> = present.into_iter().filter(|other| other.get("uid") != ours.get("uid")).collect();
    list.push(ours.clone());
    Some(Value::Array(list))
}

/// Whether two states of an object differ in more than what the system itself keeps in it.
pub fn differs(before: &DynamicObject, after: &DynamicObject) -> bool {
    let stripped = |object: &DynamicObject| {
        let mut data = object.data.clone();
        if let Some(fields) = data.as_object_mut() {
            fields.remove("status");
        }
        let annotations: Vec<_> = object
            .annotations()
            .iter()
            .filter(|(key, _)| !key.starts_with("deployment.kubernetes.io/"))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        (data, object.labels().clone(), annotations, object.owner_references().to_vec())
    };
    stripped(before) != stripped(after)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live(value: Value) -> DynamicObject {
        serde_json::from_value(value).unwrap()
    }

    fn wanted() -> Value {
        json!({
            "metadata": {"name": "a", "labels": {"l": "1"}, "ownerReferences": [
                {"apiVersion": "x/v1", "kind": "X", "name": "x", "uid": "o", "controller": true, "blockOwnerDeletion": true}]},
            "data": {"one": "1"},
        })
    }

    fn present() -> Value {
        let mut present = wanted();
        present["metadata"]["uid"] = json!("u");
        present["metadata"]["resourceVersion"] = json!("7");
        present
    }

    #[test]
    fn an_object_that_is_as_it_shall_be_is_not_written() {
        assert_eq!(data_patch(&live(present()), &wanted()), None);
        let mut more = present();
        more["metadata"]["labels"]["other"] = json!("stays");
        more["metadata"]["annotations"] = json!({"other": "stays"});
        assert_eq!(data_patch(&live(more), &wanted()), None);
    }

    #[test]
    fn foreign_members_are_removed_and_changed_ones_restored_in_one_fenced_write() {
        let mut changed = present();
        changed["data"] = json!({"one": "2", "foreign": "x"});
        changed["binaryData"] = json!({"b": "AA=="});
        let patch = data_patch(&live(changed), &wanted()).unwrap();
        let expected = json!({
            "metadata": {"uid": "u", "resourceVersion": "7"},
            "data": {"one": "1", "foreign": null},
            "binaryData": null,
        });
        assert_eq!(patch, expected);
    }

    #[test]
    fn an_edited_owner_is_put_right_beside_others() {
        let mut changed = present();
        let other = json!({"apiVersion": "y/v1", "kind": "Y", "name": "y", "uid": "p"});
        let mut edited = wanted()["metadata"]["ownerReferences"][0].clone();
        edited["blockOwnerDeletion"] = json!(false);
        changed["metadata"]["ownerReferences"] = json!([edited, other]);
        let patch = data_patch(&live(changed), &wanted()).unwrap();
        assert_eq!(patch["metadata"]["ownerReferences"], json!([other, wanted()["metadata"]["ownerReferences"][0]]));
    }

    #[test]
    fn what_somebody_made_immutable_is_known() {
        assert!(!is_immutable(&live(present())));
        let mut frozen = present();
        frozen["immutable"] = json!(true);
        assert!(is_immutable(&live(frozen.clone())) && !cannot_be_replaced(&live(frozen.clone())));
        frozen["metadata"]["deletionTimestamp"] = json!("2030-01-01T00:00:00Z");
        assert!(cannot_be_replaced(&live(frozen)));
    }

    #[test]
    fn status_and_versions_are_no_difference() {
        let one =
            live(json!({"metadata": {"name": "a", "resourceVersion": "1"}, "spec": {"x": 1}, "status": {"r": 1}}));
        let two =
            live(json!({"metadata": {"name": "a", "resourceVersion": "2"}, "spec": {"x": 1}, "status": {"r": 2}}));
        let three = live(json!({"metadata": {"name": "a", "resourceVersion": "2"}, "spec": {"x": 2}}));
        assert!(!differs(&one, &two));
        assert!(differs(&one, &three));
    }
}
