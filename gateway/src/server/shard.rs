//! One runtime: a thread with its connections, its upstream pool and its counters.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bifrost_config::Shadow;
use http::HeaderValue;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::JoinSet;

use super::connection::{self, ConnectionState};
use super::door::Door;
use super::drain::{Drain, Stage};
use crate::allocator;
use crate::deadline::Deadlines;
use crate::memory::Budget;
use crate::snapshot::{Current, Snapshot};
use crate::telemetry::{Gatherer, Heartbeats, Metrics, Recorder, Tracked};
use crate::upstream::connect::Connector;
use crate::upstream::pool::Pool;

/// Silence after which a draining pod closes a connection. At once would cut requests that are on their way.
pub(super) const DRAIN_SILENCE: Duration = Duration::from_secs(2);
/// Least time between two lines of the log about one pool key.
const COMPLAINT: Duration = Duration::from_secs(5);
/// Sweeps between two clean-ups: of the upstream pool, and of memory that nothing uses.
const CLEAN_UP: u32 = 20;

/// What all runtimes share.
pub struct Shared {
    /// The configuration that new requests take.
    pub current: Arc<Current>,
    /// Bytes that bodies may take.
    pub budget: Budget,
    /// How far the pod is on its way out.
    pub drain: Drain,
    /// Makes upstream connections.
    pub connector: Connector,
    /// Counters of all runtimes.
    pub gatherer: Arc<Gatherer>,
    /// Signs of life of all runtimes.
    pub heartbeats: Arc<Heartbeats>,
    /// Set where `/metrics` is served to the applications too.
    pub metrics_for_apps: Option<Arc<Metrics>>,
    /// The revision of the candidate that this pod is of; none in a pod of the stable one.
    pub candidate: Option<HeaderValue>,
    /// How busy each runtime is.
    pub loads: Box<[Load]>,
}

/// How busy a runtime is. Written by that runtime only, but for connections that are handed to it.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Load {
    requests: AtomicU32,
    connections: AtomicU32,
}

impl Load {
    /// What the acceptor compares: open requests, then connections.
    pub fn rank(&self) -> (u32, u32) {
        (self.requests.load(Ordering::Relaxed), self.connections.load(Ordering::Relaxed))
    }

    /// Counts a connection that is handed to the runtime; it is counted until it ends there.
    pub(super) fn hand_over(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    /// Open connections.
    pub fn connections(&self) -> u32 {
        self.connections.load(Ordering::Relaxed)
    }
}

/// A connection on its way to a runtime.
pub struct Handover {
    /// The socket, not yet registered with a runtime.
    pub stream: std::net::TcpStream,
    /// By which port it came.
    pub door: Door,
    /// Its share of the connection limit.
    pub permit: Permit,
}

/// A connection's share of what all doors may have together, and of what its own may.
pub struct Permit {
    pub(super) _shared: OwnedSemaphorePermit,
    pub(super) _own: Option<OwnedSemaphorePermit>,
}

/// The configuration of one request, counted within the runtime: a count that all runtimes share would go from core to core with
/// every request.
pub type LocalSnapshot = Rc<Arc<Snapshot>>;

/// The configuration in use, and that of the candidate once a request has taken it.
struct Held {
    stable: LocalSnapshot,
    tried: Option<LocalSnapshot>,
}

/// One runtime's own things.
pub struct Shard {
    index: usize,
    /// What all runtimes share.
    pub shared: Arc<Shared>,
    /// Upstream connections.
    pub pool: Rc<Pool>,
    /// Upstream connections of copies: they take none that a client's request could use.
    pub copies: Rc<Pool>,
    /// Deadlines of connections and requests.
    pub deadlines: Deadlines,
    /// Counters.
    pub recorder: Rc<Recorder>,
    snapshot: RefCell<Option<Held>>,
    /// In a pod of a candidate: what it served of it last.
    as_candidate: RefCell<Option<LocalSnapshot>>,
    connections: RefCell<Vec<Weak<ConnectionState>>>,
    complaints: RefCell<HashMap<Box<str>, Instant>>,
}

/// Counts an open request while it lives.
pub struct OpenRequest {
    shard: Rc<Shard>,
    _tracked: Tracked,
}

impl Shard {
    /// The configuration for a new request.
    pub fn snapshot(&self) -> Option<LocalSnapshot> {
        let current = self.shared.current.load();
        let current = current.as_ref()?;
        let mut held = self.snapshot.borrow_mut();
        match &*held {
            Some(held) if Arc::ptr_eq(&held.stable, current) => Some(held.stable.clone()),
            _ => {
                let stable = Rc::new(current.clone());
                *held = Some(Held { stable: stable.clone(), tried: None });
                Some(stable)
            }
        }
    }

    /// The candidate beside the configuration of a request, for that request.
    pub fn candidate(&self, stable: &LocalSnapshot, tried: &Arc<Snapshot>) -> LocalSnapshot {
        match &mut *self.snapshot.borrow_mut() {
            Some(held) if Rc::ptr_eq(&held.stable, stable) => {
                held.tried.get_or_insert_with(|| Rc::new(tried.clone())).clone()
            }
            // Another one came into use since.
            _ => Rc::new(tried.clone()),
        }
    }

