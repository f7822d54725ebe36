//! The state that a gateway comes to, without what is another for each gateway: two gateways of the same spec end in the same.

use std::time::Duration;

use anyhow::{Result, ensure};
use base64::Engine as _;
use serde_json::{Value, json};

use super::{gateway, objects};
use crate::{scenarios::Context, wait};

/// How long nothing may change in what is settled.
const CALM: Duration = Duration::from_secs(1);

/// Status and owned objects.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct State(Value);

/// Waits until a gateway is ready, its pods are all there, and keys that are not selected have left; returns its state.
pub(super) async fn settled(context: &Context, name: &str, limit: Duration) -> Result<State> {
    wait::wait_for(&format!("{name} to settle"), limit, || async {
        let object = objects::get(context, &format!("bifrostgateway/{name}")).await?;
        let (status, spec) = (&object["status"], &object["spec"]);
        ensure!(status["observedGeneration"] == object["metadata"]["generation"], "{status}");
        ensure!(status["readyReplicas"] == spec["replicas"] && status["replicas"] == spec["replicas"], "{status}");
        let is = |condition: &str| gateway::condition(status, condition).is_some_and(|one| one["status"] == "True");
        ensure!(is("Ready") && !is("Progressing") && !is("Reconciling"), "{status}");
        let secret = objects::get(context, &format!("secret/{name}-bifrost-keys")).await?;
        let values =
            secret["data"].as_object().into_iter().flatten().filter(|(key, _)| key.starts_with("key.")).count();
        ensure!(status["keys"]["ready"] == values, "{values} values in the Secret");
        let state = of(context, name).await?;
        // Two looks, as what follows a change by itself is written a moment later.
        tokio::time::sleep(CALM).await;
        ensure!(of(context, name).await? == state, "it changes still");
        Ok(Some(state))
    })
    .await
}

/// Waits until a gateway is in a state.
pub(super) async fn reached(context: &Context, name: &str, state: &State, limit: Duration) -> Result<()> {
    wait::wait_until(&format!("{name} to be as undisturbed"), limit, || async {
        let now = of(context, name).await?;
        let mut differences = Vec::new();
        compare("", &now.0, &state.0, &mut differences);
        ensure!(differences.is_empty(), "{}", differences.join("; "));
        Ok(true)
    })
    .await
}

async fn of(context: &Context, name: &str) -> Result<State> {
    let gateway = objects::get(context, &format!("bifrostgateway/{name}")).await?;
    let objects: serde_json::Map<_, _> = objects::owned_now(context, name)
        .await?
        .iter()
        .map(|object| (format!("{} {}", object["kind"], object["metadata"]["name"]), contents(object)))
        .collect();
    let state = json!({"status": status(&gateway["status"]), "objects": objects});
    Ok(State(serde_json::from_str(&state.to_string().replace(name, "NAME"))?))
}

/// What was asked for. Left out: what the cluster gives each object, the gateway's UID, epochs, and the token that is drawn by lot.
fn contents(object: &Value) -> Value {
    let meta = &object["metadata"];
    let owners: Vec<_> = meta["ownerReferences"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|owner| json!([owner["kind"], owner["name"], owner["controller"], owner["blockOwnerDeletion"]]))
        .collect();
    let mut spec = object["spec"].clone();
    let mut data = object["data"].clone();
    for given in ["clusterIP", "clusterIPs"] {
        spec.as_object_mut().and_then(|spec| spec.remove(given));
    }
    let encoded = object["kind"] == "Secret";
    for (member, value) in data.as_object_mut().into_iter().flatten() {
        *value = if member == "admin-token" { Value::Null } else { readable(value, encoded) };
    }
    let rest = ["rules", "subjects", "roleRef", "automountServiceAccountToken", "immutable", "type"];
    let rest = rest.map(|member| object[member].clone());
    json!({"labels": meta["labels"], "owners": owners, "spec": spec, "data": data, "rest": rest})
}

/// A member that holds JSON, as JSON without epochs, UIDs and times; others are only told apart.
fn readable(value: &Value, encoded: bool) -> Value {
    let text = value.as_str().unwrap_or_default().to_owned();
    let decoded = base64::engine::general_purpose::STANDARD.decode(&text).unwrap_or_default();
    let text = if encoded { String::from_utf8_lossy(&decoded).into_owned() } else { text };
    let Ok(mut parsed @ Value::Object(_)) = serde_json::from_str::<Value>(&text) else { return Value::String(text) };
    for member in ["epoch", "since", "gatewayUid"] {
        parsed.as_object_mut().and_then(|parsed| parsed.remove(member));
    }
    for time in ["started", "confirmed", "watched"] {
        parsed["migration"].as_object_mut().and_then(|migration| migration.remove(time));
    }
    parsed
}

/// Without epoch, times, and messages, which name the epoch.
fn status(status: &Value) -> Value {
    let mut status = status.clone();
    status["traffic"].as_object_mut().and_then(|traffic| traffic.remove("epoch"));
    status["migration"].as_object_mut().and_then(|migration| migration.remove("stepStartedAt"));
    let conditions: serde_json::Map<_, _> = status["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|one| (one["type"].as_str().unwrap_or_default().to_owned(), json!([one["status"], one["reason"]])))
        .collect();
    status["conditions"] = Value::Object(conditions);
    status
}

/// The paths at which two values differ. Values are not shown: some are keys.
fn compare(path: &str, one: &Value, other: &Value, found: &mut Vec<String>) {
    match (one.as_object(), other.as_object()) {
        (Some(ours), Some(theirs)) => {
            for key in ours.keys().chain(theirs.keys().filter(|key| !ours.contains_key(*key))) {
                compare(&format!("{path}/{key}"), &one[key], &other[key], found);
            }
        }
        _ if one != other => found.push(path.to_owned()),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_named_by_their_path() {
        let mut found = Vec::new();
        compare("", &json!({"a": {"b": 1}, "c": 1, "d": 1}), &json!({"a": {"b": 2}, "c": 1, "e": 1}), &mut found);
        assert_eq!(found, ["/a/b", "/d", "/e"]);
    }

    #[test]
    fn what_is_another_for_each_gateway_is_left_out() {
        let traffic = |epoch: u32| json!({"epoch": epoch, "gatewayUid": epoch.to_string(), "percent": 10}).to_string();
        let object = |epoch: u32| json!({"kind": "ConfigMap", "metadata": {"uid": epoch}, "data": {"traffic.json": traffic(epoch)}});
        assert_eq!(contents(&object(1)), contents(&object(2)));
        let status_of = |epoch: u32| {
            json!({"traffic": {"epoch": epoch}, "conditions": [
            {"type": "Ready", "status": "True", "reason": "Ready", "message": epoch.to_string()}]})
        };
        assert_eq!(status(&status_of(1)), status(&status_of(2)));
    }
}
