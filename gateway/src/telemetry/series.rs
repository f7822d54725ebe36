//! The counters of one runtime: a table of series, one for each set of labels that occurred.

use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::histogram::{BYTES, DURATION, FIRST_OUTPUT, Gaps, Histogram, OVERHEAD};
use super::models::{ModelLabels, OTHER};
use super::outcome::{Arm, Outcome, method_label};

/// Most series of one runtime. Past it new ones share the labels [`OTHER`] for model and key, so totals stay true and memory
/// and the time to copy them stay bounded.
const MAX_SERIES: usize = 2_000;

/// Labels of one series.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Labels {
    pub(super) front: &'static str,
    pub(super) endpoint: &'static str,
    pub(super) path: &'static str,
    pub(super) http_method: &'static str,
    pub(super) provider: Arc<str>,
    pub(super) model: Arc<str>,
    pub(super) arm: &'static str,
    pub(super) reason: &'static str,
    pub(super) status: u16,
    pub(super) error_code: Option<&'static str>,
    pub(super) key_name: Arc<str>,
}

/// The same labels, borrowed from a request: what the table is asked with, so that a known series costs no allocation.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct LabelsRef<'a> {
    front: &'static str,
    endpoint: &'static str,
    path: &'static str,
    http_method: &'static str,
    provider: &'a str,
    model: &'a str,
    arm: &'static str,
    reason: &'static str,
    status: u16,
    error_code: Option<&'static str>,
    key_name: &'a str,
}

impl<'a> LabelsRef<'a> {
    fn of(outcome: &Outcome<'a>) -> Self {
        Self {
            front: outcome.front,
            endpoint: outcome.endpoint,
            path: outcome.path,
            http_method: method_label(outcome.http_method),
            provider: outcome.provider,
            model: outcome.model,
            arm: Arm::label(outcome.arm),
            reason: outcome.reason,
            status: outcome.status,
            error_code: outcome.error_code,
            key_name: outcome.key_name,
        }
    }
}

impl Labels {
    fn borrowed(&self) -> LabelsRef<'_> {
        LabelsRef {
            front: self.front,
            endpoint: self.endpoint,
            path: self.path,
            http_method: self.http_method,
            provider: &self.provider,
            model: &self.model,
            arm: self.arm,
            reason: self.reason,
            status: self.status,
            error_code: self.error_code,
            key_name: &self.key_name,
        }
    }
}

impl From<LabelsRef<'_>> for Labels {
    fn from(labels: LabelsRef<'_>) -> Self {
        Self {
            front: labels.front,
            endpoint: labels.endpoint,
            path: labels.path,
            http_method: labels.http_method,
            provider: Arc::from(labels.provider),
            model: Arc::from(labels.model),
            arm: labels.arm,
            reason: labels.reason,
            status: labels.status,
            error_code: labels.error_code,
            key_name: Arc::from(labels.key_name),
        }
    }
}

/// Numbers of one series.
#[derive(Debug, Clone, Default)]
pub(super) struct Numbers {
    pub(super) requests: u64,
    pub(super) total: Histogram<21>,
    pub(super) overhead: Histogram<12>,
    pub(super) upstream: Histogram<21>,
    pub(super) first_output: Histogram<16>,
    pub(super) gaps: Gaps,
    pub(super) request_bytes: Histogram<8>,
    pub(super) response_bytes: Histogram<8>,
    pub(super) input_tokens: u64,
    pub(super) output_tokens: u64,
    pub(super) client_gone: u64,
}

impl Numbers {
    fn add(&mut self, outcome: &Outcome<'_>) {
        self.requests += 1;
        self.total.observe_time(&DURATION, outcome.total);
        if let Some(overhead) = outcome.overhead {
            self.overhead.observe_time(&OVERHEAD, overhead);
        }
        if let Some(latency) = outcome.upstream_latency {
            self.upstream.observe_time(&DURATION, latency);
        }
        if let Some(latency) = outcome.first_output {
            self.first_output.observe_time(&FIRST_OUTPUT, latency);
        }
        if let Some(gaps) = outcome.gaps {
            self.gaps.merge(gaps);
        }
        self.request_bytes.observe(&BYTES, outcome.request_bytes);
        self.response_bytes.observe(&BYTES, outcome.response_bytes);
        self.input_tokens += outcome.input_tokens;
        self.output_tokens += outcome.output_tokens;
        self.client_gone += u64::from(outcome.client_gone);
    }

