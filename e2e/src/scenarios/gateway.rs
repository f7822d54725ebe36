//! What scenarios about a gateway have in common: making one, waiting for it, calling it with the SDKs.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    clients::{Python, Script},
    run,
    scenarios::Context,
    wait,
};

/// The gateway's name in every scenario.
pub(super) const NAME: &str = "ai";
/// Keys of the pool, by vendor, and the application's own.
pub(super) const POOL_OPENAI: &str = "sk-pool-openai-0123456789";
pub(super) const POOL_ANTHROPIC: &str = "sk-ant-pool-anthropic-0123456789";
pub(super) const APP_OPENAI: &str = "sk-app-openai-0123456789";
pub(super) const APP_ANTHROPIC: &str = "sk-ant-app-anthropic-0123456789";
/// How long a gateway may take to be ready.
const READY: Duration = Duration::from_secs(90);

/// A gateway in front of both fake vendors, with a key for each, ready to serve.
pub(super) async fn create(context: &Context, replicas: u32, migration: Value) -> Result<()> {
    create_with(context, replicas, migration, Vec::new()).await
}

/// As [`create`], with further providers of the resource's own form.
pub(super) async fn create_with(
    context: &Context,
    replicas: u32,
    migration: Value,
    providers: Vec<Value>,
) -> Result<()> {
    create_from(context, manifest(replicas, migration, providers)).await
}

/// As [`create`], from a manifest.
pub(super) async fn create_from(context: &Context, manifest: Value) -> Result<()> {
    context.stage.vendors.trust_in(&context.target, &context.namespace).await?;
    let mut items = key("openai", "openai", POOL_OPENAI);
    items.extend(key("anthropic", "anthropic", POOL_ANTHROPIC));
    items.push(manifest);
    apply_all(context, items).await?;
    context.wait_for_condition(&format!("bifrostgateway/{NAME}"), "Ready", READY).await
}

/// Applies objects of the scenario's namespace.
pub(super) async fn apply_all(context: &Context, items: Vec<Value>) -> Result<String> {
    context.apply(&json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()).await
}

/// The gateway's manifest.
pub(super) fn manifest(replicas: u32, migration: Value, more_providers: Vec<Value>) -> Value {
    let mut providers = vec![
        json!({"name": "openai", "type": "OpenAI", "baseURL": "https://openai.vendors.svc"}),
        json!({"name": "anthropic", "type": "Anthropic", "baseURL": "https://anthropic.vendors.svc"}),
    ];
    providers.extend(more_providers);
    let mut spec = json!({
        "replicas": replicas,
        "config": {"caBundleRef": {"name": "vendors-ca", "key": "ca.crt"}, "providers": providers},
        "drain": {"readinessDelay": "1s", "timeout": "20s"},
    });
    if !migration.is_null() {
        spec["migration"] = migration;
    }
    json!({"apiVersion": "bifrost.dev/v1alpha1", "kind": "BifrostGateway", "metadata": {"name": NAME}, "spec": spec})
}

/// A Secret and the ProviderKey that names it.
pub(super) fn key(name: &str, provider: &str, value: &str) -> Vec<Value> {
    let vendor = if provider == "anthropic" { "anthropic" } else { "openai" };
    vec![
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": format!("{name}-key")}, "stringData": {"value": value}}),
        json!({"apiVersion": "bifrost.dev/v1alpha1", "kind": "ProviderKey", "metadata": {"name": name}, "spec": {
            "provider": provider, "secretRef": {"name": format!("{name}-key"), "key": "value"}, "hosts": [format!("{vendor}.vendors.svc")],
        }}),
    ]
}

/// The gateway's address inside the cluster, by its Service's name.
pub(super) fn url(context: &Context) -> String {
    format!("http://{NAME}.{}.svc.cluster.local:8080", context.namespace)
}

/// A script of the SDKs inside the cluster's network, pointed at the gateway with the application's own keys.
pub(super) fn sdk(context: &Context, script: &Script) -> Result<tokio::process::Command> {
    sdk_at(context, &url(context), script)
}

/// As [`sdk`], pointed at another address, such as one pod's.
fn sdk_at(context: &Context, base: &str, script: &Script) -> Result<tokio::process::Command> {
    let mut command = script.command_inside(context.embedded()?);
    command.env("OPENAI_BASE_URL", format!("{base}/openai/v1")).env("OPENAI_API_KEY", APP_OPENAI);
    command.env("ANTHROPIC_BASE_URL", format!("{base}/anthropic")).env("ANTHROPIC_API_KEY", APP_ANTHROPIC);
    Ok(command)
}

/// What `load.py` saw.
#[derive(Debug, Deserialize)]
pub(super) struct Load {
    pub(super) requests: u64,
    pub(super) failures: u64,
    pub(super) first_error: Option<String>,
    pub(super) arms: Arms,
    pub(super) seconds: f64,
}

/// Requests by the arm that served them.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Arms {
    pub(super) bifrost: u64,
    pub(super) baseline: u64,
}

impl Load {
    /// The bifrost arm's share in percent.
    pub(super) fn bifrost_percent(&self) -> f64 {
        100.0 * self.arms.bifrost as f64 / self.requests.max(1) as f64
    }

    /// Fails unless every request was answered as asked.
    pub(super) fn all_served(&self) -> Result<()> {
        ensure!(
            self.failures == 0,
            "{} of {} requests failed; the first: {}",
            self.failures,
            self.requests,
            self.first_error.as_deref().unwrap_or("?")
        );
        Ok(())
    }
}

