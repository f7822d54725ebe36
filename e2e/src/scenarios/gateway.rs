//! What scenarios about a gateway have in common: making one, waiting for it, changing it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::ListParams;
use serde_json::{Value, json};

use super::{curl, objects};
use crate::{scenarios::Context, wait};

/// The gateway's name in every scenario.
pub(super) const NAME: &str = "ai";
/// The gateway, for kubectl.
pub(super) const OBJECT: &str = "bifrostgateway/ai";
/// Keys of the pool, by vendor, and the application's own.
pub(super) const POOL_OPENAI: &str = "sk-pool-openai-0123456789";
pub(super) const POOL_ANTHROPIC: &str = "sk-ant-pool-anthropic-0123456789";
pub(super) const APP_OPENAI: &str = "sk-app-openai-0123456789";
pub(super) const APP_ANTHROPIC: &str = "sk-ant-app-anthropic-0123456789";
/// All of them.
pub(super) const KEYS: [&str; 4] = [POOL_OPENAI, POOL_ANTHROPIC, APP_OPENAI, APP_ANTHROPIC];
/// How every key of a pool begins, those of single scenarios too.
pub(super) const POOL_KEY_STARTS: [&str; 2] = ["sk-pool-", "sk-ant-pool-"];
/// How long the operator may take to say something.
const NOTICED: Duration = Duration::from_secs(30);
/// How long a gateway may take to be ready.
const READY: Duration = Duration::from_secs(90);
/// How long a share may take to be confirmed where nobody measures it, such as by an operator that has just begun.
const CONFIRMED: Duration = Duration::from_secs(60);

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
    let replicas = manifest["spec"]["replicas"].as_u64().context("a manifest without replicas")?;
    items.push(manifest);
    apply_all(context, items).await?;
    context.wait_for_condition(OBJECT, "Ready", READY).await?;
    // One pod makes it ready; what follows counts on all of them.
    context.wait_for_pods(&selector(), usize::try_from(replicas)?, READY).await?;
    wait::wait_until(&format!("the status to tell of {replicas} replicas"), NOTICED, || async {
        let status = objects::get(context, OBJECT).await?["status"].clone();
        let told = status["readyReplicas"] == replicas && status["traffic"]["confirmedReplicas"] == replicas;
        ensure!(told, "{status}");
        Ok(true)
    })
    .await?;
    reachable(context).await
}

/// Waits until its Services lead somewhere: kube-proxy needs a moment after the pods are ready, and refuses connections until then.
pub(super) async fn reachable(context: &Context) -> Result<()> {
    if context.target.embedded().is_none() {
        return Ok(());
    }
    let seen = objects::get(context, OBJECT).await?;
    for endpoint in seen["status"]["endpoints"].as_object().into_iter().flatten().filter_map(|(_, url)| url.as_str()) {
        // Whatever the answer is, somebody gives it.
        let look = || async { curl::inside(context, &[endpoint]).await.map(|_| true) };
        wait::wait_until(&format!("an answer of {endpoint}"), NOTICED, look).await?;
    }
    Ok(())
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

/// Sets the share and returns how long it took until all replicas had confirmed it.
pub(super) async fn set_percent(context: &Context, percent: u32, replicas: u64) -> Result<Duration> {
    let patch = json!({"spec": {"migration": {"canaryPercent": percent}}});
    let began = Instant::now();
    let generation = objects::merge(context, OBJECT, &patch).await?["metadata"]["generation"].clone();
    let what = format!("{percent} % confirmed by {replicas} replicas");
    wait::wait_for(&what, CONFIRMED, || async {
        let seen = objects::get(context, OBJECT).await?;
        let took = began.elapsed();
        let (status, traffic) = (&seen["status"], &seen["status"]["traffic"]);
        let programmed = condition(status, "Programmed")
            .is_some_and(|one| one["status"] == "True" && one["observedGeneration"] == generation);
        ensure!(
            programmed
                && status["observedGeneration"] == generation
                && traffic["wantedPercent"] == percent
                && traffic["confirmedReplicas"] == replicas,
            "{status}"
        );
        Ok(Some(took))
    })
    .await
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
    let restarts = |pod: &Pod| {
        let statuses = pod.status.as_ref().and_then(|s| s.container_statuses.as_deref()).unwrap_or_default();
        statuses.iter().map(|c| c.restart_count).sum()
    };
    Ok(pods.iter().map(|pod| (pod.metadata.name.clone().unwrap_or_default(), restarts(pod))).collect())
}

/// Kills the container of one of the pods that a label selector names, as a crash would.
pub(super) async fn crash(context: &Context, selector: &str) -> Result<()> {
    let pods = context.pods(selector).await?;
    signal(context, pods.first().context("no pod")?, "SIGKILL").await
}

/// Sends a signal to the container of a pod.
pub(super) async fn signal(context: &Context, pod: &Pod, signal: &str) -> Result<()> {
    let container = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref()?.first());
    let container = container.and_then(|one| one.container_id.as_deref()).context("no container")?;
    context.embedded()?.signal_container(container, signal).await
}

/// Where each of so many gateway pods is reached by itself, inside the cluster.
pub(super) async fn pod_urls(context: &Context, replicas: usize) -> Result<Vec<String>> {
    let pods = context.wait_for_pods(&selector(), replicas, Duration::from_secs(60)).await?;
    let address = |pod: &Pod| pod.status.as_ref().and_then(|status| status.pod_ip.clone());
    let urls = pods.iter().map(|pod| address(pod).map(|address| format!("http://{address}:8080")));
    urls.collect::<Option<_>>().context("a pod without an address")
}

/// A chat completion of a user.
pub(super) fn chat(user: &str) -> String {
    json!({"model": "gpt-4o-mini", "user": user, "messages": [{"role": "user", "content": "hello"}]}).to_string()
}

/// Waits for a condition of an object to have a status, and returns it.
pub(super) async fn wait_condition(context: &Context, object: &str, name: &str, status: &str) -> Result<Value> {
    objects::wait_condition(context, object, name, status, NOTICED).await
}

/// The notes of the events with this reason.
pub(super) async fn notes(context: &Context, reason: &str) -> Result<Vec<String>> {
    let fields = ListParams::default().fields(&format!("reason={reason}"));
    let events = context.api::<Event>().list(&fields).await?;
    Ok(events.items.into_iter().filter_map(|event| event.message).collect())
}

/// Waits for an event with this reason whose note names something, and returns the note.
pub(super) async fn wait_event(context: &Context, reason: &str, about: &str) -> Result<String> {
    let events = context.api::<Event>();
    let fields = ListParams::default().fields(&format!("reason={reason}"));
    wait::wait_for(&format!("an event {reason} about {about:?}"), NOTICED, || async {
        let notes = events.list(&fields).await?.items.into_iter().filter_map(|event| event.message);
        Ok(notes.into_iter().find(|note| note.contains(about)))
    })
    .await
}
