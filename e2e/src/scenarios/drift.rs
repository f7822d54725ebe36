//! What other hands do to the owned objects is put right; what is theirs is left alone; deletion takes everything along.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures::FutureExt;
use serde_json::{Value, json};

use super::{
    gateway::{self, NAME},
    no_leaks, operator,
};
use crate::{
    deploy::OPERATOR_NAMESPACE,
    scenarios::{Context, Scenario},
    wait,
};

/// The scenario.
pub(super) const SCENARIO: Scenario = Scenario::new(
    "drift",
    "Deleted and edited objects are restored in 5 s, foreign ones are never touched, and nothing is left after deletion",
    |context| run(context).boxed(),
);

/// Edits of every object of a gateway: a path, and another value or a member that is not ours.
const EDITS: &[(&str, &[(&str, &str)])] = &[
    (
        "deployment/ai",
        &[
            (MANAGED_BY, r#""somebody""#),
            ("/spec/replicas", "2"),
            ("/spec/strategy/rollingUpdate/maxUnavailable", "1"),
            ("/spec/template/spec/terminationGracePeriodSeconds", "7"),
            ("/spec/template/spec/containers/0/args/0", r#""--help""#),
            // Apply alone would add ours beside each of these, and that would be no valid object.
            ("/spec/template/spec/containers/0/ports/0/containerPort", "9999"),
            ("/spec/template/spec/containers/0/readinessProbe", r#"{"tcpSocket": {"port": 1}}"#),
            ("/spec/template/spec/volumes/0", r#"{"name": "state", "hostPath": {"path": "/tmp"}}"#),
        ],
    ),
    (
        "service/ai",
        &[
            (MANAGED_BY, r#""somebody""#),
            ("/spec/ports/0/port", "9999"),
            ("/spec/ports/0/name", r#""web""#),
            ("/spec/ports/0/targetPort", "1"),
            ("/spec/ports/1", r#"{"name": "foreign", "port": 9999}"#),
            ("/spec/ports", r#"[{"name": "http", "port": 9999}, {"name": "web", "port": 8080}]"#),
            ("/spec/selector", r#"{"app": "other"}"#),
            ("/spec/type", r#""NodePort""#),
        ],
    ),
    (
        "configmap/ai-bifrost",
        &[
            (MANAGED_BY, r#""somebody""#),
            (TRAFFIC, r#""{}""#),
            ("/data/stable.json", r#""{}""#),
            ("/data/foreign", r#""x""#),
            ("/binaryData", r#"{"foreign": "eA=="}"#),
        ],
    ),
    (
        "configmap/ai-bifrost-env",
        &[("/data/OPENAI_BASE_URL", r#""http://elsewhere""#), ("/data/ANTHROPIC_API_KEY", r#""x""#)],
    ),
    (
        "configmap/ai-bifrost-env-direct",
        &[("/data/OPENAI_BASE_URL", r#""http://elsewhere""#), ("/data/ANTHROPIC_API_KEY", r#""x""#)],
    ),
    (
        "secret/ai-bifrost-keys",
        &[(MANAGED_BY, r#""somebody""#), ("/data/key.openai", r#""eA==""#), ("/data/foreign", r#""eA==""#)],
    ),
    ("role/ai-bifrost", &[(MANAGED_BY, r#""somebody""#), ("/rules/0/verbs", r#"["get", "list", "watch", "delete"]"#)]),
    ("rolebinding/ai-bifrost", &[(MANAGED_BY, r#""somebody""#), ("/subjects/0/name", r#""default""#)]),
    ("serviceaccount/ai-bifrost", &[(MANAGED_BY, r#""somebody""#), ("/automountServiceAccountToken", "true")]),
    (
        "poddisruptionbudget/ai-bifrost",
        &[
            (MANAGED_BY, r#""somebody""#),
            ("/spec/maxUnavailable", "3"),
            ("/spec", r#"{"minAvailable": 1, "selector": {"matchLabels": {"app": "other"}}}"#),
        ],
    ),
    (
        "networkpolicy/ai-bifrost",
        &[(MANAGED_BY, r#""somebody""#), ("/spec/ingress", "[]"), ("/spec/podSelector", "{}")],
    ),
];
const MANAGED_BY: &str = "/metadata/labels/app.kubernetes.io~1managed-by";
const TRAFFIC: &str = "/data/traffic.json";
const LIMIT: Duration = Duration::from_secs(5);

async fn run(context: &Context) -> Result<()> {
    let own =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "ai-keys"}, "stringData": {"mine": "yes"}});
    context.apply(&own.to_string()).await?;
    let own = gateway::get(context, "secret/ai-keys").await?;
    gateway::create(context, 1, Value::Null).await?;
    let (mut edits, mut slowest) = (0, (Duration::ZERO, String::new()));
    for (object, paths) in EDITS {
        for (path, value) in *paths {
            slowest = slowest.max((edited(context, object, path, value).await?, format!("{object} {path}")));
            edits += 1;
        }
    }
    for (object, _) in EDITS {
        slowest = slowest.max((deleted(context, object).await?, format!("{object}, deleted")));
    }
    let (seconds, what) = (slowest.0.as_secs_f64(), slowest.1);
    println!("  {edits} edits and {} deletions repaired, the slowest in {seconds:.2} s: {what}", EDITS.len());
    gateway::wait_event(context, "DriftCorrected").await?;
    gateway::wait_condition(context, &format!("bifrostgateway/{NAME}"), "Ready", "True").await?;
    held(context).await?;
    name_conflict(context).await?;
    ensure!(gateway::get(context, "secret/ai-keys").await? == own, "a user's own Secret was changed");
    deletion_with_the_operator_away(context).await
}

/// A spec that is not accepted changes nothing, but what is missing comes back.
async fn held(context: &Context) -> Result<()> {
    let object = format!("bifrostgateway/{NAME}");
    let url =
        |url: &str| json!([{"op": "replace", "path": "/spec/config/providers/0/baseURL", "value": url}]).to_string();
    context.kubectl(&["patch", &object, "--type=json", "--patch", &url("https://127.0.0.1")]).await?;
    gateway::wait_condition(context, &object, "Accepted", "False").await?;
    let mut slowest = Duration::ZERO;
    for missing in ["service/ai", "deployment/ai", "rolebinding/ai-bifrost"] {
        slowest = slowest.max(deleted(context, missing).await?);
    }
    println!("  deleted while the spec is not accepted: back after {:.2} s", slowest.as_secs_f64());
    context.kubectl(&["patch", &object, "--type=json", "--patch", &url("https://openai.vendors.svc")]).await?;
    gateway::wait_condition(context, &object, "Ready", "True").await.map(drop)
}

/// Edits a field and waits until it is as it was.
async fn edited(context: &Context, object: &str, path: &str, value: &str) -> Result<Duration> {
    let before = gateway::get(context, object).await?.pointer(path).cloned();
    let op = if before.is_some() { "replace" } else { "add" };
    let patch = format!(r#"[{{"op":"{op}","path":"{path}","value":{value}}}]"#);
    let patched = context.kubectl(&["patch", object, "--type=json", "--patch", &patch]).await?;
    ensure!(!patched.contains("no change"), "{object} {path}: {value} is no edit");
    let began = Instant::now();
    wait::wait_until(&format!("{object} {path} to be repaired"), LIMIT, || async {
        let now = gateway::get(context, object).await?.pointer(path).cloned();
        // The traffic table comes back under a higher epoch.
        let repaired = if path == TRAFFIC { now != serde_json::from_str(value).ok() } else { now == before };
        ensure!(repaired, "{now:?} in place of {before:?}");
        Ok(true)
    })
    .await?;
    Ok(began.elapsed())
}

/// Deletes an object and waits for another of its name.
async fn deleted(context: &Context, object: &str) -> Result<Duration> {
    let uid = |object: &Value| object["metadata"]["uid"].as_str().map(str::to_owned);
    let before = uid(&gateway::get(context, object).await?);
    context.kubectl(&["delete", object, "--wait=false"]).await?;
    let began = Instant::now();
    wait::wait_until(&format!("{object} to be restored"), LIMIT, || async {
        let now = uid(&gateway::get(context, object).await?);
        Ok(now.is_some() && now != before)
    })
    .await?;
    Ok(began.elapsed())
}

/// A gateway whose names are taken by somebody else's objects says so and touches none of them.
async fn name_conflict(context: &Context) -> Result<()> {
    let taken = foreign_objects();
    gateway::apply_all(context, taken.clone()).await?;
    let names: Vec<_> = taken.iter().map(|object| (text(&object["kind"]), text(&object["metadata"]["name"]))).collect();
    let before = contents(context, &names).await?;
    let mut manifest = gateway::manifest(1, Value::Null, Vec::new());
    manifest["metadata"]["name"] = json!("other");
    context.apply(&manifest.to_string()).await?;
    let condition = gateway::wait_condition(context, "bifrostgateway/other", "Accepted", "False").await?;
    ensure!(condition["reason"] == "NameConflict", "{condition}");
    for (kind, name) in &names {
        ensure!(text(&condition["message"]).contains(&format!("{kind} {name}")), "{kind} {name} is not in {condition}");
    }
    context.kubectl(&["delete", "bifrostgateway/other"]).await?;
    ensure!(contents(context, &names).await? == before, "a foreign object was changed");
    println!("  foreign objects under all {} owned names stay: {}", names.len(), condition["message"]);
    Ok(())
}

/// One for each name that a gateway `other` needs.
fn foreign_objects() -> Vec<Value> {
    let object = |api: &str, kind: &str, name: &str, more: Value| {
        let mut object = json!({"apiVersion": api, "kind": kind, "metadata": {"name": name}});
        if let (Some(all), Value::Object(more)) = (object.as_object_mut(), more) {
            all.extend(more);
        }
        object
    };
    let (app, port) = (json!({"app": "mine"}), json!([{"port": 1}]));
    let labels = json!({"matchLabels": app});
    let template = json!({"metadata": {"labels": app}, "spec": {"containers": [{"name": "mine", "image": "mine"}]}});
    let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "other-bifrost"});
    let mine = json!({"data": {"mine": "eWVz"}});
    let rbac = "rbac.authorization.k8s.io/v1";
    vec![
        object("v1", "Secret", "other-bifrost-keys", mine.clone()),
        object("v1", "ConfigMap", "other-bifrost", mine.clone()),
        object("v1", "ConfigMap", "other-bifrost-env", mine.clone()),
        object("v1", "ConfigMap", "other-bifrost-env-direct", mine),
        object("v1", "ServiceAccount", "other-bifrost", json!({})),
        object(rbac, "Role", "other-bifrost", json!({"rules": []})),
        object(rbac, "RoleBinding", "other-bifrost", json!({"roleRef": role, "subjects": []})),
        object("v1", "Service", "other", json!({"spec": {"ports": port, "selector": app}})),
        object("policy/v1", "PodDisruptionBudget", "other-bifrost", json!({"spec": {"selector": labels}})),
        object("networking.k8s.io/v1", "NetworkPolicy", "other-bifrost", json!({"spec": {"podSelector": labels}})),
        object(
            "apps/v1",
            "Deployment",
            "other",
            json!({"spec": {"replicas": 0, "selector": labels, "template": template}}),
        ),
    ]
}

/// What users see of objects; statuses and versions are the business of the cluster's own controllers.
async fn contents(context: &Context, names: &[(String, String)]) -> Result<Vec<Value>> {
    let mut all = Vec::new();
    for (kind, name) in names {
        let object = gateway::get(context, &format!("{kind}/{name}")).await?;
        let meta = &object["metadata"];
        let members = ["spec", "data", "rules", "subjects", "roleRef"].map(|member| object[member].clone());
        all.push(json!([meta["uid"], meta["labels"], meta["ownerReferences"], members]));
    }
    Ok(all)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

async fn deletion_with_the_operator_away(context: &Context) -> Result<()> {
    // Its logs go with it.
    no_leaks::search_logs(context, OPERATOR_NAMESPACE).await?;
    operator::scale(context, 0).await?;
    let outcome = deletion(context).await;
    operator::scale(context, 1).await?;
    outcome
}

async fn deletion(context: &Context) -> Result<()> {
    context.kubectl(&["delete", &format!("bifrostgateway/{NAME}")]).await?;
    let selector = gateway::selector();
    wait::wait_until("everything to be collected", Duration::from_secs(60), || async {
        let left = context.kubectl(&["get", operator::OWNED_KINDS, "--selector", &selector, "--output=name"]).await?;
        ensure!(left.trim().is_empty(), "{left}");
        Ok(true)
    })
    .await?;
    context.kubectl(&["get", "secret/ai-keys"]).await.context("a user's own Secret went along")?;
    println!("  deleted with the operator away: everything of the gateway's is collected");
    Ok(())
}
