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
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tracing::{debug, warn};

use super::context::{Context, Error};
use super::reconcile;
use crate::backoff::{Backoff, WatchBackoff};
use crate::cli::Scope;
use crate::cluster::changes::{changes, spec_and_labels};
use crate::confirm::GatewayName;
use crate::events::Event;
use crate::names;
use crate::provider_key::controller::{Guarded as KeyGuarded, names_secret};

/// When to try again to list gateways: at first, and at most.
const LIST_RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));
/// Reconciliations at the same time.
const CONCURRENCY: u16 = 8;

/// How long to wait after a conflict: at first, and at most. One in passing is over at once; somebody may as well write for ever.
const CONFLICT_RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// Longest time of a reconciliation.
const LIMIT: Duration = Duration::from_secs(60);
/// How often it is looked for gateways that are gone.
const SWEEP: Duration = Duration::from_secs(5);

/// A gateway, or only its metadata where the rest of it cannot be read: that must not stop the watch of the others.
type Guarded = DeserializeGuard<BifrostGateway>;
type GatewayController = Controller<Guarded>;

/// Returns once the gateways of a scope can be listed: the API server is there, knows the kind and lets this process read it.
/// The controller's own store cannot be asked: it wakes only one of those who wait for it.
pub async fn listable(client: &Client, scope: &Scope) {
    let api = scope.api::<BifrostGateway>(client);
    let (mut wait, longest) = LIST_RETRY;
    while let Err(error) = api.list_metadata(&ListParams::default().limit(1)).await {
        warn!(?scope, %error, "BifrostGateways cannot be listed");
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(longest);
    }
}

/// Runs until it is dropped. `woken` names gateways whose pods have news.
pub async fn run(
    context: Arc<Context>,
    watches: &Client,
    scope: Scope,
    keys: Store<KeyGuarded>,
    woken: impl Stream<Item = GatewayName> + Send + 'static,
) {
    let controller = Controller::new(scope.api::<Guarded>(watches), watcher::Config::default());
    let gateways = controller.store();
    let controller = owned_objects(controller, watches, &scope);
    let controller = referenced_objects(controller, watches, &scope, &gateways, keys)
        .with_config(kube::runtime::controller::Config::default().concurrency(CONCURRENCY))
        .trigger_backoff(WatchBackoff)
        .reconcile_all_on(context.analyses.price_changes())
        .reconcile_on(woken.map(|(namespace, name)| ObjectRef::new(&name).within(&namespace)));

    let backoff = Arc::new(Backoffs::default());
    let sweep = sweep(context.clone(), backoff.clone(), gateways);
    let (outcomes, metrics) = (backoff.clone(), context.metrics.clone());
    let work = move |gateway: Arc<Guarded>, context: Arc<Context>| {
        let (backoff, metrics) = (backoff.clone(), metrics.clone());
        async move {
            let name = name(&gateway);
            if let Err(invalid) = &gateway.0 {
                context
                    .recorder
                    .publish(&gateway.object_ref(&()), Event::unreadable(invalid, "its pods keep what they have"));
            }
            let timer = metrics.reconcile_seconds.with_label_values(&["gateway"]).start_timer();
            let result = tokio::time::timeout(LIMIT, reconcile(name.clone(), context)).await;
            let result = result.unwrap_or(Err(Error::TooLong));
            timer.observe_duration();
            let word = match &result {
                Ok(_) => "ok",
                Err(error) if error.is_conflict() => "conflict",
                Err(_) => "error",
            };
            metrics.reconciles.with_label_values(&["gateway", word]).inc();
            if result.is_ok() {
                backoff.failures.succeeded(&name);
                backoff.conflicts.succeeded(&name);
            }
            result
        }
    };
    let work = controller.run(work, move |gateway, error, _| retry(&outcomes, &gateway, error), context).for_each(
        |result| async move {
            match result {
                Ok((gateway, _)) => debug!(%gateway, "reconciled"),
                Err(error) => debug!(%error, "not reconciled"),
            }
        },
    );
    tokio::select! {
        () = work => {}
        () = sweep => {}
    }
}

