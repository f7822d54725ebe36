//! Who owns which field of an object. Pure.
//!
//! What is created or merged belongs to a manager of the same name, but to another entry of the list, from which server-side apply
//! takes nothing away: a member that is not wanted any more would stay for ever. So both entries become one, as `kubectl` does it
//! for objects that were made without server-side apply.

use kube::ResourceExt;
use kube::api::DynamicObject;
use serde_json::{Map, Value, json};

/// The merge patch that makes all fields of a manager fields that it applied, bound to the version that was read. `None`: they are.
pub fn applied_fields(live: &DynamicObject, manager: &str) -> Option<Value> {
    let entries = live.managed_fields().iter().filter_map(|entry| serde_json::to_value(entry).ok());
    // What is written of a subresource is not written again by apply.
    let is_own = |entry: &Value| entry["manager"] == manager && entry.get("subresource").is_none();
    let (own, mut all): (Vec<Value>, Vec<Value>) = entries.partition(is_own);
    if own.iter().all(|entry| entry["operation"] == "Apply") {
        return None;
    }
    let mut one = own.last().cloned()?;
    let mut fields = Value::Object(Map::new());
    for entry in own {
        unite(&mut fields, entry.get("fieldsV1").cloned().unwrap_or_default());
    }
    one["operation"] = json!("Apply");
    one["fieldsV1"] = fields;
    all.push(one);
    Some(json!({"metadata": {"uid": live.uid(), "resourceVersion": live.resource_version(), "managedFields": all}}))
}

fn unite(all: &mut Value, more: Value) {
    match (all, more) {
        (Value::Object(all), Value::Object(more)) => {
            for (field, inner) in more {
                unite(all.entry(field).or_insert_with(|| Value::Object(Map::new())), inner);
            }
        }
        (all @ Value::Null, more) => *all = more,
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live(entries: &Value) -> DynamicObject {
        let metadata = json!({"name": "a", "uid": "u", "resourceVersion": "3", "managedFields": entries});
        serde_json::from_value(json!({"metadata": metadata})).unwrap()
    }

    fn entry(manager: &str, operation: &str, fields: &Value) -> Value {
        json!({"manager": manager, "operation": operation, "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": fields})
    }

    #[test]
    fn what_was_created_becomes_what_was_applied() {
        let other = entry("kubectl", "Update", &json!({"f:spec": {"f:x": {}}}));
        let created = entry("us", "Update", &json!({"f:spec": {"f:a": {}, "f:b": {"f:c": {}}}}));
        let patch = applied_fields(&live(&json!([created, other])), "us").unwrap();
        assert_eq!(patch["metadata"]["resourceVersion"], "3");
        let applied = entry("us", "Apply", &json!({"f:spec": {"f:a": {}, "f:b": {"f:c": {}}}}));
        assert_eq!(patch["metadata"]["managedFields"], json!([other, applied]));
    }

    #[test]
    fn what_was_merged_later_joins_it() {
        let applied = entry("us", "Apply", &json!({"f:spec": {"f:a": {}}}));
        let merged = entry("us", "Update", &json!({"f:spec": {"f:b": {}}}));
        let patch = applied_fields(&live(&json!([applied, merged])), "us").unwrap();
        let both = entry("us", "Apply", &json!({"f:spec": {"f:a": {}, "f:b": {}}}));
        assert_eq!(patch["metadata"]["managedFields"], json!([both]));
    }

    #[test]
    fn what_is_applied_already_and_what_is_of_others_stays() {
        let applied = entry("us", "Apply", &json!({"f:spec": {}}));
        let mut status = entry("us", "Update", &json!({"f:status": {}}));
        status["subresource"] = json!("status");
        let other = entry("kubectl", "Update", &json!({}));
        assert_eq!(applied_fields(&live(&json!([applied, status, other])), "us"), None);
        assert_eq!(applied_fields(&live(&json!([other])), "us"), None);
    }
}
