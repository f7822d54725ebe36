//! The listeners for applications: accept, hand each connection to the least busy runtime, and drain.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;

use super::door::Door;
use super::drain::Stage;
use super::shard::{self, Handover, Shared};

/// Least time between two lines of the log about connections that cannot be accepted.
const COMPLAINT: Duration = Duration::from_secs(10);
/// Threads of a runtime for look-ups of names and for looking at large bodies: more would only take turns on the same cores.
const BLOCKING_THREADS: usize = 8;
/// Connections that the kernel completes for a listener before they are accepted: the backlog that tokio asks for.
const ACCEPT_QUEUE: usize = 1024;
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
    /// How long a pod that is going away serves on, so that load balancers notice.
    pub readiness_delay: Duration,
    /// How long open requests have after that.
    pub drain_timeout: Duration,
    /// Most connections of applications at one time, on all ports together; more wait in the kernel's queue.
    pub max_connections: usize,
}

/// A gateway that serves.
pub struct Serving {
    /// The address it listens on.
    pub address: SocketAddr,
    /// The address of the preview.
    pub preview: Option<SocketAddr>,
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
    let preview = match options.preview {
        Some(address) => Some(bind(Door::Preview, address).await?),
        None => None,
    };
    let preview_address = preview.as_ref().map(TcpListener::local_addr).transpose()?;
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
    let limit = Arc::new(Semaphore::new(options.max_connections));
    let listeners = [(Door::Main, Some(main)), (Door::Preview, preview)];
    let accepting = listeners.into_iter().filter_map(|(door, listener)| {
        let entrance = Entrance { door, listener: listener?, limit: limit.clone() };
        Some(tokio::spawn(accept(entrance, shared.clone(), handovers.clone(), stopped.clone())))
    });
    let accepting = accepting.collect();
    Ok(Serving { address, preview: preview_address, shared, options, stop, accepting, runtimes })
}

async fn bind(door: Door, address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|source| StartError::Listen { door, address, source })
}

/// A listener, and the room that all of them share.
struct Entrance {
    door: Door,
    listener: TcpListener,
    limit: Arc<Semaphore>,
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
    let Entrance { door, listener, limit } = entrance;
    if let Ok(listener) = listener.into_std() {
        empty_queue(&listener, door, &limit, |handover| hand_over(handover, &shared, &handovers));
    }
}

/// Accepts what the kernel has accepted by now, without waiting. Bounded, as those that connect without a pause must not hold up the end.
fn empty_queue(
    listener: &std::net::TcpListener,
    door: Door,
    limit: &Arc<Semaphore>,
    mut hand_over: impl FnMut(Handover),
) {
    for _ in 0..ACCEPT_QUEUE {
        let Ok(permit) = limit.clone().try_acquire_owned() else { return };
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
        let permit = self.limit.clone().acquire_owned().await.map_err(io::Error::other)?;
        let (stream, _) = self.listener.accept().await?;
        stream.set_nodelay(true)?;
        Ok(Handover { stream: stream.into_std()?, door: self.door, permit })
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
    use super::*;

    #[test]
    fn what_waits_in_the_kernel_is_taken_over_to_the_last() {
        const WAITING: usize = 100;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let clients: Vec<_> = (0..WAITING).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
        let mut taken = Vec::new();
        empty_queue(&listener, Door::Main, &Arc::new(Semaphore::new(1_000)), |handover| taken.push(handover));
        assert_eq!((taken.len(), clients.len()), (WAITING, WAITING));
    }
}
