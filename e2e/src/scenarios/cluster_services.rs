//! The cluster itself is one: pods run behind a Service with a DNS name, inside and through the forwarder.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::FutureExt;
use serde_json::{Value, json};

use super::curl;
use crate::{
    components::Components,
    images, run,
    scenarios::{Context, Scenario},
    target::Target,
    wait::{wait_for, wait_until},
};

/// The scenario.
pub(super) const SCENARIO: Scenario = Scenario::new(
    "cluster-services",
    "Pods of a local image run behind a Service that has a DNS name and is reached from inside and outside",
    |context| run(context).boxed(),
)
.embedded_only();

const LIMIT: Duration = Duration::from_secs(60);

async fn run(context: &Context) -> Result<()> {
    deploy_server(context, 2).await?;
    let inside = format!("http://server.{}.svc.cluster.local/health", context.namespace);
    wait_until("an answer inside", LIMIT, || async { Ok(curl::inside(context, &[&inside]).await?.ok()? == "OK") })
        .await?;
    let forwarded = context.forward("server", 80).await?;
    let outside = format!("http://{}/health", forwarded.address());
    ensure!(get(&outside).await? == "OK", "another answer outside");
    let own = Target::external(Some(&context.access.kubeconfig), None)?;
    let forwarded = own.forward_service(&context.namespace, "server", 80).await?;
    let outside = format!("http://{}/health", forwarded.address());
    ensure!(get(&outside).await? == "OK", "another answer through kubectl port-forward");
    let version = context.kubectl(&["exec", "deployment/server", "--", "/coredns", "-version"]).await?;
    ensure!(version.contains("CoreDNS"), "exec printed {version:?}");
    ensure!(context.logs("app=server").await?.contains("CoreDNS"), "no logs");
    no_way_out(context).await?;
    restricted_pods_only(context).await
}

/// Runs an HTTP server that is there anyway: CoreDNS's health endpoint, behind the Service `server`, port 80.
pub(super) async fn deploy_server(context: &Context, replicas: usize) -> Result<()> {
    let image = images::build_coredns(&Components::located()?)?;
    context.target.load_image(&image).await?;
    context
        .apply(&json!({"apiVersion": "v1", "kind": "List", "items": server(&image.reference, replicas)}).to_string())
        .await?;
    context.wait_for_pods("app=server", replicas, LIMIT).await.map(drop)
}

fn server(image: &str, replicas: usize) -> Value {
    let labels = json!({"app": "server"});
    let metadata = json!({"name": "server"});
    json!([
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"Corefile": ".:5353 {\n  health :8080\n}\n"}},
        {"apiVersion": "v1", "kind": "Service", "metadata": metadata,
         "spec": {"selector": labels, "ports": [{"port": 80, "targetPort": 8080}]}},
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {
                "terminationGracePeriodSeconds": 0,
                "securityContext": {
                    "runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"},
                },
                "containers": [{
                    "name": "server",
                    "image": image,
                    "imagePullPolicy": "IfNotPresent",
                    "args": ["-conf", "/etc/server/Corefile"],
                    "readinessProbe": {"httpGet": {"path": "/health", "port": 8080}, "periodSeconds": 1},
                    "volumeMounts": [{"name": "config", "mountPath": "/etc/server"}],
                    "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
                }],
                "volumes": [{"name": "config", "configMap": {"name": "server"}}],
            }},
        }},
    ])
}

async fn get(url: &str) -> Result<String> {
    curl::run(run::command("curl"), &[url]).await?.ok()
}

/// Names outside the cluster fail at once, and do not hang.
async fn no_way_out(context: &Context) -> Result<()> {
    let cluster = context.embedded()?;
    // A lookup that nobody answers takes 5 s at the least, each time; on a busy machine only one of them takes long.
    let found = wait_for("the end of a lookup", LIMIT, || async {
        let mut lookup = cluster.command_inside("getent");
        let found = run::output_of(lookup.args(["hosts", "vendor.example"]));
        let found = tokio::time::timeout(Duration::from_secs(2), found).await;
        Ok(Some(found.context("looking up a name outside the cluster hangs")??))
    })
    .await?;
    ensure!(!found.status.success(), "a name outside the cluster has an address");
    Ok(())
}

/// Admission works as anywhere: pod security refuses what a namespace does not allow.
async fn restricted_pods_only(context: &Context) -> Result<()> {
    let refused = context.kubectl(&["run", "privileged", "--image=none", "--privileged"]).await;
    let error = refused.err().context("a privileged pod was admitted")?;
    ensure!(format!("{error:#}").contains("violates PodSecurity"), "{error:#}");
    Ok(())
}
