//! The listeners for applications: accept, hand each connection to the least busy runtime, and drain.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::sync::{AcquireError, Semaphore, TryAcquireError, mpsc, watch};
use tokio::task::JoinHandle;

use super::door::Door;
use super::drain::Stage;
use super::shard::{self, Handover, Permit, Shared};

/// Least time between two lines of the log about connections that cannot be accepted.
const COMPLAINT: Duration = Duration::from_secs(10);
/// Threads of a runtime for look-ups of names and for looking at large bodies: more would only take turns on the same cores.
const BLOCKING_THREADS: usize = 8;
/// Connections that the kernel completes for a listener before they are accepted: the backlog that tokio asks for.
const ACCEPT_QUEUE: usize = 1024;
/// The preview's port may have this part of the connections: it is for a few testers, and must not shut the applications out.
const PREVIEW_PART: usize = 8;
/// How long streams have for their error event after the cutoff.
const CUTOFF_GRACE: Duration = Duration::from_secs(5);
/// How often a drain looks whether all connections have ended.
const DRAIN_POLL: Duration = Duration::from_millis(50);

/// How to serve.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// Where applications connect.
    pub listen: SocketAddr,
    /// Where the preview is, if it has a port.
    pub preview: Option<SocketAddr>,
    /// Where other pods of the gateway forward a candidate's requests to, if there is a port for that.
    pub forward: Option<SocketAddr>,
    /// How long a pod that is going away serves on, so that load balancers notice.
    pub readiness_delay: Duration,
    /// How long open requests have after that.
    pub drain_timeout: Duration,
    /// Most connections of applications at one time, on all ports together, and on the preview's an eighth of them; more wait in the
    /// kernel's queue.
    pub max_connections: usize,
}

/// A gateway that serves.
pub struct Serving {
    /// The address it listens on.
    pub address: SocketAddr,
    /// The address of the preview.
    pub preview: Option<SocketAddr>,
    /// The address for forwarded requests.
    pub forward: Option<SocketAddr>,
    shared: Arc<Shared>,
    options: ServeOptions,
    stop: watch::Sender<()>,
    accepting: Vec<JoinHandle<()>>,
    runtimes: Vec<std::thread::JoinHandle<()>>,
}

/// Why a gateway does not serve.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A port.
    #[error("the {door} port cannot be opened at {address}: {source}")]
    Listen {
        /// Whose port.
        door: Door,
        /// Where.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The system refuses what every process gets.
    #[error(transparent)]
    System(#[from] io::Error),
}

/// Binds the listeners and starts the runtimes: one thread each, as many as `shared` has loads for.
pub async fn start(options: ServeOptions, shared: Arc<Shared>) -> Result<Serving, StartError> {
    let main = bind(Door::Main, options.listen).await?;
    let address = main.local_addr()?;
    let preview = bind_if_any(Door::Preview, options.preview).await?;
    let preview_address = preview.as_ref().map(TcpListener::local_addr).transpose()?;
    let forward = bind_if_any(Door::Forwarded, options.forward).await?;
    let forward_address = forward.as_ref().map(TcpListener::local_addr).transpose()?;
    let mut runtimes = Vec::new();
    let mut handovers = Vec::new();
    for index in 0..shared.loads.len() {
        let (sender, receiver) = mpsc::unbounded_channel();
        handovers.push(sender);
        let shared = shared.clone();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS)
            .build()?;
        let body = move || {
            // A runtime that ends any other way than by the drain takes the process along: half a gateway helps nobody.
            let guard = AbortOnPanic;
            tokio::task::LocalSet::new().block_on(&runtime, shard::run(index, shared, receiver));
            // A look-up that hangs in a thread of its own must not hold up the exit.
            runtime.shutdown_background();
            std::mem::forget(guard);
        };
        runtimes.push(std::thread::Builder::new().name(format!("runtime-{index}")).spawn(body)?);
    }
    let (stop, stopped) = watch::channel(());
    let room = Room::new(options.max_connections);
    let mut accepting = Vec::new();
    for (door, listener) in [(Door::Main, Some(main)), (Door::Preview, preview), (Door::Forwarded, forward)] {
        let Some(listener) = listener else { continue };
        let entrance = Entrance { door, listener, room: room.behind(door) };
        accepting.push(tokio::spawn(accept(entrance, shared.clone(), handovers.clone(), stopped.clone())));
    }
    let (preview, forward) = (preview_address, forward_address);
    Ok(Serving { address, preview, forward, shared, options, stop, accepting, runtimes })
}

