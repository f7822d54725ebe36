//! The Secret with the key values.

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;

use super::{Observed, Part, SecretPlan, meta};

/// Values, generations and the admin token.
pub(super) fn build_keys(observed: &Observed, plan: &SecretPlan) -> Secret {
    let data = plan.data.iter().map(|(member, text)| (member.clone(), ByteString(text.clone().into_bytes())));
    Secret {
        metadata: meta(observed, Part::Keys),
        type_: Some("Opaque".to_owned()),
        data: Some(data.collect()),
        ..Secret::default()
    }
}
