//! Puts the gateway together and runs it until it is told to stop.
//!
//! The main thread has a runtime of its own for what must not wait for requests: the source, the admin port, the acceptor.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::args::{Options, SourceOptions};
use super::{CliError, open_files};
use crate::admin::reach::Reach;
use crate::admin::{self, Admin};
use crate::memory::{self, Budget};
use crate::server::{self, ServeOptions, Shared};
use crate::shadow;
use crate::snapshot::Current;
use crate::source::Store;
use crate::source::file::FileSource;
use crate::source::kubernetes::{self, ClusterHandle};
use crate::telemetry::{Gatherer, Heartbeats, Metrics};
use crate::upstream::connect::Connector;
use crate::upstream::resolve::Resolver;
use crate::upstream::tls::TlsRoots;

/// Serves until a signal, then drains.
pub(super) fn run(options: Options) -> Result<(), CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(serve(options));
    // A look-up or a disk that hangs in a blocking thread must not hold up the exit.
    runtime.shutdown_background();
    result
}

async fn serve(options: Options) -> Result<(), CliError> {
    // First, so that a signal during the start is not lost.
    let mut stop = StopSignals::new()?;
    let admin_listener =
        TcpListener::bind(options.admin).await.map_err(|error| taken(options.admin, "--admin-port", error))?;
    let gatherer = Arc::new(match options.source {
        SourceOptions::Cluster(_) => Gatherer::new(),
        // Only an operator asks how the arms compare.
        SourceOptions::File(_) => Gatherer::without_windows(),
    });
    let current = Arc::new(Current::default());
    let store = Store::new(
        current.clone(),
        gatherer.clone(),
        TlsRoots::from_environment()?,
        options.candidate.as_ref().and_then(|own| own.to_str().ok()).map(str::to_owned),
    );
    let cluster = start_source(&options.source, &store).await?;
    if let SourceOptions::Cluster(cluster) = &options.source
        && let Some(dir) = &cluster.state_dir
    {
        tokio::spawn(shadow::saved::keep(gatherer.shadow().clone(), dir.clone()));
    }
    let shown = store.clone();
    let metrics = Arc::new(Metrics::new(gatherer.clone(), move || shown.status()));
    let shared = Arc::new(share(&options, current, gatherer.clone(), metrics.clone()));
    let admin = Admin {
        store,
        gatherer,
        metrics,
        heartbeats: shared.heartbeats.clone(),
        is_draining: Box::new({
            let shared = shared.clone();
            move || shared.drain.has_begun()
        }),
        reach: Reach::new(shared.connector.clone()),
        cluster,
    };
    let max_connections = open_files::raise_limit().max_connections();
    let serve_options = ServeOptions {
        listen: options.listen,
        preview: options.preview,
        forward: options.forward,
        readiness_delay: options.readiness_delay,
        drain_timeout: options.drain_timeout,
        max_connections,
    };
    let serving = server::start(serve_options, shared).await?;
    tokio::spawn(admin::serve(admin_listener, Arc::new(admin)));
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        address = %serving.address,
        preview = serving.preview.map(tracing::field::display),
        forward = serving.forward.map(tracing::field::display),
        candidate = ?options.candidate,
        admin = %options.admin,
        runtimes = options.threads,
        max_connections,
        "serving"
    );
    stop.next().await;
    tracing::info!(readiness_delay = ?options.readiness_delay, timeout = ?options.drain_timeout, "draining");
    tokio::select! {
        () = serving.drain() => tracing::info!("drained"),
        () = stop.next() => tracing::warn!("told to stop once more: open requests are cut off"),
    }
    Ok(())
}

/// Takes a configuration into use, and follows it from then on.
async fn start_source(source: &SourceOptions, store: &Arc<Store>) -> Result<Option<ClusterHandle>, CliError> {
    match source {
        SourceOptions::File(path) => {
            let source = FileSource::start(path.clone(), |name| std::env::var(name).ok(), store.clone())?;
            tokio::spawn(source.follow());
            Ok(None)
        }
        SourceOptions::Cluster(cluster) => {
            let client = kubernetes::client().map_err(CliError::Cluster)?;
            Ok(Some(kubernetes::start(cluster.clone(), client, store.clone()).await))
        }
    }
}

/// What the runtimes share.
fn share(options: &Options, current: Arc<Current>, gatherer: Arc<Gatherer>, metrics: Arc<Metrics>) -> Shared {
    let budget = Budget::new(memory::default_total());
    gatherer.show_level(
        "bifrost_memory_budget_bytes",
        "Bytes that collected, queued and teed bodies may take together.",
        move || budget.total() as f64,
    );
    gatherer.show_level("bifrost_memory_budget_used_bytes", "Bytes of the memory budget in use.", move || {
        budget.used() as f64
    });
    Shared {
        current,
        budget,
        drain: server::drain::Drain::default(),
        connector: Connector::new(Resolver::system(), options.addresses),
        gatherer,
        heartbeats: Heartbeats::new(options.threads),
        metrics_for_apps: options.metrics_on_app_port.then_some(metrics),
        candidate: options.candidate.clone(),
        loads: (0..options.threads).map(|_| server::shard::Load::default()).collect(),
    }
}

fn taken(address: SocketAddr, flag: &'static str, source: std::io::Error) -> CliError {
    CliError::Listen { address, flag, source }
}

/// What tells the process to stop: Kubernetes or a terminal.
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
