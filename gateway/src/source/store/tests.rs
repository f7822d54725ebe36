//! The rules of the store, and published members for the tests of all sources.

use bifrost_config::published::{
    CANDIDATE, CONFIG_VERSION, Published, PublishedKeys, Rollout, STABLE, Stable, TRAFFIC, candidate_digest, digest,
    revision,
};
use bifrost_config::{AddressRule, Draft, KeyDraft, Migration, ProviderDraft, ProviderType, validate};
use std::collections::BTreeMap;

use super::*;
use crate::snapshot::Tried;

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

/// The same with a candidate that serves half of the users, under a configuration of its own.
pub(in crate::source) fn members_with_candidate(uid: &str, epoch: u64) -> BTreeMap<String, String> {
    let mut members = members(uid, epoch, 10);
    let text = members_without_keys(uid, epoch, 10)[STABLE].clone();
    let mut table: TrafficTable = serde_json::from_str(&members[TRAFFIC]).unwrap();
    table.rollout = Some(Rollout {
        revision: "next".into(),
        config: Some(candidate_digest(&text)),
        percent: 50,
        since: epoch,
        salt: "s".into(),
        forward: None,
        preview: false,
    });
    members.insert(TRAFFIC.to_owned(), serde_json::to_string(&table).unwrap());
    members.insert(CANDIDATE.to_owned(), text);
    members
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
    let report = store.report(ArmCounts::default(), None);
    assert_eq!(report.epoch, 2);
    assert!(report.problem.as_ref().unwrap().contains("the CA bundle holds no PEM certificate"), "{report:?}");
    assert_eq!(store.offer(parts, Origin::Api), Offered::Same);
    assert_eq!(store.report(ArmCounts::default(), None).problem, report.problem);
}

pub(crate) fn store() -> Arc<Store> {
    store_of(Arc::default())
}

pub(crate) fn store_of(gatherer: Arc<Gatherer>) -> Arc<Store> {
    Store::new(Arc::default(), gatherer, TlsRoots::with_file(None).unwrap(), None)
}

fn parts(uid: &str, epoch: u64, percent: u8) -> Parts {
    parts_of(&members(uid, epoch, percent))
}

fn parts_of(members: &BTreeMap<String, String>) -> Parts {
    let published = Published::parse(members).unwrap();
    Parts {
        config: published.config,
        tried: published.candidate,
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
    assert_eq!(store.report(ArmCounts::default(), None).gateway_uid, "new");
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
    assert!(store.report(ArmCounts::default(), None).problem.is_some());
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
fn a_candidate_is_in_use_with_its_share_or_reported_until_it_is_repaired() {
    let store = store();
    let candidate = || store.report(ArmCounts::default(), None).candidate;
    let good = members_with_candidate("u", 7);
    let mut bad = good.clone();
    bad.remove(CANDIDATE);
    for _ in 0..2 {
        assert_eq!(store.offer(parts_of(&bad), Origin::Api), Offered::Taken);
        assert!(store.problem().unwrap().contains("candidate next cannot be used: candidate.json is missing"));
        assert_eq!((candidate(), epoch(&store)), (None, 7));
        assert_eq!(store.offer(parts_of(&bad), Origin::Api), Offered::Same);
        assert!(store.problem().is_some());
        // Somebody has put back what the same table means.
        assert_eq!(store.offer(parts_of(&good), Origin::Api), Offered::Taken);
        assert_eq!((candidate().as_deref(), store.problem()), (Some("next"), None));
        assert_eq!(store.offer(parts_of(&good), Origin::Api), Offered::Same);
    }
    assert_eq!(store.offer(parts("u", 8, 10), Origin::Api), Offered::Taken);
    assert_eq!((candidate(), store.problem()), (None, None));
}

#[test]
fn a_candidate_of_other_pods_is_reported_once_they_are_reached() {
    let store = store();
    let mut members = members_with_candidate("u", 7);
    let forward = r#","forward":"http://10.0.0.1:8082""#;
    let table = members[TRAFFIC].replace(r#","percent":50"#, &format!(r#","percent":50{forward}"#));
    members.insert(TRAFFIC.to_owned(), table);
    assert_eq!(store.offer(parts_of(&members), Origin::Api), Offered::Taken);
    let Some(Tried::There(to)) = &store.snapshot().unwrap().tried else { panic!("it is not forwarded") };
    let told = |reached| store.report(ArmCounts::default(), reached).candidate;
    let id = to.endpoint.id;
    assert_eq!([told(None), told(Some(id + 1)), told(Some(id))], [None, None, Some("next".to_owned())]);
}

#[test]
fn a_pod_of_a_candidate_reports_it_only_while_it_serves_it() {
    let of = |own: &str| {
        Store::new(Arc::default(), Arc::default(), TlsRoots::with_file(None).unwrap(), Some(own.to_owned()))
    };
    for (own, told) in [("next", Some("next")), ("before", None)] {
        let store = of(own);
        let members = members_with_candidate("u", 7);
        assert_eq!(store.offer(parts_of(&members), Origin::Api), Offered::Taken);
        assert_eq!(store.offer(parts_of(&members), Origin::Api), Offered::Same);
        let report = store.report(ArmCounts::default(), None);
        assert_eq!((report.candidate.as_deref(), report.problem), (told, None));
        assert_eq!(report.digest, digest(&members[STABLE], &members[TRAFFIC]));
    }
}

#[test]
fn a_share_counts_since_its_table_and_never_from_the_future() {
    let table = |since| {
        let mut table = parts_of(&members_with_candidate("u", 7)).traffic;
        table.rollout.as_mut().unwrap().since = since;
        share_since(&table)
    };
    assert_eq!([table(0), table(5), table(9), share_since(&parts("u", 7, 10).traffic)], [1, 5, 7, 0]);
}

#[test]
fn the_report_names_what_is_in_use() {
    let store = store();
    assert_eq!(store.report(ArmCounts::default(), None).epoch, 0);
    let taken = parts("u", 7, 10);
    let digest = taken.digest.clone();
    store.offer(taken, Origin::Api);
    let report = store.report(ArmCounts { baseline: 9, bifrost: 1 }, None);
    assert!(report.confirms("u", 7, &digest, &BTreeMap::new()));
    assert_eq!((report.eligible.baseline, report.version.is_empty()), (9, false));
    assert_eq!(store.admin_token().unwrap().expose(), "token-1");
}
