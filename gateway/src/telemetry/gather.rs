//! Collects the counters of all runtimes at a scrape.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bifrost_analysis::{Window, WindowReport};
use bifrost_config::report::ArmCounts;
use tokio::sync::{mpsc, oneshot};

use super::models::ModelLabels;
use super::recorder::{Counted, Eligible};
use super::series::{Labels, Numbers};
use super::windows::{Comparison, Marked, Marks};
use crate::shadow::Book;

/// How long a runtime may take to hand over its counters.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a runtime is asked for.
pub(super) enum Question {
    /// A copy of everything, which may be megabytes.
    All(oneshot::Sender<Counted>),
    /// The two numbers that are asked for many times a second while a change of the split is confirmed.
    Eligible(oneshot::Sender<Eligible>),
    /// What its requests say of the arms, or of the revisions.
    Window(Comparison, oneshot::Sender<Arc<Marked>>),
}

/// One runtime, as the gatherer sees it.
struct Runtime {
    ask: mpsc::Sender<Question>,
    /// What it last said, of each kind: a silent runtime must not make counters fall.
    last: Arc<Counted>,
    last_eligible: Eligible,
    last_windows: [Arc<Marked>; 2],
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
    marks: Arc<Marks>,
    compares: bool,
    shadow: Arc<Book>,
    /// Random for each gatherer, and so for each start of the process.
    instance: String,
}

/// Every runtime's counters, as each last told them.
#[derive(Debug)]
pub(super) struct Gathered {
    copies: Vec<Arc<Counted>>,
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
        Self::build(true)
    }

    /// One whose runtimes keep no windows: for gateways that nobody can ask for a comparison of the arms.
    pub fn without_windows() -> Self {
        Self::build(false)
    }

    fn build(compares: bool) -> Self {
        Self {
            runtimes: Mutex::default(),
            levels: Mutex::default(),
            models: Arc::default(),
            marks: Arc::default(),
            compares,
            shadow: Arc::default(),
            instance: format!("{:016x}", fastrand::u64(..)),
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

    /// What became of copies, and the money for them.
    pub fn shadow(&self) -> &Arc<Book> {
        &self.shadow
    }

    /// Since this epoch the split, or the candidate's share, is what it is: what is counted of it starts anew where it was another one
    /// before. 0 where there is no candidate.
    pub fn mark(&self, comparison: Comparison, epoch: u64) {
        self.marks.set(comparison, epoch);
    }

    /// Eligible requests by arm since the split last changed; a runtime that has not seen the change yet has none.
    pub async fn eligible(&self) -> ArmCounts {
        let answers = futures::future::join_all(self.ask_all(Question::Eligible)).await;
        let since = self.marks.of(Comparison::Arms);
        let mut sum = ArmCounts::default();
        for (runtime, answer) in lock(&self.runtimes).iter_mut().zip(answers) {
            runtime.last_eligible = answer.unwrap_or(runtime.last_eligible);
            if runtime.last_eligible.since == since {
                sum.baseline += runtime.last_eligible.counts.baseline;
                sum.bifrost += runtime.last_eligible.counts.bifrost;
            }
        }
        sum
    }

    /// What the requests of all runtimes say since the mark.
    pub async fn window(&self, comparison: Comparison) -> WindowReport {
        let answers = futures::future::join_all(self.ask_all(|reply| Question::Window(comparison, reply))).await;
        let since = self.marks.of(comparison);
        let mut window = Window::new();
        for (runtime, answer) in lock(&self.runtimes).iter_mut().zip(answers) {
            let last = &mut runtime.last_windows[comparison as usize];
            if let Some(answer) = answer {
                *last = answer;
            }
            if last.since == since {
                window.merge(&last.window);
            }
        }
        WindowReport { instance: self.instance.clone(), epoch_mark: since, window }
    }

    /// Whether the arms are compared.
    pub(super) fn compares(&self) -> bool {
        self.compares
    }

    pub(super) fn marks(&self) -> &Arc<Marks> {
        &self.marks
    }

    pub(super) fn add_runtime(&self) -> mpsc::Receiver<Question> {
        let (ask, questions) = mpsc::channel(4);
        lock(&self.runtimes).push(Runtime {
            ask,
            last: Arc::default(),
            last_eligible: Eligible::default(),
            last_windows: Default::default(),
        });
        questions
    }

    pub(super) fn levels(&self) -> Vec<Arc<Level>> {
        lock(&self.levels).clone()
    }

    /// Asks every runtime.
    pub(super) async fn gather(&self) -> Gathered {
        let answers = futures::future::join_all(self.ask_all(Question::All)).await;
        let mut runtimes = lock(&self.runtimes);
        for (runtime, answer) in runtimes.iter_mut().zip(answers) {
            runtime.last = answer.map_or_else(|| runtime.last.clone(), Arc::new);
        }
        Gathered { copies: runtimes.iter().map(|runtime| runtime.last.clone()).collect() }
    }

    /// Asks every runtime at once, so that all work at the same time; the futures wait.
    fn ask_all<T, Q: Fn(oneshot::Sender<T>) -> Question>(
        &self,
        question: Q,
    ) -> Vec<impl Future<Output = Option<T>> + use<T, Q>> {
        let ask = |runtime: &Runtime| {
            let (reply, answer) = oneshot::channel();
            ask(&runtime.ask, question(reply), answer)
        };
        lock(&self.runtimes).iter().map(ask).collect()
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
}

fn ask<T>(
    runtime: &mpsc::Sender<Question>,
    question: Question,
    answer: oneshot::Receiver<T>,
) -> impl Future<Output = Option<T>> + use<T> {
    let asked = runtime.try_send(question).is_ok();
    async move {
        if !asked {
            return None;
        }
        tokio::time::timeout(PATIENCE, answer).await.ok()?.ok()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use bifrost_analysis::{Arm as Side, Sample};

    use super::super::outcome::Compared;
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
        assert_eq!(totals.requests, 1);
        assert_eq!(local.run_until(gatherer.eligible()).await.bifrost, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn windows_of_all_runtimes_are_merged_under_the_splits_mark() {
        let gatherer = Gatherer::new();
        let local = tokio::task::LocalSet::new();
        let compared = Compared { kind: "chat_completion", stream: true, sample: Sample::default() };
        gatherer.mark(Comparison::Arms, 3);
        let recorders: Vec<_> = (0..3)
            .map(|_| {
                let (recorder, answering) = Recorder::register(&gatherer);
                local.spawn_local(answering);
                recorder.record(&super::super::Outcome { epoch: 4, compared: Some(compared), ..chat() });
                recorder
            })
            .collect();
        let report = local.run_until(gatherer.window(Comparison::Arms)).await;
        assert_eq!((report.epoch_mark, report.window.strata().len()), (3, 1));
        assert_eq!(report.window.requests(Side::Bifrost), recorders.len() as u64);
        assert_eq!(local.run_until(gatherer.window(Comparison::Arms)).await, report);
        assert_ne!(Gatherer::new().instance, report.instance);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_kept_where_nobody_can_ask_for_it() {
        let gatherer = Gatherer::without_windows();
        let local = tokio::task::LocalSet::new();
        let (recorder, answering) = Recorder::register(&gatherer);
        local.spawn_local(answering);
        let compared = Compared { kind: "chat_completion", stream: true, sample: Sample::default() };
        recorder.record(&super::super::Outcome { compared: Some(compared), ..chat() });
        assert!(!recorder.compares());
        assert!(local.run_until(gatherer.window(Comparison::Arms)).await.window.strata().is_empty());
        assert_eq!(local.run_until(gatherer.eligible()).await.bifrost, 1);
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
