//! The ProviderKey controller: observe → validate → status. It writes nothing but status; gateways take the keys themselves.

pub mod controller;
pub mod observe;
pub mod status;
pub mod validate;

use std::sync::Arc;
use std::time::Duration;

use bifrost_config::AddressRule;
use bifrost_crds::ProviderKey;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::{Api, Client, Resource, ResourceExt};

use self::observe::{Observed, observe};
use self::validate::validate;
use crate::cluster::{STATUS_MANAGER, brief, is_not_found};
use crate::events::Recorder;
use crate::leader::Leadership;
use crate::metrics::Metrics;

/// When to look again although nothing happened.
const RESYNC: Duration = Duration::from_mins(10);

/// What the reconciliations share.
pub struct Context {
    /// Reads, and writes status.
    pub client: Client,
    /// Publishes events.
    pub recorder: Recorder,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Which addresses a provider may have.
    pub addresses: AddressRule,
    /// Whether this process leads.
    pub leadership: Arc<Leadership>,
}

/// Why a reconciliation is repeated.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something could not be read, or the status not be written.
    #[error("{}", brief(.0))]
    Api(#[from] kube::Error),
    /// The status could not be written.
    #[error("this process does not lead any more")]
    NotLeading,
    /// The reconciliation hangs.
    #[error("it took too long")]
    TooLong,
}

/// Reports what became of one key.
pub async fn reconcile(namespace: &str, name: &str, context: &Context) -> Result<Action, Error> {
    let Some(observed) = observe(&context.client, namespace, name).await? else {
        return Ok(Action::await_change());
    };
    let verdict = validate(&observed, context.addresses);
    let after = status::status(&observed.key, &verdict, Timestamp::now());
    let before = observed.key.status.clone().unwrap_or_default();
    if after != before {
        // Another process may lead by now, and tell another state. If this one still does, it must not forget to.
        if !context.leadership.holds() {
            return Err(Error::NotLeading);
        }
        write(context, &observed, namespace, &after).await?;
        for event in status::transitions(&before.conditions, &after.conditions) {
            context.recorder.publish(&observed.key.object_ref(&()), event);
        }
    }
    Ok(Action::requeue(RESYNC))
}

async fn write(
    context: &Context,
    observed: &Observed,
    namespace: &str,
    status: &bifrost_crds::ProviderKeyStatus,
) -> Result<(), Error> {
    let name = observed.key.name_any();
    let api: Api<ProviderKey> = Api::namespaced(context.client.clone(), namespace);
    let patch = serde_json::json!({
        "apiVersion": bifrost_crds::API_VERSION,
        "kind": "ProviderKey",
        "metadata": {"name": name, "uid": observed.key.uid()},
        "status": status,
    });
    match api.patch_status(&name, &PatchParams::apply(STATUS_MANAGER).force(), &Patch::Apply(&patch)).await {
        // Deleted in the meantime: there is nobody to report to.
        Err(error) if is_not_found(&error) => Ok(()),
        written => Ok(written.map(drop)?),
    }
}
