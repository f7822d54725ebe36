//! What server-side apply cannot put right: it adds what is ours and never removes what others wrote, not even where both together
//! are no valid object. Pure; the patches are merge patches, bound to the version that was read.

use kube::ResourceExt;
use kube::api::DynamicObject;
use serde_json::{Map, Value, json};

/// Lists of a pod to which others may add members of their own, by name: sidecars.
const SHARED_LISTS: [&str; 3] = ["containers", "initContainers", "volumes"];

/// Leaves a Service with our ports alone, if it has others. A port of ours whose number was edited counts as another, and would
/// take its name. Ours keep what the API server added to them (`nodePort`).
pub fn own_ports(live: &DynamicObject, body: &Value) -> Option<Value> {
    let wanted = list(body.pointer("/spec/ports"));
    let present = list(live.data.pointer("/spec/ports"));
    let ours: Vec<_> = wanted.iter().map(port_key).collect();
    if present.iter().all(|port| ours.contains(&port_key(port))) {
        return None;
    }
    let left: Vec<Value> = wanted.iter().map(|port| as_present(port, present)).collect();
    Some(bound(live, json!({"ports": left})))
}

fn port_key(port: &Value) -> (Option<i64>, &str) {
    let protocol = port.get("protocol").and_then(Value::as_str).unwrap_or("TCP");
    (port.get("port").and_then(Value::as_i64), protocol)
}

/// A port of ours as it is, or as it was before its number was edited.
fn as_present(port: &Value, present: &[Value]) -> Value {
    if let Some(same) = present.iter().find(|one| port_key(one) == port_key(port)) {
        return same.clone();
    }
    let mut port = port.clone();
    let renumbered = present.iter().find(|one| one.get("name") == port.get("name"));
    if let Some(node_port) = renumbered.and_then(|one| one.get("nodePort")) {
        port["nodePort"] = node_port.clone();
    }
    port
}

/// Makes `spec` ours as a whole, but for sidecars, their volumes, and what others noted on the pods. For an object in which what
/// others wrote contradicts what is ours: a second handler of a probe, a second source of a volume, a name that is taken. `None`:
/// the kind has no `spec`.
pub fn own_spec(live: &DynamicObject, body: &Value) -> Option<Value> {
    let mut wanted = body.get("spec")?.clone();
    let present = live.data.get("spec")?;
    if let (Some(theirs), Some(ours)) = (present.get("template"), wanted.get_mut("template")) {
        keep_others(theirs, ours);
    }
    Some(bound(live, difference(present, &wanted)))
}

fn keep_others(theirs: &Value, ours: &mut Value) {
    for noted in ["labels", "annotations"] {
        let mut all = theirs.pointer(&format!("/metadata/{noted}")).cloned().unwrap_or_else(|| json!({}));
        if let (Some(all), Some(own)) = (all.as_object_mut(), ours.pointer(&format!("/metadata/{noted}"))) {
            all.extend(own.as_object().cloned().unwrap_or_default());
        }
        ours["metadata"][noted] = all;
    }
    for name in SHARED_LISTS {
        let own = list(ours.pointer(&format!("/spec/{name}"))).to_vec();
        let is_own = |member: &Value| own.iter().any(|one| one.get("name") == member.get("name"));
        let others = list(theirs.pointer(&format!("/spec/{name}"))).iter().filter(|member| !is_own(member)).cloned();
        let all: Vec<_> = own.iter().cloned().chain(others).collect();
        if !all.is_empty() {
            ours["spec"][name] = Value::Array(all);
        }
    }
}

/// The merge patch that turns `present` into `wanted`.
fn difference(present: &Value, wanted: &Value) -> Value {
    let (Some(before), Some(after)) = (present.as_object(), wanted.as_object()) else { return wanted.clone() };
    let gone = before.keys().filter(|key| !after.contains_key(*key)).map(|key| (key.clone(), Value::Null));
    let nothing = Value::Null;
    let set = after.iter().filter(|(key, value)| before.get(*key) != Some(value));
    let set = set.map(|(key, value)| (key.clone(), difference(before.get(key).unwrap_or(&nothing), value)));
    Value::Object(gone.chain(set).collect::<Map<_, _>>())
}