async fn bind_if_any(door: Door, address: Option<SocketAddr>) -> Result<Option<TcpListener>, StartError> {
    match address {
        Some(address) => bind(door, address).await.map(Some),
        None => Ok(None),
    }
}

async fn bind(door: Door, address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|source| StartError::Listen { door, address, source })
}

/// A listener, and the room behind it.
struct Entrance {
    door: Door,
    listener: TcpListener,
    room: Room,
}

/// Room for connections: what all doors share, and within it what one of them may have at the most.
#[derive(Clone)]
struct Room {
    shared: Arc<Semaphore>,
    own: Option<Arc<Semaphore>>,
    most: usize,
}

impl Room {
    fn new(most: usize) -> Self {
        Self { shared: Arc::new(Semaphore::new(most)), own: None, most }
    }

    /// The same room as one door has it.
    fn behind(&self, door: Door) -> Self {
        let own = match door {
            // What is forwarded is all that a pod of a candidate has.
            Door::Main | Door::Forwarded => None,
            Door::Preview => Some(Arc::new(Semaphore::new((self.most / PREVIEW_PART).max(1)))),
        };
        Self { own, ..self.clone() }
    }

    /// Waits until there is room for one more.
    async fn enter(&self) -> Result<Permit, AcquireError> {
        let own = match &self.own {
            Some(own) => Some(own.clone().acquire_owned().await?),
            None => None,
        };
        Ok(Permit { _shared: self.shared.clone().acquire_owned().await?, _own: own })
    }

    fn try_enter(&self) -> Result<Permit, TryAcquireError> {
        let own = self.own.as_ref().map(|own| own.clone().try_acquire_owned()).transpose()?;
        Ok(Permit { _shared: self.shared.clone().try_acquire_owned()?, _own: own })
    }
}

struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        tracing::error!("a runtime has ended; the process ends with it");
        std::process::abort();
    }
}

