//! What this process remembers of a gateway between two reconciliations. With it, what somebody else changes in the Secret or in the
//! published ConfigMap, or deletes, is put right even while the spec is held back; with all of it lost, what is found is taken as it
//! is.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bifrost_config::published::{CANDIDATE, KEY_PREFIX, Rollout, STABLE, TrafficTable};
use bifrost_config::{Config, Migration, SecretValue};
use tokio::time::{Duration, Instant};

use super::build::Plan;
use super::observe::Observed;
use super::part::Part;
use super::publish::Publication;
use super::secret::SecretPlan;
use super::validate::Wanted;
use crate::confirm::{GatewayName, Summary};
use crate::migration::progress::Progress;
use crate::rollout::record::Record;

/// What was published last.
#[derive(Clone)]
pub struct Remembered {
    /// The configuration.
    pub config: Config,
    /// The split.
    pub migration: Migration,
    /// Where the migration is.
    pub progress: Progress,
    /// The configuration of the candidate, where it has one of its own.
    pub candidate: Option<Config>,
    /// How revisions follow each other.
    pub record: Record,
    /// The image of the pods.
    pub image: String,
    /// Number of the table.
    pub epoch: u64,
    /// What the pods want to see on their admin port.
    pub token: SecretValue,
    /// Whether the spec asked for a network policy when it was followed last; before that, whether there was one at first sight.
    pub network_policy: Option<bool>,
}

#[derive(Default)]
struct Entry {
    uid: String,
    remembered: Option<Remembered>,
    /// A table whose writing began, and what is to be remembered if it is found later: the answer may be lost.
    pending: Option<(TrafficTable, Remembered)>,
    /// A fingerprint of each key's value, by name.
    values: HashMap<String, u64>,
    /// What was published last.
    published: Option<Publication>,
    /// Since when a published table waits for its confirmation.
    waiting_since: Option<Instant>,
    /// Whether leftovers of earlier releases were looked for.
    pruned: bool,
    /// Reconciliations in a row that could not write everything.
    failures: u32,
    /// Epoch for which a skewed cohort was reported.
    skew_reported: Option<u64>,
}

impl Entry {
    fn note_table(&mut self, publication: &Publication) {
        let new = self.published.as_ref().is_none_or(|before| before.traffic.epoch != publication.traffic.epoch);
        if new {
            self.waiting_since = Some(Instant::now());
        }
        self.published = Some(publication.clone());
    }
}

/// The memory of all gateways.
#[derive(Default)]
pub(super) struct Memory {
    entries: Mutex<HashMap<GatewayName, Entry>>,
    /// Random, so that a fingerprint says nothing outside this process.
    hasher: RandomState,
}

impl Memory {
    /// Whether this gateway was never seen, though perhaps an earlier one of its name.
    pub(super) fn is_new(&self, observed: &Observed) -> bool {
        let name = (observed.namespace().to_owned(), observed.name().to_owned());
        self.lock().get(&name).is_none_or(|entry| entry.uid != observed.uid())
    }

    /// What was published last.
    pub(super) fn recall(&self, observed: &Observed) -> Option<Remembered> {
        let table = observed.live.published.as_ref().map(|published| &published.traffic);
        self.with(observed, |entry| {
            if let Some((_, written)) = entry.pending.take_if(|(pending, _)| table == Some(&*pending)) {
                entry.remembered = Some(written);
            }
            entry.remembered.clone()
        })
    }

    /// Of the keys whose published value is replaced: those with a new value, not with the one that was published before.
    pub(super) fn rotated(&self, observed: &Observed, plan: &SecretPlan) -> Vec<String> {
        let marks = self.marks(plan);
        self.with(observed, |entry| {
            let same = |name: &String| marks.contains_key(name) && entry.values.get(name) == marks.get(name);
            plan.rotated.iter().filter(|name| !same(name)).cloned().collect()
        })
    }

    fn marks(&self, plan: &SecretPlan) -> HashMap<String, u64> {
        let members = plan.data.iter().filter_map(|(member, value)| Some((member.strip_prefix(KEY_PREFIX)?, value)));
        members.map(|(name, value)| (name.to_owned(), self.hasher.hash_one(value))).collect()
    }

    /// Whether this was published before, so that writing it again repairs what somebody else did.
    pub(super) fn repeats(&self, observed: &Observed, publication: &Publication) -> bool {
        self.with(observed, |entry| {
            entry.published.as_ref().is_some_and(|before| {
                let (epoch, since) = (before.traffic.epoch, before.traffic.since);
                let began = before.traffic.rollout.as_ref().map(|rollout| rollout.since);
                let rollout = publication.traffic.rollout.clone().zip(began);
                let rollout = rollout.map(|(rollout, since)| Rollout { since, ..rollout });
                let same = TrafficTable { epoch, since, rollout, ..publication.traffic.clone() };
                let text = |publication: &Publication, member| publication.data.get(member).cloned();
                same == before.traffic
                    && before.progress == publication.progress
                    && before.record == publication.record
                    && [STABLE, CANDIDATE].into_iter().all(|member| text(before, member) == text(publication, member))
            })
        })
    }

