//! Deadlines of one runtime without a timer each.
//!
//! A timer armed for every chunk of every stream costs more than the chunk. Here a deadline is a slot in a slab, moving it is a
//! store into that slot, and one sweep per runtime, every [`SWEEP`], wakes the owners of those that are overdue. A deadline is
//! therefore never early and at most one sweep late. For things that need a millisecond use tokio's timers.
//!
//! Everything here belongs to one thread: no locks, no atomics.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

/// How often overdue deadlines are looked for: the most by which one can be late.
pub const SWEEP: Duration = Duration::from_millis(250);

/// What a slot without a due time holds: longer than a process lives.
const NEVER: Duration = Duration::from_secs(60 * 60 * 24 * 365 * 30);

/// What runs at every sweep, given its time.
type Hook = Box<dyn FnMut(Instant)>;

/// The deadlines of one runtime. Clones share them.
#[derive(Clone)]
pub struct Deadlines(Rc<Inner>);

struct Inner {
    slots: RefCell<Slots>,
    /// No armed slot is due before this: most sweeps look no further.
    earliest: Cell<Instant>,
    never: Instant,
    hooks: RefCell<Vec<Hook>>,
}

#[derive(Default)]
struct Slots {
    all: Vec<Slot>,
    free: Vec<usize>,
}

struct Slot {
    due: Cell<Instant>,
    fired: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Deadlines {
    /// An empty set. Nothing expires until [`Deadlines::run`] runs.
    pub fn new() -> Self {
        let now = Instant::now();
        let never = now + NEVER;
        Self(Rc::new(Inner { slots: RefCell::default(), earliest: Cell::new(never), never, hooks: RefCell::default() }))
    }

    /// An empty set with its sweep started as a local task of the current runtime.
    pub fn spawn() -> Self {
        let deadlines = Self::new();
        tokio::task::spawn_local(deadlines.clone().run());
        deadlines
    }

    /// The sweep: never returns, ends by being dropped.
    pub async fn run(self) {
        let mut ticks = interval(SWEEP);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut wakers = Vec::new();
        loop {
            ticks.tick().await;
            let now = Instant::now();
            self.0.sweep(now, &mut wakers);
            wakers.drain(..).for_each(Waker::wake);
            self.0.run_hooks(now);
        }
    }

    /// Calls `hook` at every sweep (a heartbeat, a check of idle connections) with the time of the sweep. For good.
    pub fn on_sweep(&self, hook: impl FnMut(Instant) + 'static) {
        self.0.hooks.borrow_mut().push(Box::new(hook));
    }

    /// A deadline that expires `after` from now.
    pub fn arm(&self, after: Duration) -> Deadline {
        let deadline = self.idle();
        deadline.extend(after);
        deadline
    }

    /// A deadline that does not expire until [`Deadline::extend`] says when.
    pub fn idle(&self) -> Deadline {
        let mut slots = self.0.slots.borrow_mut();
        let index = match slots.free.pop() {
            Some(index) => index,
            None => {
                slots.all.push(Slot {
                    due: Cell::new(self.0.never),
                    fired: Cell::new(false),
                    waker: RefCell::new(None),
                });
                slots.all.len() - 1
            }
        };
        Deadline { inner: Rc::clone(&self.0), index }
    }

    /// How many deadlines exist, armed or not.
    pub fn len(&self) -> usize {
        let slots = self.0.slots.borrow();
        slots.all.len() - slots.free.len()
    }

    /// Whether no deadline exists.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Default for Deadlines {
    fn default() -> Self {
        Self::new()
    }
}

impl Inner {
    /// Marks what is overdue and collects whom to wake: they are woken after the slots are let go, whatever their wakers do.
    fn sweep(&self, now: Instant, wakers: &mut Vec<Waker>) {
        if now < self.earliest.get() {
            return;
        }
        let mut earliest = self.never;
        for slot in &self.slots.borrow().all {
            let due = slot.due.get();
            if due <= now {
                slot.due.set(self.never);
                slot.fired.set(true);
                wakers.extend(slot.waker.take());
            } else {
                earliest = earliest.min(due);
            }
        }
        self.earliest.set(earliest);
    }

    /// Hooks are taken out while they run, so that one may add another.
    fn run_hooks(&self, now: Instant) {
        let mut hooks = self.hooks.take();
        for hook in &mut hooks {
            hook(now);
        }
        let mut added = self.hooks.borrow_mut();
        hooks.append(&mut added);
        *added = hooks;
    }
}

/// One deadline; dropping it frees its slot. It can be moved, disarmed and armed again any number of times.
pub struct Deadline {
    inner: Rc<Inner>,
    index: usize,
}

impl Deadline {
    /// Moves the deadline to `after` from now; arms one that was disarmed or has expired.
    pub fn extend(&self, after: Duration) {
        self.move_to(Instant::now().checked_add(after).unwrap_or(self.inner.never));
    }

    /// Moves the deadline to a time; arms one that was disarmed or has expired.
    pub fn move_to(&self, due: impl Into<Instant>) {
        let due = due.into().min(self.inner.never);
        self.with_slot(|slot| {
            slot.due.set(due);
            slot.fired.set(false);
        });
        if due < self.inner.earliest.get() {
            self.inner.earliest.set(due);
        }
    }