/// Forgets gateways that are gone. A gateway is known only after the store had it, and a watch that begins anew replaces what the
/// store has at once, so none that exists is forgotten.
async fn sweep(context: Arc<Context>, backoff: Arc<Backoffs>, gateways: Store<Guarded>) {
    let mut clock = tokio::time::interval(SWEEP);
    loop {
        clock.tick().await;
        let exists = |(namespace, name): &GatewayName| gateways.get(&ObjectRef::new(name).within(namespace)).is_some();
        context.sweep(exists);
        backoff.failures.retain(exists);
        backoff.conflicts.retain(exists);
    }
}

/// How long to wait after what, by gateway.
struct Backoffs {
    failures: Backoff,
    conflicts: Backoff,
}

impl Default for Backoffs {
    fn default() -> Self {
        let (first, longest) = CONFLICT_RETRY;
        Self { failures: Backoff::default(), conflicts: Backoff::between(first, longest) }
    }
}

fn name(gateway: &Guarded) -> GatewayName {
    (gateway.namespace().unwrap_or_default(), gateway.name_any())
}

fn retry(backoff: &Backoffs, gateway: &Guarded, error: &Error) -> Action {
    let name = name(gateway);
    if error.is_conflict() {
        let wait = backoff.conflicts.failed(&name);
        debug!(namespace = name.0, gateway = name.1, %error, ?wait, "somebody else wrote in between; reading again");
        return Action::requeue(wait);
    }
    let wait = backoff.failures.failed(&name);
    warn!(namespace = name.0, gateway = name.1, %error, ?wait, "the gateway could not be reconciled");
    Action::requeue(wait)
}

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
    gateways: &Store<Guarded>,
    keys: Store<KeyGuarded>,
) -> GatewayController {
    let products = format!("{} in ({}, {})", names::LABEL_NAME, names::PRODUCT, names::CANDIDATE_PRODUCT);
    let pods = watcher::Config::default().labels(&products);
    let every = watcher::Config::default;
    let specs = changes(watcher(scope.api::<PartialObjectMeta<ProviderKey>>(client), every()), spec_and_labels);
    let of_key = gateways.clone();
    let of_secret = gateways.clone();
    let of_config_map = gateways.clone();
    controller
        .watches(scope.api::<PartialObjectMeta<Pod>>(client), pods, |pod| {
            let gateway = pod.labels().get(names::LABEL_INSTANCE)?;
            Some(ObjectRef::new(gateway).within(&pod.namespace()?))
        })
        .watches_stream(specs, move |key| in_namespace(&of_key, key.namespace(), |_| true))
        .watches(scope.api::<PartialObjectMeta<Secret>>(client), every(), move |secret| {
            let name = secret.name_any();
            let source = keys.state_filter(|key| key.namespace() == secret.namespace() && names_secret(key, &name));
            in_namespace(&of_secret, secret.namespace(), |gateway| {
                !source.is_empty() || names::keys(&gateway.name_any()) == name
            })
        })
        .watches(scope.api::<PartialObjectMeta<ConfigMap>>(client), every(), move |map| {
            let name = map.name_any();
            in_namespace(&of_config_map, map.namespace(), |gateway| {
                let own = gateway.name_any();
                let reference = gateway.0.as_ref().ok().and_then(|gateway| gateway.spec.config.ca_bundle_ref.as_ref());
                reference.is_some_and(|ca| ca.name == name)
                    || [names::published(&own), names::env(&own), names::env_direct(&own)].contains(&name)
            })
        })
}

fn in_namespace(
    gateways: &Store<Guarded>,
    namespace: Option<String>,
    which: impl Fn(&Guarded) -> bool,
) -> Vec<ObjectRef<Guarded>> {
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