    /// Notes what is about to be published.
    pub(super) fn publishing(&self, observed: &Observed, plan: &Plan, wanted: &Wanted, followed: bool) {
        self.with(observed, |entry| {
            let table = plan.publication.traffic.clone();
            entry.pending = Some((table, remembered(entry, observed, plan, wanted, followed)));
        });
    }

    /// Notes what is published now. `followed`: the whole spec was, not only what is held of it.
    pub(super) fn published(&self, observed: &Observed, plan: &Plan, wanted: &Wanted, followed: bool) {
        let publication = &plan.publication;
        let marks = self.marks(&plan.secret);
        self.with(observed, |entry| {
            entry.remembered = Some(remembered(entry, observed, plan, wanted, followed));
            entry.pending = None;
            entry.values = marks;
            entry.note_table(publication);
        });
    }

    /// Notes a table that was published without the Secret. Its keys and the token are what was found there, perhaps of another hand:
    /// what was published before stays what is to come back.
    pub(super) fn retreated(&self, observed: &Observed, plan: &Plan, wanted: &Wanted) {
        self.with(observed, |entry| {
            if let Some(remembered) = &mut entry.remembered {
                remembered.epoch = plan.publication.traffic.epoch;
                remembered.migration = wanted.migration.clone();
                remembered.progress = wanted.progress.clone();
                remembered.record = wanted.record.clone();
                remembered.candidate = wanted.candidate.clone();
            }
            entry.note_table(&plan.publication);
        });
    }

    /// How long the pods took, once, when they all confirm.
    pub(super) fn confirmed(&self, observed: &Observed, summary: &Summary) -> Option<Duration> {
        self.with(observed, |entry| match summary.programmed {
            true => entry.waiting_since.take().map(|since| since.elapsed()),
            false => None,
        })
    }

    /// Notes whether everything could be written; returns how often in a row it could not.
    pub(super) fn failures(&self, observed: &Observed, failed: bool) -> u32 {
        self.with(observed, |entry| {
            entry.failures = if failed { entry.failures.saturating_add(1) } else { 0 };
            entry.failures
        })
    }

    /// Whether a skewed cohort is to be reported: once for an epoch.
    pub(super) fn report_skew(&self, observed: &Observed, epoch: u64) -> bool {
        self.with(observed, |entry| entry.skew_reported.replace(epoch) != Some(epoch))
    }

    /// Whether leftovers are still to be looked for.
    pub(super) fn begin_prune(&self, observed: &Observed) -> bool {
        self.with(observed, |entry| !entry.pruned)
    }

    /// They were.
    pub(super) fn end_prune(&self, observed: &Observed) {
        self.with(observed, |entry| entry.pruned = true);
    }

    /// Forgets a gateway.
    pub(super) fn forget(&self, gateway: &GatewayName) {
        self.lock().remove(gateway);
    }

    /// Every gateway that was reconciled and not forgotten.
    pub(super) fn names(&self) -> Vec<GatewayName> {
        self.lock().keys().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<GatewayName, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, observed: &Observed, act: impl FnOnce(&mut Entry) -> T) -> T {
        let mut entries = self.lock();
        let entry = entries.entry((observed.namespace().to_owned(), observed.name().to_owned())).or_default();
        if entry.uid != observed.uid() {
            *entry = Entry { uid: observed.uid().to_owned(), ..Entry::default() };
        }
        act(entry)
    }
}

