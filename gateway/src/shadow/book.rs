//! What became of copies, and the pod's money. Shared by all runtimes; touched only by requests that chance has chosen.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bifrost_config::report::ShadowReport;

use super::budget::{Budget, Hold};
use super::choose::Skip;
use super::compare::Aspect;
use super::now_ms;

/// Most copies that are under way at one time.
const MOST_RUNNING: u32 = 16;
/// How long nothing is copied after a vendor said that there are too many requests of the account: clients share it.
const PAUSE: u64 = 60_000;
/// Millionths of a micro-unit in a micro-unit.
const MICRO: u64 = 1_000_000;

/// How a copy went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// In what its answer differs.
    pub differences: Vec<Aspect>,
    /// Whether it got no whole 2xx answer.
    pub failed: bool,
    /// How many percent of the words are in both answers; none where they were not compared.
    pub similarity: Option<u8>,
    /// Times from the request's last byte to the answer's: the first answer's and the copy's.
    pub times: Option<(Duration, Duration)>,
    /// Output tokens of both, where both vendors named them.
    pub output_tokens: Option<(u64, u64)>,
}

/// The numbers.
#[derive(Debug, Default)]
pub struct Counts {
    copied: AtomicU64,
    failed: AtomicU64,
    agreed: AtomicU64,
    skipped: [AtomicU64; Skip::ALL.len()],
    differences: [AtomicU64; Aspect::ALL.len()],
    similarity: [AtomicU64; 10],
    /// Milliseconds, the first answers' and the copies'.
    times: [AtomicU64; 2],
    tokens: [AtomicU64; 2],
    /// Since the start, in millionths of a micro-unit.
    cost: AtomicU64,
}

/// Numbers and money of a pod.
#[derive(Debug)]
pub struct Book {
    budget: Mutex<Budget>,
    running: AtomicU32,
    /// Unix time in milliseconds until which nothing is copied.
    paused_until: AtomicU64,
    counts: Counts,
}

impl Default for Book {
    fn default() -> Self {
        Self {
            budget: Mutex::new(Budget::new(now_ms())),
            running: AtomicU32::new(0),
            paused_until: AtomicU64::new(0),
            counts: Counts::default(),
        }
    }
}

fn add(counter: &AtomicU64, number: u64) {
    counter.fetch_add(number, Ordering::Relaxed);
}

fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// Milliseconds.
fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Book {
    /// Takes note of the time, and of what may be spent in a day, in millionths of a micro-unit; 0: nothing is copied.
    pub fn tick(&self, daily: u64) {
        self.budget().tick(daily, now_ms());
    }

    /// Takes over what this pod spent before its container was restarted, in micro-units.
    pub fn recall(&self, day: u64, spent: u64) {
        self.budget().recall(day, spent.saturating_mul(MICRO));
    }

    /// The day, counted from the Unix epoch, and what was spent in it, in micro-units.
    pub fn spent(&self) -> (u64, u64) {
        let (day, spent) = self.budget().spent();
        (day, spent.div_ceil(MICRO))
    }

    /// A request that chance had chosen is not copied.
    pub fn skip(&self, skip: Skip) {
        add(&self.counts.skipped[skip as usize], 1);
    }

    /// A vendor said that there are too many requests.
    pub(super) fn pause(&self) {
        self.paused_until.store(now_ms().saturating_add(PAUSE), Ordering::Relaxed);
    }

    /// A place among the copies under way, if one is free and nothing speaks against copies now.
    pub(super) fn place(self: &Arc<Self>) -> Result<Place, Skip> {
        if now_ms() < get(&self.paused_until) {
            return Err(Skip::RateLimited);
        }
        let free = |running: u32| (running < MOST_RUNNING).then_some(running + 1);
        let taken = self.running.fetch_update(Ordering::Relaxed, Ordering::Relaxed, free);
        taken.map(|_| Place(self.clone())).map_err(|_| Skip::Busy)
    }

    /// Sets money aside, if so much is there.
    pub(super) fn reserve(self: &Arc<Self>, cost: u64) -> Option<Money> {
        let hold = self.budget().reserve(cost)?;
        Some(Money { book: self.clone(), hold: Some(hold), reserved: cost })
    }

    /// Counts a copy.
    pub fn record(&self, outcome: &Outcome) {
        let counts = &self.counts;
        add(&counts.copied, 1);
        add(&counts.failed, u64::from(outcome.failed));
        add(&counts.agreed, u64::from(outcome.differences.is_empty()));
        for aspect in &outcome.differences {
            add(&counts.differences[*aspect as usize], 1);
        }
        if let Some(similarity) = outcome.similarity {
            add(&counts.similarity[usize::from(similarity / 10).min(9)], 1);
        }
        for (sums, both) in [
            (&counts.times, outcome.times.map(|(first, copy)| (millis(first), millis(copy)))),
            (&counts.tokens, outcome.output_tokens),
        ] {
            let (first, copy) = both.unwrap_or_default();
            add(&sums[0], first);
            add(&sums[1], copy);
        }
    }

    /// What the pod reports; none where nothing is copied, and nothing was.
    pub fn report(&self) -> Option<ShadowReport> {
        let (day, spent) = self.spent();
        let report = ShadowReport {
            copied: get(&self.counts.copied),
            failed: get(&self.counts.failed),
            agreed: get(&self.counts.agreed),
            skipped: self.skipped().filter(|(_, count)| *count > 0).map(|(why, n)| (why.to_owned(), n)).collect(),
            similarity: self.similarity(),
            day,
            spent,
        };
        let is_on = self.budget().daily() > 0;
        (is_on || report.copied > 0 || !report.skipped.is_empty()).then_some(report)
    }

    /// Requests that were not copied, by reason.
    pub fn skipped(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Skip::ALL.into_iter().map(|skip| (skip.as_str(), get(&self.counts.skipped[skip as usize])))
    }

    /// Copies whose answer differs, by aspect.
    pub fn differences(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Aspect::ALL.into_iter().map(|aspect| (aspect.as_str(), get(&self.counts.differences[aspect as usize])))
    }

    /// Copies by the similarity of their text, in steps of 10 %.
    pub fn similarity(&self) -> [u64; 10] {
        std::array::from_fn(|step| get(&self.counts.similarity[step]))
    }

    /// Sums over the copies, of the first answers and of theirs: seconds and output tokens.
    pub fn sums(&self) -> [(f64, u64); 2] {
        std::array::from_fn(|side| (get(&self.counts.times[side]) as f64 / 1e3, get(&self.counts.tokens[side])))
    }

    /// What copies have cost since the start, and what may be spent now, in units of the currency.
    pub fn money(&self) -> (f64, f64) {
        let units = |amount: u64| amount as f64 / 1e12;
        (units(get(&self.counts.cost)), units(self.budget().left()))
    }

    /// Copies under way.
    pub fn running(&self) -> u32 {
        self.running.load(Ordering::Relaxed)
    }

    fn budget(&self) -> MutexGuard<'_, Budget> {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place among the copies under way.
pub(super) struct Place(Arc<Book>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Money that was set aside for a copy. Whatever becomes of the copy, without another word all of it counts as spent.
pub(super) struct Money {
    book: Arc<Book>,
    hold: Option<Hold>,
    reserved: u64,
}

impl Money {
    /// What was set aside.
    pub(super) fn reserved(&self) -> u64 {
        self.reserved
    }

    /// Says what the copy did cost.
    pub(super) fn settle(mut self, cost: u64) {
        self.end(cost);
    }

    fn end(&mut self, cost: u64) {
        if let Some(hold) = self.hold.take() {
            self.book.budget().settle(hold, cost);
            add(&self.book.counts.cost, cost);
        }
    }
}

impl Drop for Money {
    fn drop(&mut self) {
        self.end(self.reserved);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rich() -> Arc<Book> {
        let book = Arc::new(Book::default());
        while book.money().1 == 0.0 {
            book.tick(u64::MAX / 4);
        }
        book
    }

    #[test]
    fn places_are_bounded_and_come_back() {
        let book = Arc::new(Book::default());
        let places: Vec<_> = std::iter::from_fn(|| book.place().ok()).collect();
        assert_eq!((places.len(), book.running()), (16, 16));
        assert_eq!(book.place().err(), Some(Skip::Busy));
        drop(places);
        assert!(book.place().is_ok());
        book.pause();
        assert_eq!(book.place().err(), Some(Skip::RateLimited));
        assert_eq!(book.running(), 0);
    }

    #[test]
    fn money_of_a_copy_that_says_nothing_is_spent() {
        let book = rich();
        drop(book.reserve(5 * MICRO));
        book.reserve(5 * MICRO).unwrap().settle(2 * MICRO);
        assert_eq!(book.spent().1, 7);
        assert!(book.money().0 > 0.0);
    }

    #[test]
    fn the_report_says_what_became_of_copies() {
        let book = Book::default();
        assert_eq!(book.report(), None);
        book.skip(Skip::Tools);
        book.record(&Outcome { similarity: Some(100), ..Outcome::default() });
        book.record(&Outcome { differences: vec![Aspect::Status], failed: true, ..Outcome::default() });
        let report = book.report().unwrap();
        assert_eq!((report.copied, report.failed, report.agreed), (2, 1, 1));
        assert_eq!((report.skipped["tools"], report.skipped.len(), report.similarity[9]), (1, 1, 1));
    }
}
