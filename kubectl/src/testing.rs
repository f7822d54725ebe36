//! An API server inside the test: one gateway, its events, and a hand that plays the operator.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::BodyExt as _;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

use crate::cli::{GatewayArg, WaitArgs};
use crate::session::Session;

/// What it holds.
pub(crate) struct State {
    pub(crate) gateway: Value,
    /// ConfigMaps, whatever labels are asked for.
    pub(crate) config_maps: Vec<Value>,
    /// Bodies of the patches that came.
    pub(crate) patches: Vec<Value>,
    /// What somebody else does before the next patch.
    pub(crate) before_patch: Option<Operator>,
    /// What the operator does after the next look.
    pub(crate) after_get: Option<Operator>,
}

/// Plays the operator, after each patch.
pub(crate) type Operator = fn(&mut State);

/// A session with such a server.
pub(crate) fn session(operator: Operator) -> (Session, Arc<Mutex<State>>) {
    let gateway = serde_yaml_ng::from_str::<serde_yaml_ng::Value>(include_str!("../testdata/gateway.yaml")).unwrap();
    let mut gateway = serde_json::to_value(gateway).unwrap();
    gateway["metadata"]["resourceVersion"] = json!("1");
    let state = State { gateway, config_maps: Vec::new(), patches: Vec::new(), before_patch: None, after_get: None };
    let state = Arc::new(Mutex::new(state));
    let held = Arc::clone(&state);
    let service = tower::service_fn(move |request: Request<Body>| {
        let state = Arc::clone(&held);
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let answer = answer(&mut state.lock().unwrap(), operator, &head.method, &head.uri.to_string(), &body);
            let code = answer["code"].as_u64().map_or(200, |code| u16::try_from(code).unwrap());
            let answer = Response::builder().status(code).body(Body::from(answer.to_string().into_bytes())).unwrap();
            Ok::<_, std::convert::Infallible>(answer)
        }
    });
    (Session { client: Client::new(service, "llm"), namespace: "llm".to_owned() }, state)
}

/// Waits for this many milliseconds at most.
pub(crate) fn wait(milliseconds: u64) -> WaitArgs {
    WaitArgs { timeout: std::time::Duration::from_millis(milliseconds), no_wait: false }
}

/// The gateway that there is.
pub(crate) fn ai() -> GatewayArg {
    GatewayArg { name: Some("ai".to_owned()) }
}

fn answer(state: &mut State, operator: Operator, method: &Method, uri: &str, body: &Bytes) -> Value {
    let list = |kind: &str, version: &str, items: Value| json!({"kind": format!("{kind}List"), "apiVersion": version, "metadata": {"resourceVersion": "1"}, "items": items});
    if method == Method::PATCH {
        if let Some(before) = state.before_patch.take() {
            before(state);
        }
        let patch: Value = serde_json::from_slice(body).unwrap();
        let version = patch["metadata"].get("resourceVersion");
        if version.is_some_and(|version| *version != state.gateway["metadata"]["resourceVersion"]) {
            return json!({"kind": "Status", "status": "Failure", "code": 409, "reason": "Conflict", "message": "the object has been modified"});
        }
        let mut gateway = state.gateway.clone();
        if patch.get("spec").is_some() {
            let generation = gateway["metadata"]["generation"].as_i64().unwrap();
            gateway["metadata"]["generation"] = json!(generation + 1);
        }
        merge(&mut gateway, &patch);
        if uri.contains("dryRun=All") {
            return gateway;
        }
        state.gateway = gateway;
        state.patches.push(patch);
        operator(state);
    }
    if uri.contains("/configmaps") {
        list("ConfigMap", "v1", json!(state.config_maps))
    } else if uri.contains("watch=") {
        // The watch ends at once, and begins again.
        json!({"type": "MODIFIED", "object": state.gateway})
    } else if uri.split('?').next().is_some_and(|path| path.ends_with("/bifrostgateways")) {
        list("BifrostGateway", bifrost_crds::API_VERSION, json!([state.gateway]))
    } else {
        let gateway = state.gateway.clone();
        if let Some(after) = state.after_get.take().filter(|_| method == Method::GET) {
            after(state);
        }
        gateway
    }
}

fn merge(into: &mut Value, patch: &Value) {
    let Some(members) = patch.as_object() else {
        *into = patch.clone();
        return;
    };
    for (name, value) in members {
        if value.is_null() {
            if let Some(into) = into.as_object_mut() {
                into.remove(name);
            }
        } else if into.get(name).is_some_and(Value::is_object) && value.is_object() {
            merge(&mut into[name], value);
        } else {
            into[name] = value.clone();
        }
    }
}