fn remembered(entry: &Entry, observed: &Observed, plan: &Plan, wanted: &Wanted, followed: bool) -> Remembered {
    let before = entry.remembered.as_ref().and_then(|before| before.network_policy);
    let held = before.unwrap_or_else(|| observed.own(Part::NetworkPolicy).is_some());
    let asked = observed.gateway.spec.network_policy.enabled;
    Remembered {
        config: wanted.config.clone(),
        migration: wanted.migration.clone(),
        progress: wanted.progress.clone(),
        candidate: wanted.candidate.clone(),
        record: wanted.record.clone(),
        image: wanted.image.clone(),
        epoch: plan.publication.traffic.epoch,
        token: plan.token.clone(),
        network_policy: Some(if followed { asked } else { held }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::build::build_retreat;
    use crate::gateway::tests::{circumstances, observed, plan, policy, publish_all};
    use crate::gateway::validate::{retreat, validate};

    fn publish(memory: &Memory, observed: &Observed, followed: bool) -> Plan {
        let plan = plan(observed, true);
        memory.published(observed, &plan, &validate(observed, &policy()).wanted.unwrap(), followed);
        plan
    }

    #[test]
    fn what_was_published_is_known_again_until_the_gateway_is_another() {
        let (memory, mut seen) = (Memory::default(), observed());
        assert!(memory.is_new(&seen));
        assert!(memory.recall(&seen).is_none());
        assert!(!memory.is_new(&seen));
        publish(&memory, &seen, true);
        let known = memory.recall(&seen).unwrap();
        assert_eq!((known.epoch, known.migration.percent, known.network_policy), (1, 10, Some(true)));
        assert_eq!(known.record.stable.image, "ghcr.io/example/bifrost-gateway:0.1.0");
        seen.gateway.spec.network_policy.enabled = false;
        publish(&memory, &seen, false);
        assert_eq!(memory.recall(&seen).unwrap().network_policy, Some(true), "the spec was not followed");
        seen.owner.uid = "another".into();
        assert!(memory.is_new(&seen) && memory.recall(&seen).is_none());
    }

    #[test]
    fn a_skewed_cohort_is_reported_once_for_an_epoch() {
        let (memory, seen) = (Memory::default(), observed());
        let told = [1, 1, 2, 2].map(|epoch| memory.report_skew(&seen, epoch));
        assert_eq!(told, [true, false, true, false]);
    }

    #[test]
    fn without_a_spec_that_was_followed_a_network_policy_is_wanted_if_there_is_one() {
        for there in [true, false] {
            let (memory, mut seen) = (Memory::default(), publish_all(observed()));
            seen.objects.retain(|part, _| there || *part != Part::NetworkPolicy);
            publish(&memory, &seen, false);
            seen.objects.remove(&Part::NetworkPolicy);
            publish(&memory, &seen, false);
            assert_eq!(memory.recall(&seen).unwrap().network_policy, Some(there));
        }
    }

    #[test]
    fn a_retreat_changes_nothing_of_what_is_known_but_the_table() {
        let (memory, mut seen) = (Memory::default(), publish_all(observed()));
        publish(&memory, &seen, true);
        seen.remembered = memory.recall(&seen);
        seen.secret.values.clear();
        seen.secret.admin_token = Some(SecretValue::new("planted"));
        seen.gateway.spec.migration.canary_percent = Some(0);
        let wanted = retreat(&seen, &policy()).unwrap();
        let plan = build_retreat(&seen, &wanted, &circumstances(true)).unwrap();
        memory.retreated(&seen, &plan, &wanted);
        let known = memory.recall(&seen).unwrap();
        assert_eq!((known.epoch, known.migration.percent), (2, 0));
        assert_eq!((known.config.keys.len(), known.token.expose()), (1, "token"));
        assert!(memory.repeats(&seen, &plan.publication));
    }

    #[test]
    fn a_table_whose_answer_was_lost_is_known_again_when_it_is_found() {
        let (memory, mut seen) = (Memory::default(), observed());
        publish(&memory, &seen, true);
        seen = publish_all(seen);
        seen.gateway.spec.migration.canary_percent = Some(0);
        let plan = plan(&seen, true);
        memory.publishing(&seen, &plan, &validate(&seen, &policy()).wanted.unwrap(), true);
        assert_eq!(memory.recall(&seen).unwrap().migration.percent, 10, "it is not there");
        let found = publish_all(seen);
        assert_eq!(memory.recall(&found).unwrap().migration.percent, 0);
    }

    #[test]
    fn a_value_that_is_put_back_is_no_rotation() {
        let memory = Memory::default();
        publish(&memory, &observed(), true);
        let mut edited = publish_all(observed());
        edited.secret.values.insert("main".into(), SecretValue::new("planted"));
        let back = plan(&edited, true).secret;
        assert_eq!(back.rotated, ["main"]);
        assert!(memory.rotated(&edited, &back).is_empty());
        edited.keys[0].value = Some(Ok(SecretValue::new("sk-new")));
        assert_eq!(memory.rotated(&edited, &plan(&edited, true).secret), ["main"]);
        assert_eq!(Memory::default().rotated(&edited, &back), ["main"], "nothing is known yet");
    }

    #[test]
    fn a_gateway_that_is_forgotten_is_no_longer_known() {
        let memory = Memory::default();
        publish(&memory, &observed(), true);
        let name = ("llm".to_owned(), "ai".to_owned());
        assert_eq!(memory.names(), std::slice::from_ref(&name));
        memory.forget(&name);
        assert!(memory.names().is_empty());
    }
}
