//! What the checks look at, read from the cluster. What cannot be read is kept as the reason why: one check then says so, the others
//! go on.

use std::collections::BTreeMap;
use std::fmt::Debug;

use bifrost_crds::{BifrostGateway, GROUP, ProviderKey};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use k8s_openapi::api::core::v1::{Pod, Secret};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ListParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::Value;

use crate::call::{ADMIN_PORT, Call, Way};
use crate::compat::is_ready;
use crate::failure::Failure;
use crate::session::{Session, pod_labels};

/// What was read, or why not.
pub(super) type Read<T> = Result<T, String>;

/// Labels of the operator's Deployment.
const OPERATOR: &str = "app.kubernetes.io/name=bifrost-operator";

/// What belongs to no gateway.
pub(super) struct ClusterFacts {
    /// The resource definitions that are installed, by name.
    pub(super) definitions: Read<BTreeMap<String, Value>>,
    /// Deployments of operators.
    pub(super) operators: Read<Vec<Deployment>>,
}

impl ClusterFacts {
    /// Reads them.
    pub(super) async fn read(session: &Session) -> Self {
        let definitions = async {
            let api = Api::<CustomResourceDefinition>::all(session.client.clone());
            let mut found = BTreeMap::new();
            for plural in ["bifrostgateways", "providerkeys"] {
                let name = format!("{plural}.{GROUP}");
                if let Some(definition) = api.get_opt(&name).await? {
                    found.insert(name, serde_json::to_value(definition).unwrap_or_default());
                }
            }
            Ok::<_, Failure>(found)
        };
        let operators = Api::<Deployment>::all(session.client.clone());
        let operators = operators.list(&ListParams::default().labels(OPERATOR)).await;
        Self {
            definitions: words(definitions.await),
            operators: words(operators.map(|list| list.items).map_err(Failure::from)),
        }
    }
}

/// What is known of a gateway.
pub(super) struct Facts {
    pub(super) gateway: BifrostGateway,
    /// Those that the selector chooses.
    pub(super) keys: Vec<ProviderKey>,
    /// Why the keys cannot be read.
    pub(super) keys_fault: Option<String>,
    /// Whether the Secrets that they name exist. Only their metadata is read.
    pub(super) secrets: BTreeMap<String, Read<bool>>,
    /// Whether the PodDisruptionBudget exists.
    pub(super) budget: Read<bool>,
    pub(super) pods: Read<Vec<Pod>>,
    /// All Deployments of the namespace.
    pub(super) deployments: Read<Vec<Deployment>>,
    /// Whether a pod shows the gateway's metrics.
    pub(super) metrics: Read<bool>,
    /// Whether the user may change the gateway.
    pub(super) may_patch: Read<bool>,
}

impl Facts {
    /// Reads them.
    pub(super) async fn read(session: &Session, gateway: BifrostGateway) -> Self {
        let (keys, keys_fault) = match session.list::<ProviderKey>("").await {
            Ok(keys) => (crate::keys::selected(&gateway, keys), None),
            Err(failure) => (Vec::new(), Some(failure.to_string())),
        };
        let mut secrets = BTreeMap::new();
        for name in keys.iter().map(|key| &key.spec.secret_ref.name) {
            let found = session.api::<Secret>().get_metadata_opt(name).await;
            secrets.insert(name.clone(), words(found.map(|found| found.is_some()).map_err(Failure::from)));
        }
        let pods = words(session.list::<Pod>(&pod_labels(&gateway)).await);
        let budget = session.api::<PodDisruptionBudget>().get_opt(&format!("{}-bifrost", gateway.name_any())).await;
        let metrics = match &pods {
            Ok(pods) => metrics(session, pods).await,
            Err(why) => Err(why.clone()),
        };
        Self {
            budget: words(budget.map(|budget| budget.is_some()).map_err(Failure::from)),
            deployments: words(session.list::<Deployment>("").await),
            may_patch: words(may_patch(session).await),
            gateway,
            keys,
            keys_fault,
            secrets,
            pods,
            metrics,
        }
    }
}

fn words<T: Debug>(read: Result<T, Failure>) -> Read<T> {
    read.map_err(|failure| failure.to_string())
}

/// Whether a ready pod answers with metrics of the gateway.
async fn metrics(session: &Session, pods: &[Pod]) -> Read<bool> {
    let pod = pods.iter().find(|pod| is_ready(pod)).ok_or("no pod is ready")?;
    let way = Way::Pod(Box::new(session.api::<Pod>()), pod.name_any(), ADMIN_PORT);
    let call =
        Call { method: http::Method::GET, path: "/metrics".to_owned(), headers: Vec::new(), body: String::new() };
    let reply = way.open().await?.send(&call).await?;
    Ok(reply.status.is_success() && String::from_utf8_lossy(&reply.body).contains("bifrost_"))
}

async fn may_patch(session: &Session) -> Result<bool, Failure> {
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                group: Some(GROUP.to_owned()),
                resource: Some("bifrostgateways".to_owned()),
                namespace: Some(session.namespace.clone()),
                verb: Some("patch".to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let api = Api::<SelfSubjectAccessReview>::all(session.client.clone());
    let answer = api.create(&PostParams::default(), &review).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}
