//! The end-to-end scenarios: one behaviour a file, each in a Kubernetes namespace of its own.

mod analysis;
mod analysis_metrics;
mod api_outage;
mod arm_contents;
mod bad_config;
mod blue_green;
mod canary_percent;
mod canary_split;
mod canary_steps;
mod canary_story;
mod chart;
mod cluster_api_outage;
mod cluster_services;
mod cohorts;
mod common_issues;
mod context;
mod crd_rules;
mod curl;
mod documentation;
mod drift;
mod drift_edits;
mod drop_in;
mod example_app_image;
mod final_state;
mod gateway;
mod gradual;
mod gradual_analysis;
mod keep_alive;
mod key_pool;
mod key_rotation;
mod kubectl_import;
mod kubectl_plugin;
mod kubectl_preflight;
mod kubectl_rights;
mod kubectl_rollout;
mod leaks;
mod load;
mod managed_fields;
mod migration;
mod migration_loss;
mod migration_restore;
mod namespace_removed;
mod namespaced_watch;
mod no_leaks;
mod objects;
mod operator;
mod operator_crash;
mod operator_crash_steps;
mod operator_takeover;
mod price_change;
mod provider_without_key;
mod report;
mod resource_updates;
mod rollback;
mod rolling_restart;
mod rollout;
mod rollout_blue_green;
mod rollout_changes;
mod rollout_config;
mod rollout_failure;
mod rollout_history;
mod rollout_image;
mod rollout_paused;
mod rollout_preview_image;
mod rollout_releases;
mod rollout_unreachable;
pub mod runner;
mod secret_permission;
mod shadow;
mod shadow_agreement;
mod shell;
mod standalone;
mod streams;

use std::{fmt, time::Duration};

use anyhow::Result;
use futures::future::BoxFuture;

pub use self::{
    context::{Context, Stage},
    leaks::{Leaks, Totals},
};

/// How long a scenario may take unless it says otherwise.
const LIMIT: Duration = Duration::from_secs(300);

/// What a scenario does: an error, or a panic of an assertion, is its failure.
pub type Run = for<'a> fn(&'a Context) -> BoxFuture<'a, Result<()>>;

/// A behaviour that is tried on a cluster.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    /// Its name: lower-case words with hyphens, at most 40 characters, as it names a namespace.
    pub name: &'static str,
    /// What it shows, in one line.
    pub description: &'static str,
    /// Whether it needs what only the embedded cluster has: clients inside the network, an API server that can be stopped.
    pub embedded_only: bool,
    /// How long it may take.
    pub limit: Duration,
    /// What it does.
    pub run: Run,
}

impl Scenario {
    /// A scenario for any cluster.
    pub const fn new(name: &'static str, description: &'static str, run: Run) -> Self {
        Self { name, description, embedded_only: false, limit: LIMIT, run }
    }

    /// It needs the embedded cluster.
    pub const fn embedded_only(mut self) -> Self {
        self.embedded_only = true;
        self
    }

    /// It may take this long.
    pub const fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }
}

/// Every scenario, in the order in which they run.
pub const ALL: &[Scenario] = &[
    cluster_services::SCENARIO,
    cluster_api_outage::SCENARIO,
    example_app_image::SCENARIO,
    crd_rules::SCENARIO,
    chart::SCENARIO,
    secret_permission::SCENARIO,
    standalone::SCENARIO,
    drop_in::SCENARIO,
    canary_split::SCENARIO,
    canary_percent::SCENARIO,
    canary_steps::SCENARIO,
    migration_loss::SCENARIO,
    migration_restore::SCENARIO,
    blue_green::SCENARIO,
    gradual::SCENARIO,
    gradual_analysis::SCENARIO,
    analysis::SCENARIO,
    analysis_metrics::SCENARIO,
    rollback::SCENARIO,
    shadow::SCENARIO,
    shadow_agreement::SCENARIO,
    price_change::SCENARIO,
    provider_without_key::SCENARIO,
    canary_story::SCENARIO,
    documentation::SCENARIO,
    common_issues::SCENARIO,
    kubectl_plugin::SCENARIO,
    kubectl_preflight::SCENARIO,
    kubectl_import::SCENARIO,
    kubectl_rollout::SCENARIO,
    kubectl_rights::SCENARIO,
    resource_updates::SCENARIO,
    cohorts::SCENARIO,
    key_rotation::SCENARIO,
    key_pool::SCENARIO,
    rolling_restart::SCENARIO,
    rollout_config::SCENARIO,
    rollout_blue_green::SCENARIO,
    rollout_image::SCENARIO,
    rollout_failure::SCENARIO,
    rollout_unreachable::SCENARIO,
    rollout_changes::SCENARIO,
    rollout_releases::SCENARIO,
    rollout_preview_image::SCENARIO,
    rollout_paused::SCENARIO,
    rollout_history::SCENARIO,
    bad_config::SCENARIO,
    drift::SCENARIO,
    operator_crash::SCENARIO,
    operator_crash_steps::SCENARIO,
    operator_takeover::SCENARIO,
    namespaced_watch::SCENARIO,
    namespace_removed::SCENARIO,
    no_leaks::SCENARIO,
    // Last: the cluster takes a while to be whole again after its API server was away for so long.
    api_outage::SCENARIO,
];

/// Those whose name contains `filter`, or one of its parts between commas.
pub fn all_matching(filter: Option<&str>) -> Vec<Scenario> {
    let fits =
        |scenario: &&Scenario| filter.is_none_or(|filter| filter.split(',').any(|one| scenario.name.contains(one)));
    ALL.iter().filter(fits).copied().collect()
}

/// How the scenarios ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Passed.
    pub passed: usize,
    /// Failed.
    pub failed: usize,
    /// Did not run: this cluster does not have what they need.
    pub skipped: usize,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_make_a_namespace() {
        let mut names: Vec<_> = ALL.iter().map(|scenario| scenario.name).collect();
        for name in &names {
            let valid = name.chars().all(|one| one.is_ascii_lowercase() || one.is_ascii_digit() || one == '-');
            assert!(valid && name.len() <= 40, "{name}");
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
    }
}