/// Accepts until told to stop, then takes what is already in the accept queue.
async fn accept(
    entrance: Entrance,
    shared: Arc<Shared>,
    handovers: Vec<mpsc::UnboundedSender<Handover>>,
    mut stopped: watch::Receiver<()>,
) {
    let mut complained: Option<Instant> = None;
    loop {
        let accepted = tokio::select! {
            accepted = entrance.next() => accepted,
            _ = stopped.changed() => break,
        };
        match accepted {
            Ok(handover) => hand_over(handover, &shared, &handovers),
            Err(error) => {
                // Out of file descriptors, most likely: what is open goes on, and ends sooner or later.
                if complained.is_none_or(|last| last.elapsed() > COMPLAINT) {
                    complained = Some(Instant::now());
                    tracing::warn!(%error, port = %entrance.door, "connections cannot be accepted");
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
    let Entrance { door, listener, room } = entrance;
    if let Ok(listener) = listener.into_std() {
        empty_queue(&listener, door, &room, |handover| hand_over(handover, &shared, &handovers));
    }
}

/// Accepts what the kernel has accepted by now, without waiting. Bounded, as those that connect without a pause must not hold up the end.
fn empty_queue(listener: &std::net::TcpListener, door: Door, room: &Room, mut hand_over: impl FnMut(Handover)) {
    for _ in 0..ACCEPT_QUEUE {
        let Ok(permit) = room.try_enter() else { return };
        match listener.accept() {
            Ok((stream, _)) => {
                if stream.set_nonblocking(true).and_then(|()| stream.set_nodelay(true)).is_ok() {
                    hand_over(Handover { stream, door, permit });
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            // One that left while it waited says nothing of the others.
            Err(_) => {}
        }
    }
}

impl Entrance {
    /// The next connection, once there is room for one.
    async fn next(&self) -> io::Result<Handover> {
        loop {
            let permit = self.room.enter().await.map_err(io::Error::other)?;
            let looked = poll_fn(|cx| Poll::Ready(self.listener.poll_accept(cx))).await;
            if let Poll::Ready(accepted) = looked {
                let (stream, _) = accepted?;
                stream.set_nodelay(true)?;
                return Ok(Handover { stream: stream.into_std()?, door: self.door, permit });
            }
            // A door that nobody comes to must not keep the room of another.
            drop(permit);
            futures::pending!();
        }
    }
}

/// Gives a connection to the runtime with the least to do.
fn hand_over(handover: Handover, shared: &Shared, handovers: &[mpsc::UnboundedSender<Handover>]) {
    let least = shared.loads.iter().enumerate().min_by_key(|(_, load)| load.rank()).map_or(0, |(index, _)| index);
    // Here, not where it is taken over: the next of a burst must see it, and so must a drain.
    shared.loads[least].hand_over();
    // A runtime that has ended ends the process.
    let _ = handovers[least].send(handover);
}

impl Serving {
    /// Takes the pod out of service: serves on for the readiness delay, stops accepting, lets open requests end, and cuts off what is
    /// left at the timeout.
    pub async fn drain(self) {
        let Self { shared, options, stop, accepting, runtimes, .. } = self;
        shared.drain.advance(Stage::Closing);
        tokio::time::sleep(options.readiness_delay).await;
        shared.drain.advance(Stage::Stopping);
        let _ = stop.send(());
        // What it still takes over counts as open from then on.
        for accepting in accepting {
            let _ = accepting.await;
        }
        let open = || shared.loads.iter().map(super::shard::Load::connections).sum::<u32>();
        let closed = async {
            while open() > 0 {
                tokio::time::sleep(DRAIN_POLL).await;
            }
        };
        if tokio::time::timeout(options.drain_timeout, closed).await.is_err() {
            tracing::warn!(connections = open(), "the drain's time is up: open streams are cut off");
            shared.drain.advance(Stage::Cutoff);
            let _ = tokio::time::timeout(CUTOFF_GRACE, async {
                while open() > 0 {
                    tokio::time::sleep(DRAIN_POLL).await;
                }
            })
            .await;
        }
        for runtime in runtimes {
            if open() > 0 && !runtime.is_finished() {
                // What still hangs ends with the process.
                continue;
            }
            let _ = tokio::task::spawn_blocking(move || runtime.join()).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    async fn entrance(door: Door, room: &Room) -> (Entrance, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (Entrance { door, listener, room: room.behind(door) }, address)
    }

    #[tokio::test]
    async fn what_waits_in_the_kernel_is_taken_over_to_the_last() {
        const WAITING: usize = 100;
        let (Entrance { door, listener, room }, address) = entrance(Door::Main, &Room::new(1_000)).await;
        let clients: Vec<_> = (0..WAITING).map(|_| TcpStream::connect(address).unwrap()).collect();
        let mut taken = Vec::new();
        empty_queue(&listener.into_std().unwrap(), door, &room, |handover| taken.push(handover));
        assert_eq!((taken.len(), clients.len()), (WAITING, WAITING));
    }

    #[tokio::test]
    async fn a_door_that_nobody_comes_to_takes_no_room() {
        let room = Room::new(1);
        let (preview, _) = entrance(Door::Preview, &room).await;
        let (main, address) = entrance(Door::Main, &room).await;
        let waiting = tokio::spawn(async move { preview.next().await.map(drop) });
        tokio::task::yield_now().await;
        let _client = TcpStream::connect(address).unwrap();
        tokio::time::timeout(PATIENCE, main.next()).await.expect("there is no room").unwrap();
        waiting.abort();
    }

    #[tokio::test]
    async fn no_more_than_the_limit_are_open_and_the_rest_waits_in_the_kernel() {
        let (main, address) = entrance(Door::Main, &Room::new(2)).await;
        let clients: Vec<_> = (0..3).map(|_| TcpStream::connect(address).unwrap()).collect();
        let mut open = vec![main.next().await.unwrap(), main.next().await.unwrap()];
        let third = main.next();
        tokio::pin!(third);
        assert!(futures::poll!(&mut third).is_pending());
        // Not accepted either: it is still in the queue.
        main.listener.accept().await.unwrap();
        let _fourth = TcpStream::connect(address).unwrap();
        assert!(futures::poll!(&mut third).is_pending());
        open.pop();
        tokio::time::timeout(PATIENCE, third).await.expect("it waits for ever").unwrap();
        assert_eq!(clients.len(), 3);
    }

    #[tokio::test]
    async fn the_preview_cannot_shut_the_applications_out() {
        let room = Room::new(2 * PREVIEW_PART);
        let (preview, preview_address) = entrance(Door::Preview, &room).await;
        let (main, address) = entrance(Door::Main, &room).await;
        let mut open = Vec::new();
        let clients: Vec<_> = (0..3).map(|_| TcpStream::connect(preview_address).unwrap()).collect();
        for _ in 0..2 {
            open.push(preview.next().await.unwrap());
        }
        assert!(preview.room.try_enter().is_err());
        for _ in 0..2 * PREVIEW_PART - 2 {
            let _client = TcpStream::connect(address).unwrap();
            open.push(tokio::time::timeout(PATIENCE, main.next()).await.expect("there is no room").unwrap());
        }
        assert!(main.room.try_enter().is_err());
        assert_eq!((open.len(), clients.len()), (2 * PREVIEW_PART, 3));
    }
}
