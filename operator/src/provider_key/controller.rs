//! Which change of which object wakes which provider key.

use std::sync::Arc;

use bifrost_crds::{BifrostGateway, ProviderKey};
use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::ResourceExt;
use kube::core::PartialObjectMeta;
use kube::runtime::controller::{Action, Controller};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher;
use tracing::{debug, warn};

use super::{Context, Error, reconcile};
use crate::backoff::{Backoff, WatchBackoff};
use crate::cli::Scope;
use crate::names;

/// The controller, not yet running, and its view of all keys.
pub fn controller(client: &kube::Client, scope: &Scope) -> (Controller<ProviderKey>, Store<ProviderKey>) {
    let controller = Controller::new(scope.api::<ProviderKey>(client), watcher::Config::default());
    let keys = controller.store();
    let (of_secret, of_gateway, of_published) = (keys.clone(), keys.clone(), keys.clone());
    let published = watcher::Config::default().labels(&format!("{}={}", names::LABEL_MANAGED_BY, names::OPERATOR));
    let every = watcher::Config::default;
    let controller = controller
        .trigger_backoff(WatchBackoff)
        .watches(scope.api::<PartialObjectMeta<Secret>>(client), every(), move |secret| {
            let name = secret.name_any();
            references(&of_secret, secret.namespace(), |key| key.spec.secret_ref.name == name)
        })
        .watches(scope.api::<BifrostGateway>(client), every(), move |gateway| {
            references(&of_gateway, gateway.namespace(), |_| true)
        })
        .watches(scope.api::<PartialObjectMeta<ConfigMap>>(client), published, move |map| {
            references(&of_published, map.namespace(), |_| true)
        });
    (controller, keys)
}

/// Runs until it is dropped.
pub async fn run(controller: Controller<ProviderKey>, context: Arc<Context>) {
    let backoff = Arc::new(Backoff::default());
    let (outcomes, metrics) = (backoff.clone(), context.metrics.clone());
    let work = move |key: Arc<ProviderKey>, context: Arc<Context>| {
        let (backoff, metrics) = (backoff.clone(), metrics.clone());
        async move {
            let name = (key.namespace().unwrap_or_default(), key.name_any());
            let timer = metrics.reconcile_seconds.with_label_values(&["provider_key"]).start_timer();
            let result = reconcile(key, context).await;
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
        .run(work, move |key, error, _| retry(&outcomes, &key, error), context)
        .for_each(|result| async move {
            if let Err(error) = result {
                debug!(%error, "not reconciled");
            }
        })
        .await;
}

fn retry(backoff: &Backoff, key: &ProviderKey, error: &Error) -> Action {
    let name = (key.namespace().unwrap_or_default(), key.name_any());
    let wait = backoff.failed(&name);
    warn!(namespace = name.0, key = name.1, %error, ?wait, "the provider key could not be reconciled");
    Action::requeue(wait)
}

fn references(
    keys: &Store<ProviderKey>,
    namespace: Option<String>,
    which: impl Fn(&ProviderKey) -> bool,
) -> Vec<ObjectRef<ProviderKey>> {
    let chosen = keys.state_filter(|key| key.namespace() == namespace && which(key));
    chosen.iter().map(|key| ObjectRef::from_obj(key.as_ref())).collect()
}