    /// Lets the deadline rest: it does not expire until it is extended.
    pub fn disarm(&self) {
        let never = self.inner.never;
        self.with_slot(|slot| {
            slot.due.set(never);
            slot.fired.set(false);
        });
    }

    /// Whether a sweep found the deadline overdue and nobody has moved it since.
    pub fn is_expired(&self) -> bool {
        self.with_slot(|slot| slot.fired.get())
    }

    /// Ready once expired. One task waits at a time: the last that polled is woken.
    pub fn poll_expired(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.with_slot(|slot| {
            if slot.fired.get() {
                return Poll::Ready(());
            }
            let mut waker = slot.waker.borrow_mut();
            if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                *waker = Some(cx.waker().clone());
            }
            Poll::Pending
        })
    }

    /// Returns once expired; see [`Deadline::poll_expired`].
    pub async fn expired(&self) {
        poll_fn(|cx| self.poll_expired(cx)).await;
    }

    fn with_slot<T>(&self, act: impl FnOnce(&Slot) -> T) -> T {
        act(&self.inner.slots.borrow().all[self.index])
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        self.disarm();
        // Dropped outside the borrow: a waker may own the last reference to something that holds a deadline itself.
        let waker = self.with_slot(|slot| slot.waker.take());
        self.inner.slots.borrow_mut().free.push(self.index);
        drop(waker);
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::LocalSet;
    use tokio::time::sleep;

    use super::*;

    async fn with_deadlines<F: Future<Output = ()>>(test: impl FnOnce(Deadlines) -> F) {
        LocalSet::new().run_until(async { test(Deadlines::spawn()).await }).await;
    }

    #[tokio::test(start_paused = true)]
    async fn expires_within_a_sweep_after_its_time_and_never_before() {
        with_deadlines(|deadlines| async move {
            for millis in [0, 1, 249, 250, 251, 1_000, 12_345] {
                sleep(Duration::from_millis(millis % 97)).await;
                let after = Duration::from_millis(millis);
                let start = Instant::now();
                deadlines.arm(after).expired().await;
                let took = start.elapsed();
                assert!(took >= after && took <= after + SWEEP + Duration::from_millis(1), "{after:?} took {took:?}");
            }
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn extending_moves_it_in_both_directions() {
        with_deadlines(|deadlines| async move {
            let deadline = deadlines.arm(Duration::from_secs(1));
            for _ in 0..10 {
                sleep(Duration::from_millis(900)).await;
                assert!(!deadline.is_expired());
                deadline.extend(Duration::from_secs(1));
            }
            deadline.extend(Duration::from_secs(600));
            let start = Instant::now();
            deadline.extend(Duration::from_secs(2));
            deadline.expired().await;
            assert!(start.elapsed() < Duration::from_millis(2_300));
            deadline.extend(Duration::from_secs(1));
            assert!(!deadline.is_expired(), "an expired deadline can be armed again");
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_disarmed_deadline_does_not_expire() {
        with_deadlines(|deadlines| async move {
            let deadline = deadlines.arm(Duration::from_secs(1));
            deadline.disarm();
            let waited = tokio::time::timeout(Duration::from_secs(3_600), deadline.expired()).await;
            assert!(waited.is_err());
            deadline.extend(Duration::MAX);
            let waited = tokio::time::timeout(Duration::from_secs(3_600), deadline.expired()).await;
            assert!(waited.is_err());
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn slots_are_reused_and_bring_nothing_of_their_past() {
        with_deadlines(|deadlines| async move {
            let first = deadlines.arm(Duration::ZERO);
            first.expired().await;
            drop(first);
            assert!(deadlines.is_empty());
            let second = deadlines.arm(Duration::from_secs(5));
            assert!(!second.is_expired());
            let third = deadlines.arm(Duration::from_secs(5));
            assert_eq!((deadlines.len(), second.index, third.index), (2, 0, 1));
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn many_expire_in_one_sweep_and_each_owner_is_woken() {
        with_deadlines(|deadlines| async move {
            let all: Vec<_> = (0..1_000).map(|i| deadlines.arm(Duration::from_millis(100 + i % 100))).collect();
            let late = deadlines.arm(Duration::from_secs(60));
            futures::future::join_all(all.iter().map(Deadline::expired)).await;
            assert!(!late.is_expired());
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn hooks_run_at_every_sweep() {
        with_deadlines(|deadlines| async move {
            let beats = Rc::new(Cell::new(0));
            let hook = Rc::clone(&beats);
            let inner = deadlines.clone();
            deadlines.on_sweep(move |_| {
                hook.set(hook.get() + 1);
                if hook.get() == 1 {
                    let hook = Rc::clone(&hook);
                    inner.on_sweep(move |_| hook.set(hook.get() + 100));
                }
            });
            sleep(SWEEP * 4).await;
            assert!(beats.get() >= 200, "{}", beats.get());
        })
        .await;
    }
}
