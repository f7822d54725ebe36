//! What a scenario works with: its cluster, its namespace, and the usual verbs there.

use std::time::Duration;

use anyhow::{Context as _, Result};
use k8s_openapi::{NamespaceResourceScope, api::core::v1::Pod};
use kube::{Api, Resource, ResourceExt, api::ListParams};

use super::{Leaks, objects};
use crate::{
    cluster::Cluster,
    deploy::{Operator, Vendors, Watch},
    images::Images,
    kubernetes::Access,
    target::{ServicePort, Target},
    wait,
};

/// A scenario's place in a cluster.
pub struct Context {
    /// The cluster.
    pub target: Target,
    /// kubectl and Helm for it.
    pub access: Access,
    /// A client for it.
    pub client: kube::Client,
    /// The scenario's own namespace.
    pub namespace: String,
    /// What runs in the cluster already.
    pub stage: Stage,
}

/// What every scenario finds in the cluster: the operator, which serves all namespaces, and the fake vendors.
#[derive(Debug, Clone)]
pub struct Stage {
    /// This project's images, loaded.
    pub images: Images,
    /// The vendors.
    pub vendors: Vendors,
    /// The search for key values, through the whole run.
    pub leaks: Leaks,
}

impl Stage {
    /// Builds, loads and installs what is missing.
    pub async fn prepare(target: &Target) -> Result<Self> {
        let images = Images::build().await?;
        for image in images.all() {
            target.load_image(image).await?;
        }
        let vendors = Vendors::install(target, &images).await?;
        Operator::install(target, &images, Watch::Cluster).await?;
        Ok(Self { images, vendors, leaks: Leaks::default() })
    }
}

impl Context {
    /// The embedded cluster; an error elsewhere.
    pub fn embedded(&self) -> Result<&Cluster> {
        self.target.embedded().context("this needs the embedded cluster")
    }

    /// Objects of a kind in the scenario's namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Runs kubectl in the scenario's namespace and returns what it printed.
    pub async fn kubectl(&self, args: &[&str]) -> Result<String> {
        let all = ["--namespace", &self.namespace].into_iter().chain(args.iter().copied());
        self.access.kubectl(all).await
    }

    /// Applies manifests (YAML or JSON) to the scenario's namespace.
    pub async fn apply(&self, manifests: &str) -> Result<String> {
        self.access.apply(Some(&self.namespace), manifests).await
    }

    /// The logs of the pods that a label selector names, all containers.
    pub async fn logs(&self, selector: &str) -> Result<String> {
        self.kubectl(&["logs", "--selector", selector, "--all-containers", "--tail=-1"]).await
    }

    /// Opens a port of 127.0.0.1 for a Service of the scenario's namespace.
    pub async fn forward(&self, service: &str, port: u16) -> Result<ServicePort> {
        self.target.forward_service(&self.namespace, service, port).await
    }

    /// The pods that a label selector names.
    pub async fn pods(&self, selector: &str) -> Result<Vec<Pod>> {
        let pods = self.api::<Pod>().list(&ListParams::default().labels(selector)).await;
        Ok(pods.with_context(|| format!("cannot list the pods {selector}"))?.items)
    }

    /// Waits until exactly `count` pods of a selector are ready and none is on its way out.
    pub async fn wait_for_pods(&self, selector: &str, count: usize, limit: Duration) -> Result<Vec<Pod>> {
        wait::wait_for(&format!("{count} ready pods {selector}"), limit, || async {
            let pods = self.pods(selector).await?;
            let seen = pods.iter().map(|pod| format!("{}={}", pod.name_any(), is_ready(pod))).collect::<Vec<_>>();
            anyhow::ensure!(pods.len() == count && pods.iter().all(is_ready), "ready: {}", seen.join(" "));
            Ok(Some(pods))
        })
        .await
    }

    /// Waits for a condition of an object to be `True`, as `kubectl wait --for=condition=…` does.
    pub async fn wait_for_condition(&self, object: &str, condition: &str, limit: Duration) -> Result<()> {
        objects::wait_condition(self, object, condition, "True", limit).await.map(drop)
    }
}

/// Whether a pod is ready and not being deleted.
pub(super) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = conditions.is_some_and(|all| all.iter().any(|one| one.type_ == "Ready" && one.status == "True"));
    ready && pod.metadata.deletion_timestamp.is_none()
}
