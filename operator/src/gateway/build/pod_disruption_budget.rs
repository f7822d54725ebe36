//! How many pods may be evicted at a time.

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{Observed, Part, meta};
use crate::names;

/// Pods that are not ready may always be evicted: a broken gateway must not hold up a node's drain.
pub(super) fn build_pod_disruption_budget(observed: &Observed) -> PodDisruptionBudget {
    let budget = &observed.gateway.spec.availability.pod_disruption_budget;
    PodDisruptionBudget {
        metadata: meta(observed, Part::PodDisruptionBudget),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(budget.max_unavailable)),
            selector: Some(LabelSelector {
                match_labels: Some(names::selector(observed.name())),
                ..LabelSelector::default()
            }),
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
            ..PodDisruptionBudgetSpec::default()
        }),
        ..PodDisruptionBudget::default()
    }
}
