//! What scenarios about the operator itself have in common: its pods, its Lease, its end.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::{
    api::{coordination::v1::Lease, core::v1::Pod},
    jiff::{SignedDuration, Timestamp},
};
use kube::{Api, ResourceExt, api::ListParams};

use super::{context::is_ready, curl, gateway::NAME};
use crate::{
    deploy::{OPERATOR_NAMESPACE, Operator},
    scenarios::Context,
    wait,
};

/// How long operator pods may take to come or go.
const LIMIT: Duration = Duration::from_secs(60);

/// Sets the number of operator pods and waits until exactly so many are there, and ready. Their logs are searched first: pods that
/// go take theirs along.
pub(super) async fn scale(context: &Context, replicas: usize) -> Result<Vec<Pod>> {
    context.stage.leaks.search_logs(context, OPERATOR_NAMESPACE).await?;
    let deployment = format!("deployment/{}", Operator::DEPLOYMENT);
    let count = format!("--replicas={replicas}");
    context.access.kubectl(["--namespace", OPERATOR_NAMESPACE, "scale", &deployment, &count]).await?;
    wait::wait_for(&format!("{replicas} operator pods"), LIMIT, || async {
        let pods = pods(context).await?;
        let ready = pods.iter().filter(|pod| is_ready(pod)).count();
        ensure!(pods.len() == replicas && ready == replicas, "{} pods, {ready} ready", pods.len());
        Ok(Some(pods))
    })
    .await
}

/// Does something while there is no operator, and brings it back whatever came of it.
pub(super) async fn without<T>(context: &Context, work: impl Future<Output = Result<T>>) -> Result<T> {
    scale(context, 0).await?;
    let done = work.await;
    scale(context, 1).await?;
    done
}

/// Another pod in place of the only one; returns when it alone is there, and ready.
pub(super) async fn replace(context: &Context) -> Result<()> {
    without(context, async { Ok(()) }).await
}

/// Kills the only one as a crash would, and returns when another container leads in its place.
pub(super) async fn kill(context: &Context) -> Result<()> {
    let killed = leading(context, None).await?;
    context.embedded()?.kill_container(&killed).await?;
    leading(context, Some(&killed)).await.map(drop)
}

/// Waits until the only operator's container is another than this one and has renewed its Lease since it began; returns its id.
pub(super) async fn leading(context: &Context, killed: Option<&str>) -> Result<String> {
    wait::wait_for("an operator that leads", LIMIT, || async {
        let pods = pods(context).await?;
        let (id, started) = container(staying(&pods)?)?;
        let renewed = renewed(context).await?;
        // The kubelet tells whole seconds: in the first one the container before may have renewed it.
        let is_its_own = renewed.duration_since(started) > SignedDuration::from_secs(1);
        ensure!(is_its_own, "started at {started}, the Lease was renewed at {renewed}");
        Ok(Some(id).filter(|id| killed != Some(id.as_str())))
    })
    .await
}

/// What the operator counts of the scenario's gateway: the value of a metric with these labels besides, such as `of="rollout"`, in the
/// order of their names; none where it does not show it.
pub(super) async fn metric(context: &Context, name: &str, labels: &str) -> Result<Option<f64>> {
    let pods = pods(context).await?;
    let address = staying(&pods)?.status.as_ref().and_then(|status| status.pod_ip.clone());
    let address = address.context("the operator pod has no address")?;
    let text = curl::inside(context, &[&format!("http://{address}:9090/metrics")]).await?.ok()?;
    let line = format!("bifrost_operator_{name}{{{labels}}} ");
    let value = text.lines().find_map(|shown| shown.strip_prefix(&line));
    value.map(|value| value.trim().parse().with_context(|| format!("{name} is {value}"))).transpose()
}

/// As [`metric`], of what is shown by gateway alone.
pub(super) async fn metric_of_gateway(context: &Context, name: &str) -> Result<Option<f64>> {
    let labels = format!("gateway=\"{NAME}\",namespace=\"{}\"", context.namespace);
    metric(context, name, &labels).await
}

/// The operator's pods.
pub(super) async fn pods(context: &Context) -> Result<Vec<Pod>> {
    let labels = format!("app.kubernetes.io/name={}", Operator::DEPLOYMENT);
    Ok(pod_api(context).list(&ListParams::default().labels(&labels)).await?.items)
}

/// The first of them that is not on its way out: one that was replaced may take a while to end.
fn staying(pods: &[Pod]) -> Result<&Pod> {
    pods.iter().find(|pod| pod.metadata.deletion_timestamp.is_none()).context("no operator pod")
}

/// Objects of the operator's namespace.
pub(super) fn pod_api(context: &Context) -> Api<Pod> {
    Api::namespaced(context.client.clone(), OPERATOR_NAMESPACE)
}

/// The pod that holds the Lease; `None`: nobody does.
pub(super) async fn leader(context: &Context) -> Result<Option<String>> {
    let spec = lease(context).await?.spec;
    Ok(spec.and_then(|spec| spec.holder_identity).filter(|holder| !holder.is_empty()))
}

/// When the Lease was last renewed.
pub(super) async fn renewed(context: &Context) -> Result<Timestamp> {
    let spec = lease(context).await?.spec.and_then(|spec| spec.renew_time);
    spec.map(|time| time.0).context("the Lease was never renewed")
}

async fn lease(context: &Context) -> Result<Lease> {
    let api: Api<Lease> = Api::namespaced(context.client.clone(), OPERATOR_NAMESPACE);
    Ok(api.get(Operator::DEPLOYMENT).await?)
}

/// The id of the container that runs in an operator pod, and since when.
pub(super) fn container(pod: &Pod) -> Result<(String, Timestamp)> {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_deref()).unwrap_or_default();
    let running = statuses.iter().find_map(|one| {
        let since = one.state.as_ref()?.running.as_ref()?.started_at.as_ref()?.0;
        Some((one.container_id.clone()?, since))
    });
    running.with_context(|| format!("{} does not run", pod.name_any()))
}
