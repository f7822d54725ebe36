//! Counts within one runtime. Lives on that runtime's thread: no lock, no atomic write.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use bifrost_config::report::ArmCounts;
use tokio::sync::mpsc;

use super::gather::{Gatherer, Question};
use super::models::ModelLabels;
use super::outcome::{Arm, Copied, Outcome};
use super::series::{Labels, Numbers, Table};
use super::windows::{Comparison, Marked, Marks};

/// The counters of one runtime at one moment.
#[derive(Debug, Clone, Default)]
pub(super) struct Counted {
    pub(super) series: Vec<(Labels, Numbers)>,
    pub(super) requests: u64,
    pub(super) connections: u64,
}

/// The eligible requests of one runtime by arm.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Eligible {
    pub(super) counts: ArmCounts,
    /// The split's mark ([`Gatherer::mark`]) since which they were counted.
    pub(super) since: u64,
}

/// Counts the requests of one runtime.
pub struct Recorder {
    table: RefCell<Table>,
    eligible: Cell<Eligible>,
    windows: [RefCell<Marked>; 2],
    requests: Cell<u64>,
    connections: Cell<u64>,
    models: Arc<ModelLabels>,
    marks: Arc<Marks>,
    compares: bool,
}

impl Recorder {
    /// A recorder whose numbers the gatherer will ask for. The future answers it: spawn it on the runtime of the recorder.
    pub fn register(gatherer: &Gatherer) -> (Rc<Self>, impl Future<Output = ()> + use<>) {
        let recorder = Rc::new(Self {
            table: RefCell::default(),
            eligible: Cell::default(),
            windows: Default::default(),
            requests: Cell::default(),
            connections: Cell::default(),
            models: gatherer.models().clone(),
            marks: gatherer.marks().clone(),
            compares: gatherer.compares(),
        });
        let answering = answer(recorder.clone(), gatherer.add_runtime());
        (recorder, answering)
    }

    /// Whether what requests say of their arms is counted at all.
    pub fn compares(&self) -> bool {
        self.compares
    }

    /// Counts a finished request.
    pub fn record(&self, outcome: &Outcome<'_>) {
        if outcome.eligible {
            self.count_eligible(outcome);
        }
        // Nothing called from here comes back to the recorder, so the table is free; if it were not, a number would be lost, not a request.
        if let Ok(mut table) = self.table.try_borrow_mut() {
            table.add(outcome, &self.models);
        }
        if outcome.compared.is_some() {
            self.compare(Comparison::Arms, outcome.epoch, |window| window.record(outcome, &self.models));
        }
        if outcome.of_revision.is_some() {
            self.compare(Comparison::Revisions, outcome.epoch, |window| window.record_revision(outcome, &self.models));
        }
    }

    /// Counts a copy that was compared.
    pub fn record_copy(&self, copied: &Copied<'_>) {
        self.compare(Comparison::Arms, copied.epoch, |window| window.record_copy(copied, &self.models));
    }

    /// One more request in progress, until the guard is dropped.
    pub fn track_request(self: &Rc<Self>) -> Tracked {
        Tracked::new(self, |recorder| &recorder.requests)
    }

    /// One more open connection of a client, until the guard is dropped.
    pub fn track_connection(self: &Rc<Self>) -> Tracked {
        Tracked::new(self, |recorder| &recorder.connections)
    }

    fn count_eligible(&self, outcome: &Outcome<'_>) {
        let mut eligible = self.eligible();
        // A request that an earlier table decided says nothing about the percent of this one.
        if outcome.epoch < eligible.since {
            return;
        }
        let counts = &mut eligible.counts;
        match outcome.arm {
            Some(Arm::Baseline) => counts.baseline += 1,
            Some(Arm::Bifrost) => counts.bifrost += 1,
            None => {}
        }
        self.eligible.set(eligible);
    }

