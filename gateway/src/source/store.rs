//! The configuration in use, and the rules by which another one takes its place.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bifrost_config::SecretValue;
use bifrost_config::published::TrafficTable;
use bifrost_config::report::{ArmCounts, StateReport};

use crate::snapshot::{Current, Parts, Snapshot};
use crate::telemetry::{Comparison, ConfigStatus, Gatherer};
use crate::upstream::tls::TlsRoots;

/// Where what is offered comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Read from the API server.
    Api,
    /// What this pod wrote to its state directory when it last took a configuration into use.
    Saved,
    /// The copy that the kubelet mounted.
    Mounted,
    /// A file, without a cluster.
    File,
}

impl Origin {
    /// Whether it is what the author says now, not a copy from some time before.
    const fn is_authority(self) -> bool {
        matches!(self, Self::Api | Self::File)
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Saved => "saved",
            Self::Mounted => "mounted",
            Self::File => "file",
        }
    }
}

/// What became of an offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Offered {
    /// It is in use.
    Taken,
    /// It is what was in use already.
    Same,
    /// Another one stays in use, for this reason.
    Refused(String),
}

/// The configuration in use.
pub struct Store {
    current: Arc<Current>,
    gatherer: Arc<Gatherer>,
    roots: TlsRoots,
    /// The revision of the candidate that this pod is of; none in a pod of the stable one.
    candidate: Option<String>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    origin: Option<Origin>,
    problem: Option<String>,
    generation: u64,
    /// Epoch of the table that began the split in use.
    split_since: u64,
}

/// What the rules say about an offer.
#[derive(Debug, PartialEq, Eq)]
enum Ruling {
    Take,
    Same,
    /// A copy that has nothing new; no fault of anybody.
    Stale,
    /// The authority fell back behind what is in use.
    Behind,
}

impl Store {
    /// A store that fills `current`. `roots` are the authorities that the process trusts by itself, `candidate` the revision of the
    /// candidate that the pod is of, if it is.
    pub fn new(
        current: Arc<Current>,
        gatherer: Arc<Gatherer>,
        roots: TlsRoots,
        candidate: Option<String>,
    ) -> Arc<Self> {
        Arc::new(Self { current, gatherer, roots, candidate, state: Mutex::default() })
    }

    /// Offers what a source brought.
    pub fn offer(&self, parts: Parts, origin: Origin) -> Offered {
        let parts = match &self.candidate {
            Some(own) => parts.held_by_candidate(own),
            None => parts,
        };
        let mut state = self.lock();
        let held = self.current.load_full();
        let in_use = held.as_ref().zip(state.origin).map(|(snapshot, origin)| (&snapshot.parts, origin));
        match rule(in_use, &parts, origin) {
            Ruling::Take => {}
            Ruling::Same => {
                state.origin = Some(origin);
                state.problem = held.as_ref().and_then(|snapshot| snapshot.problem.clone());
                return Offered::Same;
            }
            Ruling::Stale => {
                return Offered::Refused(format!("the {} copy has nothing newer than what is in use", origin.as_str()));
            }
            Ruling::Behind => {
                let held = in_use.map_or(0, |(held, _)| held.traffic.epoch);
                let problem = format!(
                    "epoch {} was offered while epoch {held} is in use: a traffic table never goes back",
                    parts.traffic.epoch
                );
                state.set_problem(problem.clone());
                return Offered::Refused(problem);
            }
        }
        let epoch = parts.traffic.epoch;
        let since = split_since(in_use.map(|(held, _)| (&held.traffic, state.split_since)), &parts.traffic);
        let snapshot = match Snapshot::build(parts, &self.roots) {
            Ok(snapshot) => snapshot,
            Err(error) => {
                let problem = format!("epoch {epoch} cannot be used: {error}");
                // A bad copy hides no problem of the authority, and matters only while there is nothing better.
                if origin.is_authority() || held.is_none() {
                    state.set_problem(problem.clone());
                }
                return Offered::Refused(problem);
            }
        };
        announce(&snapshot, origin);
        let keys = snapshot.parts.configs().flat_map(|config| &config.keys);
        self.gatherer.models().configure(keys.flat_map(|key| &key.models).map(String::as_str));
        self.gatherer.mark(Comparison::Arms, since);
        self.gatherer.mark(Comparison::Revisions, share_since(snapshot.traffic()));
        state.split_since = since;
        state.origin = Some(origin);
        state.generation += 1;
        if origin.is_authority() {
            state.problem.clone_from(&snapshot.problem);
        }
        self.current.store(Some(snapshot));
        Offered::Taken
    }

    /// Says why the newest configuration cannot even be offered.
    pub fn report_problem(&self, problem: String) {
        self.lock().set_problem(problem);
    }

    /// Says so only while there is no configuration at all: later it concerns nobody but the log.
    pub fn report_problem_at_start(&self, problem: String) {
        if !self.is_ready() {
            self.report_problem(problem);
        }
    }

    /// Why the newest configuration is not in use, if it is not.
    pub fn problem(&self) -> Option<String> {
        self.lock().problem.clone()
    }

    /// Whether there is a configuration.
    pub fn is_ready(&self) -> bool {
        self.current.load().is_some()
    }