/// Sends requests with one client of the Python SDK, retries off.
pub(super) async fn load(context: &Context, args: &[&str]) -> Result<Load> {
    load_at(context, &url(context), args).await
}

/// As [`load`], sent to another address, such as one pod's.
pub(super) async fn load_at(context: &Context, base: &str, args: &[&str]) -> Result<Load> {
    let script = Python::install().await?.script("load.py");
    let output = run::stdout_of(sdk_at(context, base, &script)?.args(args)).await?;
    serde_json::from_str(&output).with_context(|| output.clone())
}

/// Sets the share and returns how long it took until all replicas had confirmed it.
pub(super) async fn set_percent(context: &Context, percent: u32, replicas: u64) -> Result<Duration> {
    let patch = json!({"spec": {"migration": {"canaryPercent": percent}}}).to_string();
    let object = format!("bifrostgateway/{NAME}");
    let began = Instant::now();
    let patched = context.kubectl(&["patch", &object, "--type=merge", "--patch", &patch, "--output=json"]).await?;
    let generation =
        serde_json::from_str::<Value>(&patched)?["metadata"]["generation"].as_i64().context("no generation")?;
    let what = format!("{percent} % confirmed by {replicas} replicas");
    wait::wait_until(&what, Duration::from_secs(20), || async {
        let seen: Value = serde_json::from_str(&context.kubectl(&["get", &object, "--output=json"]).await?)?;
        let status = &seen["status"];
        let programmed = condition(status, "Programmed")
            .is_some_and(|c| c["status"] == "True" && c["observedGeneration"] == generation);
        let traffic = &status["traffic"];
        ensure!(
            programmed
                && status["observedGeneration"] == generation
                && traffic["wantedPercent"] == percent
                && traffic["confirmedReplicas"] == replicas,
            "{status}"
        );
        Ok(true)
    })
    .await?;
    Ok(began.elapsed())
}

/// A condition of a status.
pub(super) fn condition<'a>(status: &'a Value, name: &str) -> Option<&'a Value> {
    status["conditions"].as_array()?.iter().find(|one| one["type"] == name)
}

/// The label that the gateway's pods carry.
pub(super) fn selector() -> String {
    format!("app.kubernetes.io/instance={NAME}")
}

/// Name and restarts of each gateway pod.
pub(super) async fn pods(context: &Context) -> Result<Vec<(String, i32)>> {
    let pods = context.pods(&selector()).await?;
    let restarts = |pod: &k8s_openapi::api::core::v1::Pod| {
        let statuses = pod.status.as_ref().and_then(|s| s.container_statuses.as_deref()).unwrap_or_default();
        statuses.iter().map(|c| c.restart_count).sum()
    };
    Ok(pods.iter().map(|pod| (pod.metadata.name.clone().unwrap_or_default(), restarts(pod))).collect())
}

/// What `curl` saw of one request.
pub(super) struct Sent {
    pub(super) arm: String,
    pub(super) reason: String,
    pub(super) status: String,
}

/// One chat completion by `curl`, so that its bytes are known.
pub(super) async fn curl(context: &Context, base: &str, body: &str, credential: bool) -> Result<Sent> {
    let mut command = context.embedded()?.command_inside("curl");
    command.args(["--silent", "--show-error", "--max-time", "10", "--output", "/dev/null", "--dump-header", "-"]);
    for header in ["content-type: application/json", "x-bf-secret: stays", "openai-beta: x=y", "cookie: a=b"] {
        command.args(["--header", header]);
    }
    if credential {
        command.args(["--header", &format!("authorization: Bearer {APP_OPENAI}")]);
    }
    command.args(["--data-binary", body, &format!("{base}/openai/v1/chat/completions?trace=1")]);
    let head = run::stdout_of(&mut command).await?;
    let header = |name: &str| {
        let line = head.lines().find_map(|line| line.split_once(':').filter(|(n, _)| n.eq_ignore_ascii_case(name)));
        line.map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
    };
    let status = head.split_whitespace().nth(1).unwrap_or_default().to_owned();
    Ok(Sent { arm: header("x-bf-arm"), reason: header("x-bf-arm-reason"), status })
}

/// A chat completion of a user.
pub(super) fn chat(user: &str) -> String {
    json!({"model": "gpt-4o-mini", "user": user, "messages": [{"role": "user", "content": "hello"}]}).to_string()
}

/// An object of the scenario's namespace.
pub(super) async fn get(context: &Context, object: &str) -> Result<Value> {
    let text = context.kubectl(&["get", object, "--output=json"]).await?;
    serde_json::from_str(&text).with_context(|| text.clone())
}

/// Waits for a condition of an object to have a status, and returns it.
pub(super) async fn wait_condition(context: &Context, object: &str, name: &str, status: &str) -> Result<Value> {
    wait::wait_for(&format!("{object} {name}={status}"), Duration::from_secs(30), || async {
        let seen = get(context, object).await?;
        let found = condition(&seen["status"], name).cloned();
        ensure!(found.as_ref().is_some_and(|c| c["status"] == status), "{found:?}");
        Ok(found)
    })
    .await
}

/// Waits for an event with this reason and returns its note.
pub(super) async fn wait_event(context: &Context, reason: &str) -> Result<String> {
    wait::wait_for(&format!("an event {reason}"), Duration::from_secs(30), || async {
        let events = context.kubectl(&["get", "events", "--output=json"]).await?;
        let events: Value = serde_json::from_str(&events)?;
        let found = events["items"].as_array().into_iter().flatten().find(|event| event["reason"] == reason);
        Ok(found.map(|event| event["message"].as_str().unwrap_or_default().to_owned()))
    })
    .await
}