fn bound(live: &DynamicObject, spec: Value) -> Value {
    json!({"metadata": {"uid": live.uid(), "resourceVersion": live.resource_version()}, "spec": spec})
}

fn list(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live(spec: &Value) -> DynamicObject {
        let object = json!({"metadata": {"name": "a", "uid": "u", "resourceVersion": "3"}, "spec": spec});
        serde_json::from_value(object).unwrap()
    }

    fn ports(present: &Value) -> Option<Value> {
        let body =
            json!({"spec": {"ports": [{"name": "http", "port": 8080, "targetPort": "http", "protocol": "TCP"}]}});
        own_ports(&live(&json!({"ports": present})), &body)
    }

    #[test]
    fn only_foreign_ports_go() {
        let ours = json!({"name": "http", "port": 8080, "protocol": "TCP", "nodePort": 30000, "targetPort": "http"});
        assert_eq!(ports(&json!([ours])), None);
        let more = json!([{"port": 8080, "protocol": "UDP"}, ours, {"port": 9, "protocol": "TCP"}]);
        let expected = json!({"metadata": {"uid": "u", "resourceVersion": "3"}, "spec": {"ports": [ours]}});
        assert_eq!(ports(&more), Some(expected));
    }

    #[test]
    fn a_port_whose_number_was_edited_comes_back_without_its_double_and_keeps_its_node_port() {
        let edited =
            json!([{"name": "http", "port": 9999, "protocol": "TCP", "nodePort": 30000, "targetPort": "http"}]);
        let expected =
            json!([{"name": "http", "port": 8080, "protocol": "TCP", "nodePort": 30000, "targetPort": "http"}]);
        assert_eq!(ports(&edited).unwrap()["spec"]["ports"], expected);
    }

    #[test]
    fn a_field_that_excludes_ours_goes() {
        let present = json!({"minAvailable": 1, "selector": {"matchLabels": {"a": "b"}}});
        let body = json!({"spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"a": "b"}}}});
        let patch = own_spec(&live(&present), &body).unwrap();
        assert_eq!(patch["spec"], json!({"minAvailable": null, "maxUnavailable": 1}));
        assert_eq!(patch["metadata"], json!({"uid": "u", "resourceVersion": "3"}));
    }

    #[test]
    fn our_container_comes_back_as_it_was_and_a_sidecar_stays() {
        let sidecar = json!({"name": "sidecar", "volumeMounts": [{"name": "theirs", "mountPath": "/x"}]});
        let volume = json!({"name": "theirs", "emptyDir": {}});
        let present = json!({"template": {
            "metadata": {"labels": {"l": "edited"}, "annotations": {"kubectl.kubernetes.io/restartedAt": "now"}},
            "spec": {"volumes": [{"name": "ours", "emptyDir": {}, "secret": {}}, volume], "containers": [
                sidecar, {"name": "gateway", "ports": [{"name": "http", "containerPort": 1}]}]},
        }});
        let ours = json!({"name": "gateway", "ports": [{"name": "http", "containerPort": 8080}]});
        let body = json!({"spec": {"template": {
            "metadata": {"labels": {"l": "1"}},
            "spec": {"volumes": [{"name": "ours", "secret": {}}], "containers": [ours]},
        }}});
        let patch = own_spec(&live(&present), &body).unwrap();
        let template = &patch["spec"]["template"];
        assert_eq!(template["spec"]["containers"], json!([ours, sidecar]));
        assert_eq!(template["spec"]["volumes"], json!([{"name": "ours", "secret": {}}, volume]));
        assert_eq!(template["metadata"], json!({"labels": {"l": "1"}}), "annotations of others are not touched");
    }

    #[test]
    fn a_kind_without_a_spec_is_left_to_apply() {
        assert_eq!(own_spec(&live(&json!({})), &json!({"rules": []})), None);
    }
}
