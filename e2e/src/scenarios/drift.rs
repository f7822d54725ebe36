//! What other hands do to the owned objects is put right; what is theirs is left alone; deletion takes everything along.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use futures::FutureExt;
use serde_json::{Value, json};

use super::{
    drift_edits::{COUNTED, EDITS},
    gateway::{self, NAME, OBJECT},
    managed_fields, objects, operator,
};
use crate::{
    scenarios::{Context, Scenario},
    wait,
};

/// The scenario.
pub(super) const SCENARIO: Scenario = Scenario::new(
    "drift",
    "Deleted and edited objects are restored in 5 s, foreign ones are never touched, and nothing is left after deletion",
    |context| run(context).boxed(),
)
.limit(Duration::from_secs(600));

/// The operator's name as a field manager.
const OPERATOR: &str = "bifrost-operator";
const LIMIT: Duration = Duration::from_secs(5);
/// How long pods may take that are made anew.
const READY: Duration = Duration::from_secs(90);

async fn run(context: &Context) -> Result<()> {
    let own =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "ai-keys"}, "stringData": {"mine": "yes"}});
    context.apply(&own.to_string()).await?;
    let own = objects::get(context, "secret/ai-keys").await?;
    let mut manifest = gateway::manifest(1, Value::Null, Vec::new());
    manifest["spec"]["pod"]["resources"] =
        json!({"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "512Mi"}});
    gateway::create_from(context, manifest).await?;
    // Or each edit of the template would start pods. Somebody else's field, so it stays through all edits that apply alone repairs.
    context.kubectl(&["rollout", "pause", "deployment/ai"]).await?;
    let (mut edits, mut slowest) = (0, (Duration::ZERO, String::new()));
    for (object, paths) in EDITS {
        for (path, value) in *paths {
            slowest = slowest.max((edited(context, object, path, value).await?, format!("{object} {path}")));
            edits += 1;
        }
    }
    let (others, slowest_other) = all_others(context).await?;
    (edits, slowest) = (edits + others, slowest.max(slowest_other));
    let owned = objects::owned(NAME);
    ensure!(owned.iter().all(|object| EDITS.iter().any(|(edited, _)| edited == object)), "not every object was edited");
    for object in &owned {
        slowest = slowest.max((deleted(context, object).await?, format!("{object}, deleted")));
    }
    let (seconds, what) = (slowest.0.as_secs_f64(), slowest.1);
    println!("  {edits} edits and {} deletions repaired, the slowest in {seconds:.2} s: {what}", owned.len());
    gateway::wait_event(context, "DriftCorrected", "").await?;
    context.wait_for_condition(OBJECT, "Ready", READY).await?;
    held(context).await?;
    name_conflict(context).await?;
    ensure!(objects::get(context, "secret/ai-keys").await? == own, "a user's own Secret was changed");
    operator::without(context, deletion(context)).await
}

/// Edits every other field of the operator's that holds a single value, by giving it another one, unless the API server has none of it.
async fn all_others(context: &Context) -> Result<(usize, (Duration, String))> {
    let (mut repaired, mut refused, mut slowest) = (0, Vec::new(), (Duration::ZERO, String::new()));
    for (object, edits) in EDITS {
        let live = objects::get(context, object).await?;
        let fields = managed_fields::of(&live, OPERATOR);
        ensure!(!fields.is_empty(), "{object} has no fields of {OPERATOR}");
        let beside = |one: &str, other: &str| !format!("{one}/").starts_with(&format!("{other}/"));
        let untouched = |field: &&String| edits.iter().all(|(edit, _)| beside(field, edit) && beside(edit, field));
        for field in fields.iter().filter(untouched) {
            let is_encoded = object.starts_with("secret/") && field.starts_with("/data/");
            let Some(value) = live.pointer(field).and_then(|value| another(value, is_encoded)) else { continue };
            if would_be_refused(context, object, field, &value).await? {
                refused.push(format!("{object} {field}"));
                continue;
            }
            slowest = slowest.max((edited(context, object, field, &value).await?, format!("{object} {field}")));
            repaired += 1;
        }
    }
    println!("  the API server lets nobody edit {}", refused.join(", "));
    Ok((repaired, slowest))
}

/// Another value of the same kind, as JSON; none for what holds others.
fn another(value: &Value, is_encoded: bool) -> Option<String> {
    Some(match value {
        Value::String(_) if is_encoded => json!("eA==").to_string(),
        Value::String(text) => json!(format!("{text}-x")).to_string(),
        Value::Number(number) => json!(number.as_i64()? + 1).to_string(),
        Value::Bool(value) => json!(!value).to_string(),
        _ => return None,
    })
}

/// Whether the API server would not let an edit pass.
async fn would_be_refused(context: &Context, object: &str, path: &str, value: &str) -> Result<bool> {
    let patch = format!(r#"[{{"op":"replace","path":"{path}","value":{value}}}]"#);
    let tried = context.kubectl(&["patch", object, "--type=json", "--patch", &patch, "--dry-run=server"]).await;
    match tried {
        Ok(_) => Ok(false),
        Err(error) if format!("{error:#}").contains("is invalid") => Ok(true),
        Err(error) => Err(error),
    }
}

/// A spec that is not accepted changes nothing, but what is missing comes back.
async fn held(context: &Context) -> Result<()> {
    let url =
        |url: &str| json!([{"op": "replace", "path": "/spec/config/providers/0/baseURL", "value": url}]).to_string();
    context.kubectl(&["patch", OBJECT, "--type=json", "--patch", &url("https://127.0.0.1")]).await?;
    gateway::wait_condition(context, OBJECT, "Accepted", "False").await?;
    let mut slowest = Duration::ZERO;
    for missing in ["service/ai", "deployment/ai", "rolebinding/ai-bifrost"] {
        slowest = slowest.max(deleted(context, missing).await?);
    }
    println!("  deleted while the spec is not accepted: back after {:.2} s", slowest.as_secs_f64());
    context.kubectl(&["patch", OBJECT, "--type=json", "--patch", &url("https://openai.vendors.svc")]).await?;
    context.wait_for_condition(OBJECT, "Ready", READY).await
}

/// Edits a field and waits until it is as it was.
async fn edited(context: &Context, object: &str, path: &str, value: &str) -> Result<Duration> {
    let before = objects::get(context, object).await?.pointer(path).cloned();
    let op = if before.is_some() { "replace" } else { "add" };
    let patch = format!(r#"[{{"op":"{op}","path":"{path}","value":{value}}}]"#);
    let patched = context.kubectl(&["patch", object, "--type=json", "--patch", &patch]).await?;
    ensure!(!patched.contains("no change"), "{object} {path}: {value} is no edit");
    let began = Instant::now();
    wait::wait_until(&format!("{object} {path} to be repaired"), LIMIT, || async {
        let now = objects::get(context, object).await?.pointer(path).cloned();
        // What is counted up comes back under a higher number.
        let repaired = if COUNTED.contains(&path) { now != serde_json::from_str(value).ok() } else { now == before };
        ensure!(repaired, "{now:?} in place of {before:?}");
        Ok(true)
    })
    .await?;
    Ok(began.elapsed())
}

/// Deletes an object and waits for another of its name.
async fn deleted(context: &Context, object: &str) -> Result<Duration> {
    let uid = |object: &Value| object["metadata"]["uid"].as_str().map(str::to_owned);
    let before = uid(&objects::get(context, object).await?);
    context.kubectl(&["delete", object, "--wait=false"]).await?;
    let began = Instant::now();
    wait::wait_until(&format!("{object} to be restored"), LIMIT, || async {
        let now = uid(&objects::get(context, object).await?);
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
    let all = names.iter().map(|(kind, name)| format!("{}/{name}", kind.to_lowercase())).collect::<BTreeSet<_>>();
    ensure!(all == objects::owned("other").into_iter().collect(), "not every owned name is taken: {all:?}");
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
        let object = objects::get(context, &format!("{kind}/{name}")).await?;
        let meta = &object["metadata"];
        let members = ["spec", "data", "rules", "subjects", "roleRef"].map(|member| object[member].clone());
        all.push(json!([meta["uid"], meta["labels"], meta["ownerReferences"], members]));
    }
    Ok(all)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

async fn deletion(context: &Context) -> Result<()> {
    context.kubectl(&["delete", OBJECT]).await?;
    objects::collected(context, &gateway::selector()).await?;
    context.kubectl(&["get", "secret/ai-keys"]).await.context("a user's own Secret went along")?;
    println!("  deleted with the operator away: everything of the gateway's is collected");
    Ok(())
}