    /// Counts in a window what the table of this epoch decided, unless what is compared was another with it.
    fn compare(&self, comparison: Comparison, epoch: u64, count: impl FnOnce(&mut Marked)) {
        let since = self.marks.of(comparison);
        let is_compared = self.compares && (comparison == Comparison::Arms || since > 0);
        if let Ok(mut window) = self.windows[comparison as usize].try_borrow_mut()
            && is_compared
            && epoch >= since
        {
            window.turn_to(since);
            count(&mut window);
        }
    }

    /// What the requests say so far; a new mark starts anew.
    fn window(&self, comparison: Comparison) -> Marked {
        let mut window = self.windows[comparison as usize].borrow_mut();
        window.turn_to(self.marks.of(comparison));
        window.clone()
    }

    /// Eligible requests so far; a new mark of the percent starts the count anew.
    fn eligible(&self) -> Eligible {
        let (eligible, since) = (self.eligible.get(), self.marks.of(Comparison::Arms));
        if since == eligible.since { eligible } else { Eligible { since, ..Eligible::default() } }
    }

    fn copy(&self) -> Counted {
        Counted {
            series: self.table.borrow().copy(),
            requests: self.requests.get(),
            connections: self.connections.get(),
        }
    }
}

async fn answer(recorder: Rc<Recorder>, mut questions: mpsc::Receiver<Question>) {
    while let Some(question) = questions.recv().await {
        // Whoever asked may have given up meanwhile.
        match question {
            Question::All(reply) => drop(reply.send(recorder.copy())),
            Question::Eligible(reply) => drop(reply.send(recorder.eligible())),
            Question::Window(comparison, reply) => drop(reply.send(Arc::new(recorder.window(comparison)))),
        }
    }
}

/// Something in progress; no longer counted once dropped.
pub struct Tracked {
    recorder: Rc<Recorder>,
    level: fn(&Recorder) -> &Cell<u64>,
}