    /// The configuration in use.
    pub fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.current.load_full()
    }

    /// The token that guards the admin port, once one is known.
    pub fn admin_token(&self) -> Option<SecretValue> {
        let snapshot = self.current.load();
        snapshot.as_ref()?.parts.keys.admin_token.clone().filter(|token| !token.is_empty())
    }

    /// What the pod reports about itself. `reached`: the id of the endpoint at which it has reached pods of the candidate's own.
    pub fn report(&self, eligible: ArmCounts, reached: Option<usize>) -> StateReport {
        let state = self.lock();
        let mut report = StateReport {
            problem: state.problem.clone(),
            eligible,
            shadow: self.gatherer.shadow().report(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..StateReport::default()
        };
        if let Some(snapshot) = self.current.load().as_ref() {
            let Parts { traffic, digest, keys, .. } = &snapshot.parts;
            report.gateway_uid.clone_from(&traffic.gateway_uid);
            report.epoch = traffic.epoch;
            report.digest.clone_from(digest);
            report.keys.clone_from(&keys.generations);
            report.candidate = match &self.candidate {
                Some(own) => (traffic.revision == *own).then(|| own.clone()),
                None => {
                    let tried = snapshot.tried.as_ref().filter(|tried| tried.is_reached(reached));
                    tried.and(traffic.rollout.as_ref()).map(|rollout| rollout.revision.clone())
                }
            };
        }
        report
    }

    /// What the metrics show.
    pub fn status(&self) -> ConfigStatus {
        let state = self.lock();
        let snapshot = self.current.load();
        let traffic = snapshot.as_ref().map(|snapshot| &snapshot.parts.traffic);
        ConfigStatus {
            epoch: traffic.map_or(0, |traffic| traffic.epoch),
            revision: traffic.map(|traffic| traffic.revision.clone()).unwrap_or_default(),
            percent: traffic.and_then(TrafficTable::wanted_percent),
            generation: state.generation,
            last_load_succeeded: traffic.is_some() && state.problem.is_none(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn set_problem(&mut self, problem: String) {
        if self.problem.as_ref() != Some(&problem) {
            tracing::warn!(%problem, "the newest configuration is not in use");
        }
        self.problem = Some(problem);
    }
}

/// The rules. For one gateway epochs only rise; the API server's word counts more than a copy; a copy counts only if it is newer.
fn rule(in_use: Option<(&Parts, Origin)>, offered: &Parts, origin: Origin) -> Ruling {
    let Some((held, held_origin)) = in_use else { return Ruling::Take };
    if held.traffic.gateway_uid != offered.traffic.gateway_uid {
        // Another gateway of the same name. What was saved is this pod's own past, so a mounted copy is at least as new.
        return match (origin, held_origin) {
            (Origin::Api | Origin::File, _) | (Origin::Mounted, Origin::Saved) => Ruling::Take,
            _ => Ruling::Stale,
        };
    }
    match (offered.traffic.epoch.cmp(&held.traffic.epoch), origin.is_authority()) {
        (std::cmp::Ordering::Greater, _) => Ruling::Take,
        (std::cmp::Ordering::Equal, true) => {
            // The digest is not of the candidate's own bytes, only of the table that says which they must be.
            let is_same = held.digest == offered.digest && held.keys == offered.keys && held.tried == offered.tried;
            if is_same { Ruling::Same } else { Ruling::Take }
        }
        (std::cmp::Ordering::Less, true) => Ruling::Behind,
        (_, false) => Ruling::Stale,
    }
}

/// Epoch of the table that began a split, as the table says; else as far as this pod has seen. `held` is the table in use, and that of it.
fn split_since(held: Option<(&TrafficTable, u64)>, offered: &TrafficTable) -> u64 {
    match held {
        // No split began in the future.
        _ if offered.since > 0 => offered.since.min(offered.epoch),
        Some((held, since)) if held.splits_like(offered) => since,
        _ => offered.epoch,
    }
}

/// Epoch of the table that gave the candidate its share; 0 without one.
fn share_since(table: &TrafficTable) -> u64 {
    // No share began in the future.
    table.rollout.as_ref().map_or(0, |rollout| rollout.since.min(table.epoch).max(1))
}

fn announce(snapshot: &Snapshot, origin: Origin) {
    let Parts { config, traffic, keys, .. } = &snapshot.parts;
    let without_value: Vec<_> =
        config.keys.iter().map(|key| key.name.as_str()).filter(|name| !keys.values.contains_key(*name)).collect();
    tracing::info!(
        origin = origin.as_str(),
        epoch = traffic.epoch,
        revision = traffic.revision,
        strategy = traffic.strategy.as_str(),
        percent = traffic.wanted_percent(),
        rules = traffic.rules.len(),
        providers = config.providers.len(),
        keys = config.keys.len() - without_value.len(),
        candidate = traffic.rollout.as_ref().filter(|_| snapshot.tried.is_some()).map(|rollout| &rollout.revision),
        candidate_percent = traffic.rollout.as_ref().map(|rollout| rollout.percent),
        "configuration in use"
    );
    if !without_value.is_empty() {
        tracing::warn!(keys = without_value.join(","), "these keys have no value yet and are left out");
    }
    if let Some(problem) = &snapshot.problem {
        tracing::warn!(%problem, "a part of the configuration cannot be used");
    }
}

#[cfg(test)]
pub(crate) mod tests;
