//! The listener for applications: accepts, hands each connection to the least busy runtime, and drains.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::drain::Stage;
use super::shard::{self, Handover, Shared};

/// Most connections of one pod.
const MAX_CONNECTIONS: usize = 20_000;
/// How long streams have for their error event after the cutoff.
const CUTOFF_GRACE: Duration = Duration::from_secs(5);
/// How often a drain looks whether all connections have ended.
const DRAIN_POLL: Duration = Duration::from_millis(50);

/// How to serve.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// Where applications connect.
    pub listen: SocketAddr,
    /// How long a pod that is going away serves on, so that load balancers notice.
    pub readiness_delay: Duration,
    /// How long open requests have after that.
    pub drain_timeout: Duration,
}

/// A gateway that serves.
pub struct Serving {
    /// The address it listens on.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    options: ServeOptions,
    stop: oneshot::Sender<()>,
    runtimes: Vec<JoinHandle<()>>,
}

/// Binds the listener and starts the runtimes: one thread each, as many as `shared` has loads for.
pub async fn start(options: ServeOptions, shared: Arc<Shared>) -> io::Result<Serving> {
    let listener = TcpListener::bind(options.listen).await?;
    let address = listener.local_addr()?;
    let mut runtimes = Vec::new();
    let mut handovers = Vec::new();
    for index in 0..shared.loads.len() {
        let (sender, receiver) = mpsc::unbounded_channel();
        handovers.push(sender);
        let shared = shared.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let body = move || {
            // A runtime that ends any other way than by the drain takes the process along: half a gateway helps nobody.
            let guard = AbortOnPanic;
            tokio::task::LocalSet::new().block_on(&runtime, shard::run(index, shared, receiver));
            std::mem::forget(guard);
        };
        runtimes.push(std::thread::Builder::new().name(format!("runtime-{index}")).spawn(body)?);
    }
    let (stop, stopped) = oneshot::channel();
    tokio::spawn(accept(listener, shared.clone(), handovers, stopped));
    Ok(Serving { address, shared, options, stop, runtimes })
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
    listener: TcpListener,
    shared: Arc<Shared>,
    handovers: Vec<mpsc::UnboundedSender<Handover>>,
    mut stopped: oneshot::Receiver<()>,
) {
    let limit = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(permit) = limit.clone().acquire_owned().await else { return };
        let accepted = tokio::select! {
            biased;
            accepted = listener.accept() => accepted,
            _ = &mut stopped => return,
        };
        let stream = match accepted.and_then(|(stream, _)| {
            stream.set_nodelay(true)?;
            stream.into_std()
        }) {
            Ok(stream) => stream,
            Err(error) => {
                // Out of file descriptors, most likely: what is open goes on, and ends sooner or later.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            }
        };
        let least = shared.loads.iter().enumerate().min_by_key(|(_, load)| load.rank()).map_or(0, |(index, _)| index);
        // Here, not where it is taken over: the next of a burst must see it, and so must a drain.
        shared.loads[least].hand_over();
        if handovers[least].send(Handover { stream, permit }).is_err() {
            return;
        }
    }
}

impl Serving {
    /// Takes the pod out of service: serves on for the readiness delay, stops accepting, lets open requests end, and cuts off what is
    /// left at the timeout.
    pub async fn drain(self) {
        let Self { shared, options, stop, runtimes, .. } = self;
        shared.drain.advance(Stage::Closing);
        tokio::time::sleep(options.readiness_delay).await;
        shared.drain.advance(Stage::Stopping);
        let _ = stop.send(());
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
