//! What other hands do to the owned objects is put right; what is theirs is left alone; deletion takes everything along.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures::FutureExt;
use serde_json::{Value, json};

use super::gateway::{self, NAME};
use crate::{
    deploy::{OPERATOR_NAMESPACE, Operator},
    scenarios::{Context, Scenario},
    wait,
};

/// The scenario.
pub(super) const SCENARIO: Scenario = Scenario::new(
    "drift",
    "Deleted and edited objects are restored in 5 s, foreign ones are never touched, and nothing is left after deletion",
    |context| run(context).boxed(),
);

/// Every object of a gateway, and one edit of a field that the operator sets: its path and another value.
const OWNED: &[(&str, &str, &str)] = &[
    ("deployment/ai", "/spec/minReadySeconds", ""),
    ("deployment/ai", "/spec/template/spec/terminationGracePeriodSeconds", "7"),
    ("service/ai", "/spec/ports/0/port", "9999"),
    ("configmap/ai-bifrost", "/data/traffic.json", r#""{}""#),
    ("configmap/ai-bifrost", "/data/foreign", r#""x""#),
    ("configmap/ai-bifrost-env", "/data/OPENAI_BASE_URL", r#""http://elsewhere""#),
    ("configmap/ai-bifrost-env-direct", "/data/OPENAI_BASE_URL", r#""http://elsewhere""#),
    ("secret/ai-bifrost-keys", "/data/foreign", r#""eA==""#),
    ("role/ai-bifrost", "/rules/0/verbs", r#"["get","list","watch","delete"]"#),
    ("rolebinding/ai-bifrost", "/subjects/0/name", r#""default""#),
    ("serviceaccount/ai-bifrost", "/automountServiceAccountToken", ""),
    ("poddisruptionbudget/ai-bifrost", "/spec/maxUnavailable", "3"),
    ("networkpolicy/ai-bifrost", "/spec/ingress", "[]"),
];
const LIMIT: Duration = Duration::from_secs(5);

async fn run(context: &Context) -> Result<()> {
    let foreign =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "ai-keys"}, "stringData": {"mine": "yes"}});
    context.apply(&foreign.to_string()).await?;
    gateway::create(context, 1, Value::Null).await?;
    let mut slowest = Duration::ZERO;
    for (object, path, value) in OWNED.iter().filter(|(.., value)| !value.is_empty()) {
        slowest = slowest.max(edited(context, object, path, value).await?);
    }
    let mut objects: Vec<_> = OWNED.iter().map(|(object, ..)| *object).collect();
    objects.dedup();
    for object in &objects {
        slowest = slowest.max(deleted(context, object).await?);
    }
    println!(
        "  {} edits and {} deletions repaired, the slowest in {:.2} s",
        OWNED.len(),
        objects.len(),
        slowest.as_secs_f64()
    );
    gateway::wait_event(context, "DriftCorrected").await?;
    ensure!(
        gateway::get(context, "secret/ai-keys").await?["data"]["mine"] == "eWVz",
        "a user's own Secret was changed"
    );
    name_conflict(context).await?;
    deletion_with_the_operator_away(context).await
}

/// Edits a field and waits until it is as it was.
async fn edited(context: &Context, object: &str, path: &str, value: &str) -> Result<Duration> {
    let before = gateway::get(context, object).await?.pointer(path).cloned();
    let patch = format!(r#"[{{"op":"add","path":"{path}","value":{value}}}]"#);
    context.kubectl(&["patch", object, "--type=json", "--patch", &patch]).await?;
    let began = Instant::now();
    wait::wait_until(&format!("{object} {path} to be repaired"), LIMIT, || async {
        let now = gateway::get(context, object).await?.pointer(path).cloned();
        // The traffic table comes back under a higher epoch.
        let repaired =
            if path.ends_with("traffic.json") { now != serde_json::from_str(value).ok() } else { now == before };
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
    let foreign = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "other-bifrost"}, "data": {"mine": "yes"}});
    context.apply(&foreign.to_string()).await?;
    let before = gateway::get(context, "configmap/other-bifrost").await?["metadata"]["resourceVersion"].clone();
    let mut manifest = gateway::manifest(1, Value::Null, Vec::new());
    manifest["metadata"]["name"] = json!("other");
    context.apply(&manifest.to_string()).await?;
    let condition = gateway::wait_condition(context, "bifrostgateway/other", "Accepted", "False").await?;
    ensure!(condition["reason"] == "NameConflict", "{condition}");
    ensure!(condition["message"].as_str().unwrap_or_default().contains("other-bifrost"), "{condition}");
    ensure!(
        gateway::get(context, "configmap/other-bifrost").await?["metadata"]["resourceVersion"] == before,
        "the foreign object was changed"
    );
    context.kubectl(&["delete", "bifrostgateway/other"]).await?;
    context.kubectl(&["get", "configmap/other-bifrost"]).await?;
    println!("  a foreign object under an owned name stays: {}", condition["message"]);
    Ok(())
}

async fn deletion_with_the_operator_away(context: &Context) -> Result<()> {
    scale_operator(context, 0).await?;
    let outcome = deletion(context).await;
    scale_operator(context, 1).await?;
    outcome
}

async fn deletion(context: &Context) -> Result<()> {
    context.kubectl(&["delete", &format!("bifrostgateway/{NAME}")]).await?;
    wait::wait_until("everything to be collected", Duration::from_secs(60), || async {
        let selector = format!("app.kubernetes.io/instance={NAME}");
        let kinds = "deployments,services,configmaps,secrets,serviceaccounts,roles,rolebindings,poddisruptionbudgets,networkpolicies,pods";
        let left = context.kubectl(&["get", kinds, "--selector", &selector, "--output=name"]).await?;
        ensure!(left.trim().is_empty(), "{left}");
        Ok(true)
    })
    .await?;
    context.kubectl(&["get", "secret/ai-keys"]).await.context("a user's own Secret went along")?;
    println!("  deleted with the operator away: everything of the gateway's is collected");
    Ok(())
}

async fn scale_operator(context: &Context, replicas: u32) -> Result<()> {
    let deployment = format!("deployment/{}", Operator::DEPLOYMENT);
    let replicas = format!("--replicas={replicas}");
    context.access.kubectl(["--namespace", OPERATOR_NAMESPACE, "scale", &deployment, &replicas]).await?;
    context
        .access
        .kubectl(["--namespace", OPERATOR_NAMESPACE, "rollout", "status", &deployment, "--timeout=60s"])
        .await
        .map(drop)
}
