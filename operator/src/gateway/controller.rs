//! Which change of which object wakes which gateway. Everything but gateways and provider keys is watched as metadata only.

use std::sync::Arc;
use std::time::Duration;

use bifrost_crds::{BifrostGateway, ProviderKey};
use futures::{Stream, StreamExt};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::ListParams;
use kube::core::PartialObjectMeta;
use kube::runtime::controller::{Action, Controller};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher;
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tracing::{debug, warn};

use super::context::{Context, Error};
use super::reconcile;
use crate::backoff::{Backoff, WatchBackoff};
use crate::cli::Scope;
use crate::confirm::GatewayName;
use crate::names;

/// When to try again to list gateways.
const LIST_RETRY: Duration = Duration::from_secs(1);
/// Reconciliations at the same time.
const CONCURRENCY: u16 = 8;

/// Returns once the gateways of a scope can be listed: the API server is there, knows the kind and lets this process read it.
/// The controller's own store cannot be asked: it wakes only one of those who wait for it.
pub async fn listable(client: &Client, scope: &Scope) {
    let api = scope.api::<BifrostGateway>(client);
    while let Err(error) = api.list_metadata(&ListParams::default().limit(1)).await {
        warn!(?scope, %error, "BifrostGateways cannot be listed");
        tokio::time::sleep(LIST_RETRY).await;
    }
}

/// Runs until it is dropped. `woken` names gateways whose pods have news.
pub async fn run(
    context: Arc<Context>,
    scope: Scope,
    keys: Store<ProviderKey>,
    woken: impl Stream<Item = GatewayName> + Send + 'static,
) {
    let client = &context.client;
    let controller = Controller::new(scope.api::<BifrostGateway>(client), watcher::Config::default());
    let gateways = controller.store();
    let controller = owned_objects(controller, client, &scope);
    let controller = referenced_objects(controller, client, &scope, &gateways, keys)
        .with_config(kube::runtime::controller::Config::default().concurrency(CONCURRENCY))
        .trigger_backoff(WatchBackoff)
        .reconcile_on(woken.map(|(namespace, name)| ObjectRef::new(&name).within(&namespace)));

    let backoff = Arc::new(Backoff::default());
    let (outcomes, metrics) = (backoff.clone(), context.metrics.clone());
    let work = move |gateway: Arc<BifrostGateway>, context: Arc<Context>| {
        let (backoff, metrics) = (backoff.clone(), metrics.clone());
        async move {
            let name = (gateway.namespace().unwrap_or_default(), gateway.name_any());
            let timer = metrics.reconcile_seconds.with_label_values(&["gateway"]).start_timer();
            let result = reconcile(gateway, context).await;
            timer.observe_duration();
            let word = match &result {
                Ok(_) => "ok",
                Err(error) if error.is_conflict() => "conflict",
                Err(_) => "error",
            };
            metrics.reconciles.with_label_values(&["gateway", word]).inc();
            if result.is_ok() {
                backoff.succeeded(&name);
            }
            result
        }
    };
    controller
        .run(work, move |gateway, error, _| retry(&outcomes, &gateway, error), context)
        .for_each(|result| async move {
            match result {
                Ok((gateway, _)) => debug!(%gateway, "reconciled"),
                Err(error) => debug!(%error, "not reconciled"),
            }
        })
        .await;
}

fn retry(backoff: &Backoff, gateway: &BifrostGateway, error: &Error) -> Action {
    let name = (gateway.namespace().unwrap_or_default(), gateway.name_any());
    if error.is_conflict() {
        debug!(namespace = name.0, gateway = name.1, %error, "somebody else wrote in between; reading again");
        return Action::requeue(Duration::from_millis(100));
    }
    let wait = backoff.failed(&name);
    warn!(namespace = name.0, gateway = name.1, %error, ?wait, "the gateway could not be reconciled");
    Action::requeue(wait)
}

type GatewayController = Controller<BifrostGateway>;

