//! The search for key values where they must not be, over a whole run: everything that can be read but Secrets, before it goes.

mod needles;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, Secret};
use kube::{
    Api, ResourceExt,
    api::{ListParams, LogParams},
};

use self::needles::Needles;
use super::{gateway, standalone};
use crate::{deploy::OPERATOR_NAMESPACE, scenarios::Context, wait};

/// What can be read without the right to read Secrets.
const KINDS: &str = "configmaps,events,bifrostgateways,providerkeys,pods,deployments,replicasets,services,serviceaccounts,\
                     roles,rolebindings,poddisruptionbudgets,networkpolicies,leases";
/// How long the log of a container that has just begun or ended may be out of reach.
const LOG_LIMIT: Duration = Duration::from_secs(10);
/// The member of a gateway's Secret that is no secret.
const GENERATIONS: &str = "generations.json";

/// What was searched so far in this run, and for what. Clones share it.
#[derive(Debug, Clone)]
pub struct Leaks(Arc<Mutex<Search>>);

#[derive(Debug, Default)]
struct Search {
    needles: Needles,
    totals: Totals,
}

/// How much was searched, in bytes, and what was found.
#[derive(Debug, Clone, Default)]
pub struct Totals {
    pub(super) objects: usize,
    pub(super) logs: usize,
    pub(super) hits: Vec<String>,
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (objects, logs, hits) = (self.objects / 1024, self.logs / 1024, self.hits.len());
        write!(f, "searched {objects} KiB of objects and {logs} KiB of logs for key values: {hits} hits")
    }
}

impl Default for Leaks {
    /// Knows the keys of all scenarios; those in Secrets are learned on the way.
    fn default() -> Self {
        let mut needles = Needles::default();
        for value in gateway::KEYS.into_iter().chain(standalone::KEYS) {
            needles.add("a key", value);
        }
        for start in gateway::POOL_KEY_STARTS {
            needles.add("the start of a pool key", start);
        }
        Self(Arc::new(Mutex::new(Search { needles, totals: Totals::default() })))
    }
}

impl Leaks {
    /// What was searched so far.
    pub fn totals(&self) -> Totals {
        self.lock().totals.clone()
    }

    /// Searches a scenario's namespace and the operator's, with all that is in them now. A hit is an error.
    pub(super) async fn search(&self, context: &Context) -> Result<()> {
        self.learn(context).await?;
        for namespace in [context.namespace.as_str(), OPERATOR_NAMESPACE] {
            let objects = context.access.kubectl(["--namespace", namespace, "get", KINDS, "--output=yaml"]).await?;
            self.lock().totals.objects += objects.len();
            self.check(&format!("the objects of {namespace}"), &objects)?;
            self.search_logs(context, namespace).await?;
        }
        Ok(())
    }

    /// Searches the logs of all pods of a namespace, of earlier runs of their containers too: before pods go, and their logs with them.
    pub(super) async fn search_logs(&self, context: &Context, namespace: &str) -> Result<()> {
        self.learn(context).await?;
        let api: Api<Pod> = Api::namespaced(context.client.clone(), namespace);
        for pod in api.list(&ListParams::default()).await?.items {
            for container in pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten()) {
                for log in logs(&api, &pod, container).await? {
                    self.log(&format!("the log of {namespace}/{}", pod.name_any()), &log)?;
                }
            }
        }
        Ok(())
    }

    /// Searches a log that is no pod's.
    pub(super) fn log(&self, place: &str, text: &str) -> Result<()> {
        self.lock().totals.logs += text.len();
        self.check(place, text)
    }

    /// From now on, values of the namespace's Secrets are looked for too: keys, and the token that gateway and operator share.
    async fn learn(&self, context: &Context) -> Result<()> {
        for secret in context.api::<Secret>().list(&ListParams::default()).await?.items {
            let name = secret.name_any();
            for (member, value) in secret.data.into_iter().flatten().filter(|(member, _)| member != GENERATIONS) {
                if let Ok(value) = String::from_utf8(value.0) {
                    self.lock().needles.add(&format!("{member} of Secret {name}"), &value);
                }
            }
        }
        Ok(())
    }

    fn check(&self, place: &str, text: &str) -> Result<()> {
        let mut search = self.lock();
        let hits: Vec<_> = search.needles.found_in(text).iter().map(|what| format!("{place}: {what}")).collect();
        search.totals.hits.extend(hits.iter().cloned());
        ensure!(hits.is_empty(), "key values are readable: {}", hits.join("; "));
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Search> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The log of a container, and of its run before if it was restarted. A pod that goes meanwhile may have none.
async fn logs(api: &Api<Pod>, pod: &Pod, container: &ContainerStatus) -> Result<Vec<String>> {
    let name = &pod.name_any();
    let mut all = Vec::new();
    let of = |previous| LogParams { container: Some(container.name.clone()), previous, ..LogParams::default() };
    if container.state.as_ref().is_some_and(|state| state.waiting.is_none()) {
        let going = pod.metadata.deletion_timestamp.is_some();
        let what = format!("the log of {name}");
        let current = wait::wait_for(&what, LOG_LIMIT, || async {
            match api.logs(name, &of(false)).await {
                Err(_) if going => Ok(Some(String::new())),
                Err(kube::Error::Api(status)) if status.code == 404 => Ok(Some(String::new())),
                log => Ok(Some(log?)),
            }
        });
        all.push(current.await?);
    }
    if container.restart_count > 0 {
        // The node keeps it only for a while.
        all.extend(api.logs(name, &of(true)).await.ok());
    }
    Ok(all)
}
