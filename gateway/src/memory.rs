//! The byte budget of the pod: what collected, queued and teed bytes may take together.
//!
//! One [`Budget`] for all runtimes. Bytes are charged as they arrive and given back when their [`Charge`] is dropped. While there
//! is room a charge is one atomic operation and its end another; without room [`Budget::charge`] waits in line for a bounded
//! time, and then the request is refused. The size comes from the container's memory limit ([`limit`]).

mod limit;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, timeout_at};

pub use limit::{default_total, memory_limit};

/// A charge that grows takes this many bytes at a time where it can, so that a body that comes in chunks does not cost an
/// atomic operation per chunk.
const STEP: u64 = 16 * 1024;

/// There was no room for the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Exhausted {
    /// No room became free in time: worth trying again.
    #[error("the gateway's memory budget of {total} bytes is in use: no room for {wanted} more")]
    Busy {
        /// Bytes asked for.
        wanted: u64,
        /// Size of the budget in bytes.
        total: u64,
    },
    /// More than the whole budget: never.
    #[error("{wanted} bytes are more than the gateway's whole memory budget of {total} bytes")]
    TooLarge {
        /// Bytes asked for, with those held already.
        wanted: u64,
        /// Size of the budget in bytes.
        total: u64,
    },
}

/// Alone on its cache lines (two: the processor fetches them in pairs).
#[repr(align(128))]
struct Padded<T>(T);

struct Shared {
    total: u64,
    used: Padded<AtomicU64>,
    /// Read at every release, written only while somebody waits.
    waiting: Padded<AtomicUsize>,
    /// Held by the one at the head of the line; the semaphore keeps the order of the rest.
    head: Semaphore,
    /// Tells the head that bytes came back.
    freed: Notify,
}

/// The pod's byte budget. A copy is a pointer: it lives as long as the process, so that no request counts references.
#[derive(Clone, Copy)]
pub struct Budget(&'static Shared);

impl Budget {
    /// A budget of `total` bytes. Made once in a process: it is never freed.
    pub fn new(total: u64) -> Self {
        Self(Box::leak(Box::new(Shared {
            total,
            used: Padded(AtomicU64::new(0)),
            waiting: Padded(AtomicUsize::new(0)),
            head: Semaphore::new(1),
            freed: Notify::new(),
        })))
    }

    /// Bytes of the budget.
    pub fn total(&self) -> u64 {
        self.0.total
    }

    /// Bytes charged now, in which a growing charge may hold up to 16 KiB in advance.
    pub fn used(&self) -> u64 {
        self.0.used.0.load(Ordering::Relaxed)
    }

    /// A charge of nothing, which costs nothing, to grow as bytes arrive.
    pub fn open(&self) -> Charge {
        Charge { budget: *self, held: 0, used: 0 }
    }

    /// Charges `bytes` if there is room, without regard to those that wait in line.
    pub fn try_charge(&self, bytes: u64) -> Option<Charge> {
        self.take(bytes).then(|| Charge { budget: *self, held: bytes, used: bytes })
    }

    /// Charges `bytes` for something that can be done without: never what would take from the half that bodies need, and nothing while a
    /// body waits.
    pub fn try_charge_spare(&self, bytes: u64) -> Option<Charge> {
        let spare = self.0.total / 2;
        let fits = self.0.waiting.0.load(Ordering::Relaxed) == 0 && self.used().saturating_add(bytes) <= spare;
        if fits { self.try_charge(bytes) } else { None }
    }

    /// Charges `bytes`, waiting in line for up to `wait` while there is no room.
    pub async fn charge(&self, bytes: u64, wait: Duration) -> Result<Charge, Exhausted> {
        if self.0.waiting.0.load(Ordering::Relaxed) != 0 || !self.take(bytes) {
            self.take_in_line(bytes, bytes, wait).await?;
        }
        Ok(Charge { budget: *self, held: bytes, used: bytes })
    }

    /// Exact: never over the total, and never refuses what fits (an add that is taken back could make others fail meanwhile).
    fn take(&self, bytes: u64) -> bool {
        let room = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= self.0.total);
        // Sequentially consistent with `give`: a waiter that has announced itself sees either the bytes or the notification.
        self.0.used.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, room).is_ok()
    }

    fn give(&self, bytes: u64) {
        if bytes == 0 {
            return;
        }
        self.0.used.0.fetch_sub(bytes, Ordering::SeqCst);
        if self.0.waiting.0.load(Ordering::SeqCst) != 0 {
            self.0.freed.notify_one();
        }
    }

    /// `whole` is what the charge would hold afterwards: what can never fit is refused at once.
    async fn take_in_line(&self, bytes: u64, whole: u64, wait: Duration) -> Result<(), Exhausted> {
        let total = self.0.total;
        if whole > total {
            return Err(Exhausted::TooLarge { wanted: whole, total });
        }
        let _waiting = Waiting::new(&self.0.waiting.0);
        let until = Instant::now().checked_add(wait);
        let taken = async {
            // Never closed; an error would only mean that the order is lost.
            let _head = self.0.head.acquire().await;
            while !self.take(bytes) {
                self.0.freed.notified().await;
            }
        };
        match until {
            Some(until) => timeout_at(until, taken).await.map_err(|_| Exhausted::Busy { wanted: bytes, total }),
            None => {
                taken.await;
                Ok(())
            }
        }
    }
}

