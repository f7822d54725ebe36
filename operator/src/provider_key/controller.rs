//! Which change of which object wakes which provider key.

use std::sync::Arc;
use std::time::Duration;

use bifrost_crds::{BifrostGateway, ProviderKey};
use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher::{self, watcher};
use kube::{Resource, ResourceExt};
use tracing::{debug, warn};

use super::{Context, Error, reconcile};
use crate::backoff::{Backoff, WatchBackoff};
use crate::cli::Scope;
use crate::cluster::changes::{changes, spec_and_labels};
use crate::events::Event;
use crate::names;

/// Reconciliations at the same time.
const CONCURRENCY: u16 = 4;
/// Longest time of a reconciliation.
const LIMIT: Duration = Duration::from_secs(60);

/// A key, or only its metadata where the rest of it cannot be read: that must not stop the watch of the others.
pub type Guarded = DeserializeGuard<ProviderKey>;

/// The controller, not yet running, and its view of all keys.
pub fn controller(watches: &kube::Client, scope: &Scope) -> (Controller<Guarded>, Store<Guarded>) {
    let every = watcher::Config::default;
    let controller = Controller::new(scope.api::<Guarded>(watches), every());
    let keys = controller.store();
    let (of_secret, of_gateway, of_published) = (keys.clone(), keys.clone(), keys.clone());
    let published = watcher::Config::default().labels(&format!("{}={}", names::LABEL_MANAGED_BY, names::OPERATOR));
    // The status of a gateway says nothing about a key that the published configuration does not say too.
    let gateways = changes(watcher(scope.api::<PartialObjectMeta<BifrostGateway>>(watches), every()), spec_and_labels);
    let controller = controller
        .with_config(kube::runtime::controller::Config::default().concurrency(CONCURRENCY))
        .trigger_backoff(WatchBackoff)
        .watches(scope.api::<PartialObjectMeta<Secret>>(watches), every(), move |secret| {
            let name = secret.name_any();
            references(&of_secret, secret.namespace(), |key| names_secret(key, &name))
        })
        .watches_stream(gateways, move |gateway| references(&of_gateway, gateway.namespace(), |_| true))
        .watches(scope.api::<PartialObjectMeta<ConfigMap>>(watches), published, move |map| {
            let is_published =
                map.labels().get(names::LABEL_INSTANCE).is_some_and(|g| names::published(g) == map.name_any());
            references(&of_published, map.namespace(), |_| is_published)
        });
    (controller, keys)
}

/// Whether a key that can be read takes its value from this Secret.
pub fn names_secret(key: &Guarded, secret: &str) -> bool {
    key.0.as_ref().is_ok_and(|key| key.spec.secret_ref.name == secret)
}

/// Runs until it is dropped.
pub async fn run(controller: Controller<Guarded>, context: Arc<Context>) {
    let backoff = Arc::new(Backoff::default());
    let keys = controller.store();
    let (outcomes, metrics) = (backoff.clone(), context.metrics.clone());
    let work = move |key: Arc<Guarded>, context: Arc<Context>| {
        let (backoff, metrics) = (backoff.clone(), metrics.clone());
        async move {
            let name = (key.namespace().unwrap_or_default(), key.name_any());
            if let Err(invalid) = &key.0 {
                context.recorder.publish(
                    &key.object_ref(&()),
                    Event::unreadable(invalid, "only its deletion and spec.enabled: false are followed"),
                );
            }
            let timer = metrics.reconcile_seconds.with_label_values(&["provider_key"]).start_timer();
            let result = tokio::time::timeout(LIMIT, reconcile(&name.0, &name.1, &context)).await;
            let result = result.unwrap_or(Err(Error::TooLong));
            timer.observe_duration();
            let word = if result.is_ok() { "ok" } else { "error" };
            metrics.reconciles.with_label_values(&["provider_key", word]).inc();
            if result.is_ok() {
                backoff.succeeded(&name);
            }
            result
        }
    };
    controller
        .run(
            work,
            move |key, error, _| {
                // A deletion wakes nobody, so those that are gone are forgotten here.
                outcomes.retain(|(namespace, name)| keys.get(&ObjectRef::new(name).within(namespace)).is_some());
                retry(&outcomes, &key, error)
            },
            context,
        )
        .for_each(|result| async move {
            if let Err(error) = result {
                debug!(%error, "not reconciled");
            }
        })
        .await;
}

fn retry(backoff: &Backoff, key: &Guarded, error: &Error) -> Action {
    let name = (key.namespace().unwrap_or_default(), key.name_any());
    let wait = backoff.failed(&name);
    warn!(namespace = name.0, key = name.1, %error, ?wait, "the provider key could not be reconciled");
    Action::requeue(wait)
}

fn references(
    keys: &Store<Guarded>,
    namespace: Option<String>,
    which: impl Fn(&Guarded) -> bool,
) -> Vec<ObjectRef<Guarded>> {
    let chosen = keys.state_filter(|key| key.namespace() == namespace && which(key));
    chosen.iter().map(|key| ObjectRef::from_obj(key.as_ref())).collect()
}
