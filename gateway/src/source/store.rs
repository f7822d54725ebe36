//! The configuration in use, and the rules by which another one takes its place.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bifrost_config::SecretValue;
use bifrost_config::published::TrafficTable;
use bifrost_config::report::{ArmCounts, StateReport};

use crate::snapshot::{Current, Parts, Snapshot};
use crate::telemetry::{ConfigStatus, Gatherer};
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
    /// A store that fills `current`. `roots` are the authorities that the process trusts by itself.
    pub fn new(current: Arc<Current>, gatherer: Arc<Gatherer>, roots: TlsRoots) -> Arc<Self> {
        Arc::new(Self { current, gatherer, roots, state: Mutex::default() })
    }

    /// Offers what a source brought.
    pub fn offer(&self, parts: Parts, origin: Origin) -> Offered {
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
        let models = snapshot.parts.config.keys.iter().flat_map(|key| &key.models);
        self.gatherer.models().configure(models.map(String::as_str));
        self.gatherer.mark_split(since);
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

    /// What the pod reports about itself.
    pub fn report(&self, eligible: ArmCounts) -> StateReport {
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
        (std::cmp::Ordering::Equal, true) if held.digest == offered.digest && held.keys == offered.keys => Ruling::Same,
        (std::cmp::Ordering::Equal, true) => Ruling::Take,
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
pub(crate) mod tests {
    use bifrost_config::published::{CONFIG_VERSION, PublishedKeys, STABLE, Stable, TRAFFIC, digest, revision};
    use bifrost_config::{AddressRule, Draft, KeyDraft, Migration, ProviderDraft, ProviderType, validate};
    use std::collections::BTreeMap;

    use super::*;

    /// The members of a ConfigMap of gateway `uid` with this epoch and percent.
    pub(in crate::source) fn members(uid: &str, epoch: u64, percent: u8) -> BTreeMap<String, String> {
        let key = KeyDraft {
            path: "k".into(),
            name: "main".into(),
            provider: "openai".into(),
            models: Vec::new(),
            weight: 1,
            enabled: true,
            hosts: Vec::new(),
        };
        published(uid, epoch, percent, vec![key])
    }

    pub(in crate::source) fn members_without_keys(uid: &str, epoch: u64, percent: u8) -> BTreeMap<String, String> {
        published(uid, epoch, percent, Vec::new())
    }

    fn published(uid: &str, epoch: u64, percent: u8, keys: Vec<KeyDraft>) -> BTreeMap<String, String> {
        let provider = ProviderDraft {
            path: "p".into(),
            name: "openai".into(),
            provider_type: ProviderType::OpenAI,
            base_url: None,
            network: Default::default(),
        };
        let draft = Draft { providers: vec![provider], keys, ..Draft::default() };
        let (config, plan) = validate(&draft, AddressRule::NoLocal).unwrap();
        let stable = serde_json::to_string(&Stable { config_version: CONFIG_VERSION, config }).unwrap();
        let table = TrafficTable::new(&Migration { percent, ..plan.goal() }, uid, epoch, &revision(&stable));
        let traffic = serde_json::to_string(&table).unwrap();
        BTreeMap::from([(STABLE.to_owned(), stable), (TRAFFIC.to_owned(), traffic)])
    }

    pub(in crate::source) fn keys(value: &str) -> PublishedKeys {
        PublishedKeys::parse([("key.main", value.as_bytes()), ("admin-token", b"token-1".as_slice())])
    }

    #[test]
    fn a_bad_ca_bundle_holds_up_no_table_and_is_reported() {
        let mut parts = parts("g", 2, 0);
        parts.config.ca_bundle = Some("nothing".into());
        let store = store();
        assert_eq!(store.offer(parts.clone(), Origin::Api), Offered::Taken);
        let report = store.report(ArmCounts::default());
        assert_eq!(report.epoch, 2);
        assert!(report.problem.as_ref().unwrap().contains("the CA bundle holds no PEM certificate"), "{report:?}");
        assert_eq!(store.offer(parts, Origin::Api), Offered::Same);
        assert_eq!(store.report(ArmCounts::default()).problem, report.problem);
    }

    pub(crate) fn store() -> Arc<Store> {
        store_of(Arc::default())
    }

    pub(crate) fn store_of(gatherer: Arc<Gatherer>) -> Arc<Store> {
        Store::new(Arc::default(), gatherer, TlsRoots::with_file(None).unwrap())
    }

    fn parts(uid: &str, epoch: u64, percent: u8) -> Parts {
        let members = members(uid, epoch, percent);
        let published = bifrost_config::published::Published::parse(&members).unwrap();
        Parts {
            config: published.config,
            traffic: published.traffic,
            digest: digest(&members[STABLE], &members[TRAFFIC]),
            keys: keys("sk-1"),
            file: None,
        }
    }

    fn epoch(store: &Store) -> u64 {
        store.snapshot().unwrap().parts.traffic.epoch
    }

    #[test]
    fn a_lower_epoch_of_the_same_gateway_is_never_taken_and_is_reported() {
        let store = store();
        assert_eq!(store.offer(parts("u", 7, 10), Origin::Api), Offered::Taken);
        assert!(matches!(store.offer(parts("u", 6, 100), Origin::Api), Offered::Refused(_)));
        assert_eq!(epoch(&store), 7);
        assert!(store.problem().unwrap().contains("epoch 6"));
        assert!(!store.status().last_load_succeeded);
        assert_eq!(store.offer(parts("u", 8, 10), Origin::Api), Offered::Taken);
        assert_eq!((store.problem(), store.status().generation), (None, 2));
    }

    #[test]
    fn another_gateway_of_the_name_starts_at_its_own_epoch_but_only_by_the_apis_word() {
        let store = store();
        store.offer(parts("old", 7, 10), Origin::Saved);
        assert_eq!(store.offer(parts("new", 1, 50), Origin::Api), Offered::Taken);
        assert!(matches!(store.offer(parts("old", 9, 10), Origin::Mounted), Offered::Refused(_)));
        assert_eq!(store.report(ArmCounts::default()).gateway_uid, "new");
        assert_eq!(store.problem(), None);
    }

    #[test]
    fn of_two_copies_the_newer_one_serves_whatever_comes_first() {
        for (first, second) in [(Origin::Saved, Origin::Mounted), (Origin::Mounted, Origin::Saved)] {
            let store = store();
            store.offer(parts("u", 7, 0), first);
            assert!(matches!(store.offer(parts("u", 6, 100), second), Offered::Refused(_)));
            assert_eq!(store.offer(parts("u", 8, 5), second), Offered::Taken);
            assert_eq!((epoch(&store), store.problem()), (8, None));
        }
    }

    #[test]
    fn a_changed_key_value_is_taken_at_the_same_epoch_and_what_is_the_same_is_not() {
        let store = store();
        store.offer(parts("u", 7, 10), Origin::Api);
        assert_eq!(store.offer(parts("u", 7, 10), Origin::Api), Offered::Same);
        let rotated = Parts { keys: keys("sk-2"), ..parts("u", 7, 10) };
        assert_eq!(store.offer(rotated, Origin::Api), Offered::Taken);
        assert_eq!(store.snapshot().unwrap().parts.keys.values["main"].expose(), "sk-2");
    }

    #[test]
    fn what_cannot_be_used_leaves_the_last_good_one_in_use() {
        let store = store();
        store.offer(parts("u", 7, 10), Origin::Api);
        let mut broken = parts("u", 8, 10);
        broken.traffic.revision = "no\nheader".into();
        assert!(matches!(store.offer(broken, Origin::Api), Offered::Refused(_)));
        assert_eq!(epoch(&store), 7);
        assert!(store.report(ArmCounts::default()).problem.is_some());
        assert_eq!(store.offer(parts("u", 7, 10), Origin::Api), Offered::Same);
        assert_eq!(store.problem(), None);
    }

    #[test]
    fn a_split_counts_from_the_table_that_says_it_began_it_or_from_the_first_that_was_seen() {
        let table = |epoch, percent, since| TrafficTable { since, ..parts("u", epoch, percent).traffic };
        assert_eq!(split_since(None, &table(7, 10, 0)), 7);
        assert_eq!(split_since(Some((&table(7, 10, 0), 5)), &table(8, 10, 0)), 5);
        assert_eq!(split_since(Some((&table(7, 10, 0), 5)), &table(8, 25, 0)), 8);
        // A pod that starts later, and one that did not see the table between two of the same split.
        assert_eq!(split_since(None, &table(9, 10, 5)), 5);
        assert_eq!(split_since(Some((&table(5, 10, 5), 5)), &table(7, 10, 7)), 7);
        assert_eq!(split_since(None, &table(9, 10, 99)), 9);
    }

    #[test]
    fn the_report_names_what_is_in_use() {
        let store = store();
        assert_eq!(store.report(ArmCounts::default()).epoch, 0);
        let taken = parts("u", 7, 10);
        let digest = taken.digest.clone();
        store.offer(taken, Origin::Api);
        let report = store.report(ArmCounts { baseline: 9, bifrost: 1 });
        assert!(report.confirms("u", 7, &digest, &BTreeMap::new()));
        assert_eq!((report.eligible.baseline, report.version.is_empty()), (9, false));
        assert_eq!(store.admin_token().unwrap().expose(), "token-1");
    }
}
