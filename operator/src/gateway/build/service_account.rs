//! The identity of the pods.

use k8s_openapi::api::core::v1::ServiceAccount;

use super::{Observed, Part, meta, non_empty};

/// Its token is mounted by the pods only, which ask for it.
pub(super) fn build_service_account(observed: &Observed) -> ServiceAccount {
    let mut metadata = meta(observed, Part::ServiceAccount);
    metadata.annotations = non_empty(&observed.gateway.spec.pod.service_account_annotations);
    ServiceAccount { metadata, automount_service_account_token: Some(false), ..ServiceAccount::default() }
}
