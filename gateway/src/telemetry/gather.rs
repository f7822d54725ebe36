//! Collects the counters of all runtimes at a scrape.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bifrost_config::report::ArmCounts;
use tokio::sync::{mpsc, oneshot};

use super::models::ModelLabels;
use super::recorder::Counted;
use super::series::{Labels, Numbers};

/// How long a runtime may take to hand over its counters.
const PATIENCE: Duration = Duration::from_secs(1);

/// Scrapes that reach one runtime.
pub(super) type Requests = mpsc::Receiver<oneshot::Sender<Counted>>;

/// One runtime, as the gatherer sees it.
struct Runtime {
    ask: mpsc::Sender<oneshot::Sender<Counted>>,
    /// What it last said: a silent runtime must not make counters fall.
    last: Arc<Counted>,
}

/// A number that is read at the scrape.
pub(super) struct Level {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) read: Box<dyn Fn() -> f64 + Send + Sync>,
}

/// Knows every runtime's recorder, and what else is shown.
pub struct Gatherer {
    runtimes: Mutex<Vec<Runtime>>,
    levels: Mutex<Vec<Arc<Level>>>,
    models: Arc<ModelLabels>,
    percent_since: Arc<AtomicU64>,
}

/// Every runtime's counters, as each last told them.
#[derive(Debug)]
pub(super) struct Gathered {
    copies: Vec<Arc<Counted>>,
    percent_since: u64,
}

/// The counters of all runtimes, added up.
#[derive(Debug, Default)]
pub(super) struct Totals {
    pub(super) series: HashMap<Labels, Numbers>,
    pub(super) requests: u64,
    pub(super) connections: u64,
}

impl Gatherer {
    /// One without runtimes.
    pub fn new() -> Self {
        Self {
            runtimes: Mutex::default(),
            levels: Mutex::default(),
            models: Arc::default(),
            percent_since: Arc::default(),
        }
    }

    /// Shows a number under this name; `read` is called at each scrape. For levels that are not a runtime's own, such as the
    /// memory budget.
    pub fn show_level(&self, name: &'static str, help: &'static str, read: impl Fn() -> f64 + Send + Sync + 'static) {
        lock(&self.levels).push(Arc::new(Level { name, help, read: Box::new(read) }));
    }

    /// The models that have a label of their own.
    pub fn models(&self) -> &Arc<ModelLabels> {
        &self.models
    }

    /// From this epoch on the split is another one: the count of eligible requests starts anew.
    pub fn mark_percent(&self, epoch: u64) {
        self.percent_since.store(epoch, Ordering::Relaxed);
    }

    /// Eligible requests by arm since the split last changed.
    pub async fn eligible(&self) -> ArmCounts {
        self.gather().await.eligible()
    }

    pub(super) fn percent_since(&self) -> &Arc<AtomicU64> {
        &self.percent_since
    }

    pub(super) fn add_runtime(&self) -> Requests {
        let (ask, requests) = mpsc::channel(4);
        lock(&self.runtimes).push(Runtime { ask, last: Arc::default() });
        requests
    }

    pub(super) fn levels(&self) -> Vec<Arc<Level>> {
        lock(&self.levels).clone()
    }

    /// Asks every runtime.
    pub(super) async fn gather(&self) -> Gathered {
        let asked: Vec<_> = lock(&self.runtimes).iter().map(|runtime| ask(&runtime.ask)).collect();
        let answers = futures::future::join_all(asked).await;
        let mut runtimes = lock(&self.runtimes);
        for (runtime, answer) in runtimes.iter_mut().zip(answers) {
            runtime.last = answer.unwrap_or_else(|| runtime.last.clone());
        }
        let copies = runtimes.iter().map(|runtime| runtime.last.clone()).collect();
        Gathered { copies, percent_since: self.percent_since.load(Ordering::Relaxed) }
    }
}

impl Default for Gatherer {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Gatherer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gatherer").field("runtimes", &lock(&self.runtimes).len()).finish_non_exhaustive()
    }
}

impl Gathered {
    /// Adds the counters up. With many series this takes milliseconds: not for a thread that serves requests.
    pub(super) fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for copy in &self.copies {
            for (labels, numbers) in &copy.series {
                match totals.series.get_mut(labels) {
                    Some(sum) => sum.merge(numbers),
                    None => {
                        totals.series.insert(labels.clone(), numbers.clone());
                    }
                }
            }
            totals.requests += copy.requests;
            totals.connections += copy.connections;
        }
        totals
    }

    /// Eligible requests by arm; a runtime that has not seen the last change of the split yet has none.
    fn eligible(&self) -> ArmCounts {
        let current = self.copies.iter().filter(|copy| copy.percent_since == self.percent_since);
        current.fold(ArmCounts::default(), |sum, copy| ArmCounts {
            baseline: sum.baseline + copy.eligible.baseline,
            bifrost: sum.bifrost + copy.eligible.bifrost,
        })
    }
}

/// Asks at once, so that all runtimes work at the same time; the future waits.
fn ask(runtime: &mpsc::Sender<oneshot::Sender<Counted>>) -> impl Future<Output = Option<Arc<Counted>>> + use<> {
    let (reply, answer) = oneshot::channel();
    let asked = runtime.try_send(reply).is_ok();
    async move {
        if !asked {
            return None;
        }
        tokio::time::timeout(PATIENCE, answer).await.ok()?.ok().map(Arc::new)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::super::outcome::tests::chat;
    use super::super::recorder::Recorder;
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_numbers_of_all_runtimes_are_added_up() {
        let gatherer = Gatherer::new();
        let local = tokio::task::LocalSet::new();
        let (one, answer_one) = Recorder::register(&gatherer);
        let (other, answer_other) = Recorder::register(&gatherer);
        local.spawn_local(answer_one);
        local.spawn_local(answer_other);
        one.record(&chat());
        other.record(&chat());
        other.record(&super::super::Outcome { status: 500, ..chat() });
        let _request = other.track_request();
        let gathered = local.run_until(gatherer.gather()).await;
        let totals = gathered.totals();
        let mut counts: Vec<_> = totals.series.values().map(|numbers| numbers.requests).collect();
        counts.sort();
        assert_eq!(counts, [1, 2]);
        assert_eq!((totals.requests, gathered.eligible().bifrost), (1, 3));
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_runtime_keeps_its_last_numbers() {
        let gatherer = Gatherer::new();
        let (recorder, answering) = Recorder::register(&gatherer);
        recorder.record(&chat());
        let mut answering = Box::pin(answering);
        let first = tokio::select! {
            gathered = gatherer.gather() => gathered,
            () = &mut answering => unreachable!("the recorder answers for as long as there is a gatherer"),
        };
        assert_eq!(first.totals().series.len(), 1);
        // Nothing polls the runtime from here on.
        recorder.record(&chat());
        let later = gatherer.gather().await.totals();
        assert_eq!(later.series.values().map(|numbers| numbers.requests).sum::<u64>(), 1);
    }
}