    /// In a pod of a candidate: its configuration, or the last there was.
    pub fn as_candidate(&self, held: Option<LocalSnapshot>) -> Option<LocalSnapshot> {
        let mut last = self.as_candidate.borrow_mut();
        if held.is_some() {
            *last = held;
        }
        last.clone()
    }

    /// Whether something that may come with every request should be logged now: about one pool key not more often than every few
    /// seconds, as each line holds up all requests of the runtime.
    pub fn may_complain(&self, key: &str) -> bool {
        let now = Instant::now();
        let mut complaints = self.complaints.borrow_mut();
        let may = complaints.get(key).is_none_or(|last| now - *last > COMPLAINT);
        if may {
            complaints.retain(|_, last| now - *last <= COMPLAINT);
            complaints.insert(key.into(), now);
        }
        may
    }

    /// Counts a request as open.
    pub fn open_request(self: &Rc<Self>) -> OpenRequest {
        self.load().requests.fetch_add(1, Ordering::Relaxed);
        OpenRequest { shard: self.clone(), _tracked: self.recorder.track_request() }
    }

    fn load(&self) -> &Load {
        &self.shared.loads[self.index]
    }

    /// Puts connections that wait for a request under the drain's short silence, and wakes the others at the cutoff.
    fn on_stage(&self, stage: Stage) {
        let mut connections = self.connections.borrow_mut();
        connections.retain(|connection| connection.strong_count() > 0);
        for connection in connections.iter().filter_map(Weak::upgrade) {
            match stage {
                Stage::Stopping => connection.shorten_silence(DRAIN_SILENCE),
                Stage::Cutoff => connection.wake(),
                Stage::Serving | Stage::Closing => {}
            }
        }
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.shard.load().requests.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Runs a runtime's work on its own thread until no connection can come any more and all have ended.
pub async fn run(index: usize, shared: Arc<Shared>, mut incoming: mpsc::UnboundedReceiver<Handover>) {
    let (recorder, answering) = Recorder::register(&shared.gatherer);
    tokio::task::spawn_local(answering);
    let shard = Rc::new(Shard {
        index,
        pool: Pool::new(shared.connector.clone()),
        copies: Pool::new(shared.connector.clone()),
        deadlines: Deadlines::spawn(),
        recorder,
        snapshot: RefCell::default(),
        as_candidate: RefCell::default(),
        connections: RefCell::default(),
        complaints: RefCell::default(),
        shared,
    });
    watch(&shard);
    let mut open = JoinSet::new();
    loop {
        let handover = tokio::select! {
            handover = incoming.recv() => handover,
            Some(_) = open.join_next() => continue,
        };
        let Some(Handover { stream, door, permit }) = handover else { break };
        let Ok(stream) = tokio::net::TcpStream::from_std(stream) else {
            shard.load().connections.fetch_sub(1, Ordering::Relaxed);
            continue;
        };
        let state = ConnectionState::new(&shard, door);
        {
            let mut connections = shard.connections.borrow_mut();
            if connections.len() == connections.capacity() {
                connections.retain(|connection| connection.strong_count() > 0);
            }
            connections.push(Rc::downgrade(&state));
        }
        let shard = shard.clone();
        open.spawn_local(async move {
            // A panic is one request's end, and its connection's, not the runtime's: the count holds either way.
            let _open =
                OpenConnection { _tracked: shard.recorder.track_connection(), shard: shard.clone(), _permit: permit };
            connection::serve(shard, state, stream).await;
        });
    }
    while open.join_next().await.is_some() {}
}

/// Counts an open connection while it lives.
struct OpenConnection {
    shard: Rc<Shard>,
    _tracked: Tracked,
    _permit: Permit,
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.shard.load().connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What every sweep does besides the deadlines: a sign of life, the drain's stages, clean-ups.
fn watch(shard: &Rc<Shard>) {
    let weak = Rc::downgrade(shard);
    let mut stage = Stage::Serving;
    let mut sweeps = 0u32;
    shard.deadlines.on_sweep(move |_| {
        let Some(shard) = weak.upgrade() else { return };
        shard.shared.heartbeats.beat(shard.index);
        // An idle runtime lets go of a configuration that was replaced, and of its keys.
        let snapshot = shard.snapshot();
        let shadow = snapshot.as_ref().and_then(|snapshot| snapshot.traffic().shadow.as_ref());
        shard.shared.gatherer.shadow().tick(shadow.map_or(0, Shadow::daily_limit_of_a_pod));
        let now = shard.shared.drain.stage();
        if now != stage {
            stage = now;
            shard.on_stage(now);
        }
        sweeps = sweeps.wrapping_add(1);
        if sweeps.is_multiple_of(CLEAN_UP) {
            shard.pool.sweep();
            shard.copies.sweep();
            allocator::give_back_unused();
        }
    });
}