/// Objects that the operator made, by their owner.
fn owned_objects(controller: GatewayController, client: &Client, scope: &Scope) -> GatewayController {
    let controller = owns::<Deployment>(controller, client, scope);
    let controller = owns::<Service>(controller, client, scope);
    let controller = owns::<ServiceAccount>(controller, client, scope);
    let controller = owns::<Role>(controller, client, scope);
    let controller = owns::<RoleBinding>(controller, client, scope);
    let controller = owns::<PodDisruptionBudget>(controller, client, scope);
    owns::<NetworkPolicy>(controller, client, scope)
}

fn owns<K>(controller: GatewayController, client: &Client, scope: &Scope) -> GatewayController
where
    K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug
        + Send
        + Sync
        + 'static,
{
    // One that loses the label leaves the watch, which is an event as well.
    let ours = watcher::Config::default().labels(&format!("{}={}", names::LABEL_MANAGED_BY, names::OPERATOR));
    controller.watches(scope.api::<PartialObjectMeta<K>>(client), ours, |object| {
        let namespace = object.namespace().unwrap_or_default();
        // By owner and by label: one of them may have been edited.
        let owners = object.owner_references().iter().filter(|owner| owner.kind == BifrostGateway::kind(&()));
        let named = owners.map(|owner| owner.name.clone()).chain(object.labels().get(names::LABEL_INSTANCE).cloned());
        named.map(|name| ObjectRef::new(&name).within(&namespace)).collect::<Vec<_>>()
    })
}

/// Objects that gateways refer to, and their pods.
fn referenced_objects(
    controller: GatewayController,
    client: &Client,
    scope: &Scope,
    gateways: &Store<BifrostGateway>,
    keys: Store<ProviderKey>,
) -> GatewayController {
    let pods = watcher::Config::default().labels(&format!("{}={}", names::LABEL_NAME, names::PRODUCT));
    let every = watcher::Config::default;
    let of_key = gateways.clone();
    let of_secret = gateways.clone();
    let of_config_map = gateways.clone();
    controller
        .watches(scope.api::<PartialObjectMeta<Pod>>(client), pods, |pod| {
            let gateway = pod.labels().get(names::LABEL_INSTANCE)?;
            Some(ObjectRef::new(gateway).within(&pod.namespace()?))
        })
        .watches(scope.api::<ProviderKey>(client), every(), move |key| in_namespace(&of_key, key.namespace(), |_| true))
        .watches(scope.api::<PartialObjectMeta<Secret>>(client), every(), move |secret| {
            let name = secret.name_any();
            let source =
                keys.state_filter(|key| key.namespace() == secret.namespace() && key.spec.secret_ref.name == name);
            in_namespace(&of_secret, secret.namespace(), |gateway| {
                !source.is_empty() || names::keys(&gateway.name_any()) == name
            })
        })
        .watches(scope.api::<PartialObjectMeta<ConfigMap>>(client), every(), move |map| {
            let name = map.name_any();
            in_namespace(&of_config_map, map.namespace(), |gateway| {
                let own = gateway.name_any();
                let ca_bundle = gateway.spec.config.ca_bundle_ref.as_ref().is_some_and(|ca| ca.name == name);
                ca_bundle || [names::published(&own), names::env(&own), names::env_direct(&own)].contains(&name)
            })
        })
}

fn in_namespace(
    gateways: &Store<BifrostGateway>,
    namespace: Option<String>,
    which: impl Fn(&BifrostGateway) -> bool,
) -> Vec<ObjectRef<BifrostGateway>> {
    let chosen = gateways.state_filter(|gateway| gateway.namespace() == namespace && which(gateway));
    chosen.iter().map(|gateway| ObjectRef::from_obj(gateway.as_ref())).collect()
}

impl Scope {
    /// The objects of a kind in this scope.
    pub fn api<K>(&self, client: &Client) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
    {
        match self {
            Self::Cluster => Api::all(client.clone()),
            Self::Namespace(namespace) => Api::namespaced(client.clone(), namespace),
        }
    }
}