/// Counts one waiter for as long as it exists.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Bytes taken from the budget, given back on drop.
pub struct Charge {
    budget: Budget,
    /// Taken from the budget.
    held: u64,
    /// Asked for: never more than `held`.
    used: u64,
}

impl Charge {
    /// Bytes charged.
    pub fn bytes(&self) -> u64 {
        self.used
    }

    /// Charges `bytes` more if there is room; otherwise nothing changes and the answer is false.
    #[must_use]
    pub fn try_grow(&mut self, bytes: u64) -> bool {
        let Some(used) = self.used.checked_add(bytes) else { return false };
        if used > self.held {
            let missing = used - self.held;
            let step = missing.next_multiple_of(STEP);
            if self.budget.take(step) {
                self.held += step;
            } else if self.budget.take(missing) {
                self.held += missing;
            } else {
                return false;
            }
        }
        self.used = used;
        true
    }

    /// Charges `bytes` more, waiting in line for up to `wait` while there is no room. What is held already stays held.
    pub async fn grow(&mut self, bytes: u64, wait: Duration) -> Result<(), Exhausted> {
        if self.try_grow(bytes) {
            return Ok(());
        }
        let used = self.used.saturating_add(bytes);
        let missing = used - self.held;
        self.budget.take_in_line(missing, used, wait).await?;
        self.held += missing;
        self.used = used;
        Ok(())
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.give(self.held);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::thread;

    use super::*;

    const NO_WAIT: Duration = Duration::ZERO;
    const LONG: Duration = Duration::from_secs(3_600);

    #[test]
    fn what_fits_is_charged_to_the_last_byte() {
        let budget = Budget::new(100);
        let first = budget.try_charge(60).unwrap();
        assert!(budget.try_charge(41).is_none());
        let second = budget.try_charge(40).unwrap();
        assert_eq!(budget.used(), 100);
        drop(first);
        assert_eq!(budget.used(), 40);
        drop(second);
        assert_eq!(budget.used(), 0);
        assert!(budget.try_charge(u64::MAX).is_none());
    }

    #[test]
    fn what_can_be_done_without_takes_no_more_than_half() {
        let budget = Budget::new(100);
        let spare = budget.try_charge_spare(50).unwrap();
        assert!(budget.try_charge_spare(1).is_none());
        drop(spare);
        let body = budget.try_charge(60).unwrap();
        assert!(budget.try_charge_spare(1).is_none());
        drop(body);
        assert!(budget.try_charge_spare(50).is_some());
    }

    #[test]
    fn a_growing_charge_takes_steps_and_gives_all_back() {
        let budget = Budget::new(STEP * 2);
        let mut charge = budget.open();
        assert!(charge.try_grow(10) && charge.try_grow(20));
        assert_eq!((charge.bytes(), budget.used()), (30, STEP));
        let other = budget.try_charge(STEP - 5).unwrap();
        assert!(!charge.try_grow(STEP), "no room");
        assert_eq!(charge.bytes(), 30);
        assert!(charge.try_grow(STEP - 30 + 5), "the last bytes, less than a step");
        assert_eq!(budget.used(), STEP * 2);
        drop((charge, other));
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn threads_never_hold_more_than_the_total_and_leave_nothing_behind() {
        const TOTAL: u64 = 1_000;
        let budget = Budget::new(TOTAL);
        let held = AtomicU64::new(0);
        let barrier = Barrier::new(4);
        thread::scope(|scope| {
            for seed in 0..4_u64 {
                let (held, barrier) = (&held, &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    for round in 0..20_000_u64 {
                        let bytes = (round * 7 + seed * 131) % 600 + 1;
                        let Some(charge) = budget.try_charge(bytes) else { continue };
                        let now = held.fetch_add(bytes, Ordering::SeqCst) + bytes;
                        assert!(now <= TOTAL, "{now}");
                        held.fetch_sub(bytes, Ordering::SeqCst);
                        drop(charge);
                    }
                });
            }
        });
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn waiters_on_other_runtimes_are_all_served() {
        let budget = Budget::new(100);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
                    runtime.block_on(async {
                        for round in 0..2_000_u64 {
                            let mut charge = budget.charge(round % 70 + 1, LONG).await.unwrap();
                            tokio::task::yield_now().await;
                            assert!(charge.try_grow(0));
                        }
                    });
                });
            }
        });
        assert_eq!((budget.used(), budget.0.waiting.0.load(Ordering::SeqCst)), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn without_room_a_charge_waits_for_the_bounded_time() {
        let budget = Budget::new(100);
        let held = budget.try_charge(90).unwrap();
        let start = Instant::now();
        let refused = budget.charge(20, Duration::from_secs(5)).await.err();
        assert_eq!(refused, Some(Exhausted::Busy { wanted: 20, total: 100 }));
        assert_eq!(start.elapsed().as_secs(), 5);
        let waiter = tokio::spawn(async move { budget.charge(20, LONG).await.map(|charge| charge.bytes()) });
        tokio::task::yield_now().await;
        drop(held);
        assert_eq!(waiter.await.unwrap(), Ok(20));
    }

    #[tokio::test(start_paused = true)]
    async fn what_can_never_fit_is_refused_at_once() {
        let budget = Budget::new(100);
        let start = Instant::now();
        let refused = budget.charge(101, LONG).await.err();
        assert_eq!(refused, Some(Exhausted::TooLarge { wanted: 101, total: 100 }));
        let mut charge = budget.try_charge(50).unwrap();
        let refused = charge.grow(51, LONG).await;
        assert_eq!(refused, Err(Exhausted::TooLarge { wanted: 101, total: 100 }));
        assert_eq!((start.elapsed(), charge.bytes()), (NO_WAIT, 50));
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_waiter_is_not_overtaken_by_small_ones_behind_it() {
        let budget = Budget::new(100);
        let held = budget.try_charge(60).unwrap();
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        for bytes in [90, 10] {
            let tell = tell.clone();
            tokio::spawn(async move {
                let charge = budget.charge(bytes, LONG).await.unwrap();
                tell.send(bytes).unwrap();
                tokio::time::sleep(Duration::from_secs(1)).await;
                drop(charge);
            });
            tokio::task::yield_now().await;
        }
        assert!(told.try_recv().is_err(), "ten bytes would fit, but ninety wait in front");
        drop(held);
        assert_eq!((told.recv().await, told.recv().await), (Some(90), Some(10)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiter_that_gives_up_leaves_the_line() {
        let budget = Budget::new(100);
        let held = budget.try_charge(100).unwrap();
        let mut charge = budget.open();
        assert!(charge.grow(1, Duration::from_secs(1)).await.is_err());
        let second = tokio::spawn(async move { budget.charge(1, LONG).await.is_ok() });
        tokio::task::yield_now().await;
        drop(held);
        assert!(second.await.unwrap());
        assert_eq!(budget.0.waiting.0.load(Ordering::SeqCst), 0);
    }
}