    /// Adds another runtime's numbers of the same labels.
    pub(super) fn merge(&mut self, other: &Self) {
        self.requests += other.requests;
        self.total.merge(&other.total);
        self.overhead.merge(&other.overhead);
        self.upstream.merge(&other.upstream);
        self.first_output.merge(&other.first_output);
        self.gaps.merge(&other.gaps);
        self.request_bytes.merge(&other.request_bytes);
        self.response_bytes.merge(&other.response_bytes);
        self.input_tokens += other.input_tokens;
        self.output_tokens += other.output_tokens;
        self.client_gone += other.client_gone;
    }
}

struct Series {
    hash: u64,
    labels: Labels,
    /// Boxed: the table moves its entries when it grows.
    numbers: Box<Numbers>,
}

/// All series of one runtime.
#[derive(Default)]
pub(super) struct Table {
    entries: HashTable<Series>,
    hasher: DefaultHashBuilder,
}

impl Table {
    /// Counts a request: one look-up where its series exists.
    pub(super) fn add(&mut self, outcome: &Outcome<'_>, models: &ModelLabels) {
        let labels = LabelsRef::of(outcome);
        let hash = self.hasher.hash_one(labels);
        match self.entries.find_mut(hash, |entry| entry.hash == hash && entry.labels.borrowed() == labels) {
            Some(series) => series.numbers.add(outcome),
            None => self.add_unseen(labels, outcome, models),
        }
    }

    /// Labels that did not occur yet as they are: the model may have to share its label.
    #[cold]
    fn add_unseen(&mut self, labels: LabelsRef<'_>, outcome: &Outcome<'_>, models: &ModelLabels) {
        let model = models.label(outcome.model, outcome.is_confirmed());
        let mut labels = LabelsRef { model: &model, ..labels };
        if self.entries.len() >= MAX_SERIES && !labels.model.is_empty() {
            labels.model = OTHER;
        }
        if self.entries.len() >= MAX_SERIES && !labels.key_name.is_empty() {
            labels.key_name = OTHER;
        }
        let hash = self.hasher.hash_one(labels);
        self.entries
            .entry(hash, |entry| entry.hash == hash && entry.labels.borrowed() == labels, |entry| entry.hash)
            .or_insert_with(|| Series { hash, labels: labels.into(), numbers: Box::default() })
            .get_mut()
            .numbers
            .add(outcome);
    }

    /// A copy for the scrape.
    pub(super) fn copy(&self) -> Vec<(Labels, Numbers)> {
        self.entries.iter().map(|entry| (entry.labels.clone(), (*entry.numbers).clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::outcome::tests::chat;
    use super::*;

    #[test]
    fn equal_labels_share_a_series_and_others_do_not() {
        let (mut table, models) = (Table::default(), ModelLabels::default());
        table.add(&chat(), &models);
        table.add(&chat(), &models);
        table.add(&Outcome { endpoint: "chat_completion_stream", ..chat() }, &models);
        let mut counts: Vec<_> = table.copy().into_iter().map(|(_, numbers)| numbers.requests).collect();
        counts.sort();
        assert_eq!(counts, [1, 2]);
    }

    #[test]
    fn a_model_that_no_provider_confirmed_is_counted_as_other() {
        let (mut table, models) = (Table::default(), ModelLabels::default());
        for index in 0..50 {
            let model = format!("made-up-{index}");
            table.add(&Outcome { model: &model, status: 404, ..chat() }, &models);
        }
        let copy = table.copy();
        assert_eq!(copy.len(), 1);
        assert_eq!(&*copy[0].0.model, OTHER);
        assert_eq!(copy[0].1.requests, 50);
    }

    #[test]
    fn the_table_stops_growing_and_still_counts_everything() {
        let (mut table, models) = (Table::default(), ModelLabels::default());
        for index in 0..2 * MAX_SERIES {
            let key_name = format!("key-{index}");
            table.add(&Outcome { key_name: &key_name, ..chat() }, &models);
        }
        let copy = table.copy();
        assert_eq!(copy.len(), MAX_SERIES + 1);
        assert_eq!(copy.iter().map(|(_, numbers)| numbers.requests).sum::<u64>(), 2 * MAX_SERIES as u64);
    }
}
