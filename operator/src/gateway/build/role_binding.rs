//! Gives the pods' ServiceAccount its Role.

use k8s_openapi::api::rbac::v1::{RoleBinding, RoleRef, Subject};

use super::{Observed, Part, meta};

pub(super) fn build_role_binding(observed: &Observed) -> RoleBinding {
    RoleBinding {
        metadata: meta(observed, Part::RoleBinding),
        role_ref: RoleRef {
            api_group: "rbac.authorization.k8s.io".to_owned(),
            kind: "Role".to_owned(),
            name: Part::Role.name(observed.name()),
        },
        subjects: Some(vec![Subject {
            kind: "ServiceAccount".to_owned(),
            name: Part::ServiceAccount.name(observed.name()),
            namespace: Some(observed.namespace().to_owned()),
            ..Subject::default()
        }]),
    }
}
