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
    let pairs: Vec<_> = selector(gateway).into_iter().map(|(key, value)| format!("{key}={value}")).collect();
    pairs.join(",")
}

fn labelled<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}
