//! Names and labels of the objects that a gateway owns.

use std::collections::BTreeMap;

/// Label: the product.
pub const LABEL_NAME: &str = "app.kubernetes.io/name";
/// Label: the gateway.
pub const LABEL_INSTANCE: &str = "app.kubernetes.io/instance";
/// Label: the part of the product.
pub const LABEL_COMPONENT: &str = "app.kubernetes.io/component";
/// Label: who made the object.
pub const LABEL_MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// The product, as a label value.
pub const PRODUCT: &str = "bifrost-gateway";
/// The operator, as a label value.
pub const OPERATOR: &str = "bifrost-operator";
/// The component, as a label value.
pub const COMPONENT: &str = "gateway";
/// What stands for the product on a candidate's own pods, so that nothing that selects the gateway's selects them.
pub const CANDIDATE_PRODUCT: &str = "bifrost-gateway-candidate";
/// Label of a candidate's own pods, and of a ConfigMap that keeps a revision: which one.
pub const LABEL_REVISION: &str = "bifrost.dev/revision";
/// Name of the gateway's container in its pods.
pub const CONTAINER: &str = "gateway";

/// Deployment and Service: the gateway's own name.
pub fn workload(gateway: &str) -> String {
    gateway.to_owned()
}

/// The published ConfigMap; also ServiceAccount, Role, RoleBinding, PodDisruptionBudget and NetworkPolicy.
pub fn published(gateway: &str) -> String {
    format!("{gateway}-bifrost")
}

/// The Secret with the values of the provider keys.
pub fn keys(gateway: &str) -> String {
    format!("{gateway}-bifrost-keys")
}

/// The Service that serves the colour that is not active.
pub fn preview(gateway: &str) -> String {
    format!("{gateway}-bifrost-preview")
}

/// Deployment, Service and NetworkPolicy of a candidate that has an image of its own.
pub fn candidate(gateway: &str) -> String {
    format!("{gateway}-bifrost-candidate")
}

/// The ConfigMap that keeps a revision.
pub fn history(gateway: &str, revision: &str) -> String {
    format!("{gateway}-bifrost-{revision}")
}

/// The ConfigMap for `envFrom` that leads an application to the gateway.
pub fn env(gateway: &str) -> String {
    format!("{gateway}-bifrost-env")
}

/// The ConfigMap for `envFrom` that leads an application straight to the vendors.
pub fn env_direct(gateway: &str) -> String {
    format!("{gateway}-bifrost-env-direct")
}

/// The labels by which pods are selected; they never change.
pub fn selector(gateway: &str) -> BTreeMap<String, String> {
    labelled([(LABEL_NAME, PRODUCT), (LABEL_INSTANCE, gateway)])
}

/// The labels by which a candidate's own pods are selected.
pub fn candidate_selector(gateway: &str) -> BTreeMap<String, String> {
    labelled([(LABEL_NAME, CANDIDATE_PRODUCT), (LABEL_INSTANCE, gateway)])
}

/// The labels of every owned object.
pub fn labels(gateway: &str) -> BTreeMap<String, String> {
    labelled([
        (LABEL_NAME, PRODUCT),
        (LABEL_INSTANCE, gateway),
        (LABEL_COMPONENT, COMPONENT),
        (LABEL_MANAGED_BY, OPERATOR),
    ])
}

/// The selector as a text, as the API takes it.
pub fn selector_text(gateway: &str) -> String {
    text(selector(gateway))
}

/// That of a candidate's own pods.
pub fn candidate_selector_text(gateway: &str) -> String {
    text(candidate_selector(gateway))
}

fn text(labels: BTreeMap<String, String>) -> String {
    let pairs: Vec<_> = labels.into_iter().map(|(key, value)| format!("{key}={value}")).collect();
    pairs.join(",")
}

fn labelled<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}
