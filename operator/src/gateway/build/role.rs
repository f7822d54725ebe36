//! What the pods may read: their one ConfigMap and their one Secret.

use k8s_openapi::api::rbac::v1::{PolicyRule, Role};

use super::{Observed, Part, meta};

/// Limited by name; a watch by name is allowed that way too.
pub(super) fn build_role(observed: &Observed) -> Role {
    let rule = |resource: &str, part: Part| PolicyRule {
        api_groups: Some(vec![String::new()]),
        resources: Some(vec![resource.to_owned()]),
        resource_names: Some(vec![part.name(observed.name())]),
        verbs: ["get", "list", "watch"].map(str::to_owned).to_vec(),
        ..PolicyRule::default()
    };
    Role {
        metadata: meta(observed, Part::Role),
        rules: Some(vec![rule("configmaps", Part::Published), rule("secrets", Part::Keys)]),
    }
}