impl Tracked {
    fn new(recorder: &Rc<Recorder>, level: fn(&Recorder) -> &Cell<u64>) -> Self {
        level(recorder).set(level(recorder).get() + 1);
        Self { recorder: recorder.clone(), level }
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        let level = (self.level)(&self.recorder);
        level.set(level.get().saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bifrost_analysis::{Arm as Side, Sample};

    use super::super::outcome::tests::chat;
    use super::super::outcome::{Compared, OfRevision};
    use super::*;

    fn recorder() -> (Arc<Gatherer>, Rc<Recorder>) {
        let gatherer = Arc::new(Gatherer::new());
        let (recorder, _) = Recorder::register(&gatherer);
        (gatherer, recorder)
    }

    #[test]
    fn eligible_requests_are_counted_by_arm_since_the_percent_changed() {
        let (gatherer, recorder) = recorder();
        recorder.record(&chat());
        recorder.record(&Outcome { eligible: false, ..chat() });
        recorder.record(&Outcome { arm: Some(Arm::Baseline), ..chat() });
        assert_eq!(recorder.eligible().counts, ArmCounts { baseline: 1, bifrost: 1 });

        gatherer.mark(Comparison::Arms, 5);
        recorder.record(&Outcome { epoch: 4, ..chat() });
        recorder.record(&Outcome { epoch: 6, ..chat() });
        assert_eq!(recorder.eligible().counts, ArmCounts { baseline: 0, bifrost: 1 });
    }

    /// A successful request that may be compared.
    fn compared() -> Outcome<'static> {
        let sample = Sample { group: 7, latency: Duration::from_millis(80), ..Sample::default() };
        Outcome { compared: Some(Compared { kind: "chat_completion", stream: false, sample }), ..chat() }
    }

    #[test]
    fn the_window_holds_what_may_be_compared_since_the_split_changed() {
        let (gatherer, recorder) = recorder();
        recorder.record(&chat());
        recorder.record(&compared());
        recorder.record(&Outcome { arm: Some(Arm::Baseline), ..compared() });
        recorder.record(&Outcome { arm: None, ..compared() });
        let window = recorder.window(Comparison::Arms).window;
        assert_eq!([Side::Baseline, Side::Bifrost].map(|arm| window.requests(arm)), [1, 1]);
        let stratum = &window.strata()[0].stratum;
        assert_eq!(
            (&*stratum.provider, &*stratum.model, &*stratum.endpoint),
            ("openai", "gpt-4o-mini", "chat_completion")
        );

        gatherer.mark(Comparison::Arms, 5);
        recorder.record(&Outcome { epoch: 4, ..compared() });
        recorder.record(&Outcome { epoch: 6, ..compared() });
        let marked = recorder.window(Comparison::Arms);
        assert_eq!((marked.since, marked.window.requests(Side::Bifrost)), (5, 1));
        gatherer.mark(Comparison::Arms, 7);
        assert_eq!(recorder.window(Comparison::Arms).window.requests(Side::Bifrost), 0);
    }

    #[test]
    fn revisions_are_compared_by_what_clients_asked_for_while_there_is_a_rollout() {
        let (gatherer, recorder) = recorder();
        let compared = compared().compared.unwrap();
        let outcome = |epoch, candidate| Outcome {
            epoch,
            of_revision: Some(OfRevision { candidate, model: "openai/gpt-4o-mini", compared }),
            ..chat()
        };
        recorder.record(&outcome(4, true));
        assert!(recorder.window(Comparison::Revisions).window.strata().is_empty(), "there is no rollout");
        gatherer.mark(Comparison::Revisions, 5);
        for (epoch, candidate) in [(4, true), (5, true), (6, false), (7, false)] {
            recorder.record(&outcome(epoch, candidate));
        }
        let marked = recorder.window(Comparison::Revisions);
        let requests = [Side::Baseline, Side::Bifrost].map(|side| marked.window.requests(side));
        assert_eq!((marked.since, requests), (5, [2, 1]));
        let stratum = &marked.window.strata()[0].stratum;
        assert_eq!((&*stratum.provider, &*stratum.model), ("openai", "gpt-4o-mini"));
        assert!(recorder.window(Comparison::Arms).window.strata().is_empty());
    }

    #[test]
    fn copies_count_beside_requests_if_the_split_is_still_the_same() {
        let (gatherer, recorder) = recorder();
        let copied = Copied {
            provider: "openai",
            model: "gpt-4o-mini",
            kind: "chat_completion",
            stream: false,
            group: 7,
            epoch: 4,
            agrees: true,
        };
        recorder.record(&compared());
        recorder.record_copy(&copied);
        recorder.record_copy(&Copied { agrees: false, ..copied });
        let window = recorder.window(Comparison::Arms).window;
        assert_eq!((window.strata().len(), window.copies(), window.requests(Side::Bifrost)), (1, 2, 1));
        gatherer.mark(Comparison::Arms, 5);
        recorder.record_copy(&copied);
        assert_eq!(recorder.window(Comparison::Arms).window.copies(), 0);
        recorder.record_copy(&Copied { epoch: 5, ..copied });
        assert_eq!(recorder.window(Comparison::Arms).window.copies(), 1);
    }

    #[test]
    fn names_that_no_provider_confirmed_share_a_stratum() {
        let (_gatherer, recorder) = recorder();
        for index in 0..100 {
            let model = format!("made-up-{index}");
            recorder.record(&Outcome { model: &model, status: 404, ..compared() });
        }
        let window = recorder.window(Comparison::Arms).window;
        assert_eq!((window.strata().len(), window.requests(Side::Bifrost)), (1, 100));
    }

    #[test]
    fn what_is_in_progress_is_counted_until_its_guard_is_dropped() {
        let (_gatherer, recorder) = recorder();
        let one = recorder.track_request();
        let _connection = recorder.track_connection();
        assert_eq!((recorder.copy().requests, recorder.copy().connections), (1, 1));
        drop(one);
        assert_eq!((recorder.copy().requests, recorder.copy().connections), (0, 1));
    }
}
