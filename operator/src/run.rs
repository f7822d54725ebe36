//! Puts the process together: client, election, controllers, admin server, signals.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use bifrost_config::Axis;
use futures::stream;
use kube::Client;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tracing::info;
use tracing_subscriber::EnvFilter;

use crate::admin::{self, Admin};
use crate::analysis::Analyses;
use crate::analysis::ask::{HttpAsk, Limits};
use crate::analysis::hosts::HostRule;
use crate::cli::{Cli, LogFormat, Scope};
use crate::cluster::Writer;
use crate::confirm::{Confirmations, GatewayName, HttpPods};
use crate::events::Recorder;
use crate::gateway;
use crate::gateway::validate::Policy;
use crate::leader::{self, Leadership};
use crate::metrics::Metrics;
use crate::prices::PriceList;
use crate::provider_key;
use crate::tls;

/// Longest silence within an answer of the API server.
const READ_LIMIT: Duration = Duration::from_secs(20);
/// Longest silence on a watch: the API server is asked to end each before that.
const WATCH_LIMIT: Duration = Duration::from_secs(300);

/// What every part of the process shares.
#[derive(Clone)]
struct Process {
    cli: Cli,
    client: Client,
    /// For watches, on which nothing may come for minutes.
    watches: Client,
    metrics: Arc<Metrics>,
    leadership: Arc<Leadership>,
    prices: PriceList,
    hosts: HostRule,
    tls: rustls::ClientConfig,
}

/// Runs until SIGTERM or SIGINT.
pub async fn run(cli: Cli) -> anyhow::Result<()> {
    logging(&cli)?;
    let config = kube::Config::infer().await.context("no way to an API server was found")?;
    let process = Process {
        client: client(&config, READ_LIMIT)?,
        watches: client(&config, WATCH_LIMIT)?,
        metrics: Arc::new(Metrics::new().context("metrics cannot be registered")?),
        prices: cli.prices(),
        hosts: cli.analysis_hosts().map_err(|why| anyhow::anyhow!("--analysis-hosts: {why}"))?,
        tls: tls::config().context("TLS cannot be configured")?,
        leadership: Arc::new(if cli.leader_election { Leadership::candidate() } else { Leadership::alone() }),
        cli,
    };
    let Process { cli, client, leadership, .. } = &process;
    let stop = stop_on_signal()?;
    // Read before the first analysis asks, so that the log says early what is wrong with it.
    process.prices.current();
    info!(version = env!("CARGO_PKG_VERSION"), scopes = ?cli.scopes(), "the operator starts");

    let admin = tokio::spawn(admin::serve(cli.admin_address, process.health(), stop.clone()));
    let work = tokio::spawn(process.clone().lead(stop.clone()));
    tokio::select! {
        error = failure(admin) => Err(error.context("the admin address cannot be used")),
        error = failure(work) => Err(error.context("the controllers cannot run")),
        () = elect(cli, client, leadership, stop) => Ok(()),
    }
}

fn client(config: &kube::Config, silence: Duration) -> anyhow::Result<Client> {
    let mut config = config.clone();
    config.read_timeout = Some(silence);
    // The time that a connection was idle before is no silence of the API server.
    config.reset_reader_on_write = true;
    Client::try_from(config).context("the API server's address or credentials cannot be used")
}

/// Takes part in the election, if there is one, until the process shall stop and the Lease is released.
async fn elect(cli: &Cli, client: &Client, leadership: &Leadership, mut stop: watch::Receiver<bool>) {
    if cli.leader_election {
        let (namespace, lease) = (cli.lease_namespace(), cli.leader_election_lease.as_str());
        leader::run(client.clone(), namespace, lease, &cli.pod_name, leadership, stop).await;
    } else {
        // An error means that nobody is left to tell.
        let _ = stop.wait_for(|stop| *stop).await;
    }
}

/// Why a task failed; never returns for one that ended as it should.
async fn failure<E: Into<anyhow::Error>>(task: JoinHandle<Result<(), E>>) -> anyhow::Error {
    match task.await {
        Ok(Ok(())) => std::future::pending().await,
        Ok(Err(error)) => error.into(),
        Err(error) => error.into(),
    }
}

impl Process {
    /// Leader and standby alike are ready once they can read the gateways of a scope and have looked at the Lease: one namespace that
    /// is gone must not take the others' operator out. It stays so: an API server that is away later is no reason either.
    fn health(&self) -> Admin {
        let readable = Arc::new(AtomicBool::new(false));
        for scope in self.cli.scopes() {
            let (client, done) = (self.client.clone(), readable.clone());
            tokio::spawn(async move {
                gateway::controller::listable(&client, &scope).await;
                done.store(true, Ordering::Relaxed);
            });
        }
        let leadership = self.leadership.clone();
        let ready = move || readable.load(Ordering::Relaxed) && leadership.observed();
        Admin { metrics: self.metrics.clone(), ready: Arc::new(ready) }
    }

    /// Runs the controllers while this process leads, until it shall stop.
    async fn lead(self, mut stop: watch::Receiver<bool>) -> anyhow::Result<()> {
        let recorder = Recorder::start(self.client.clone(), &self.cli.pod_name, self.leadership.clone());
        let mut leads = self.leadership.subscribe();
        loop {
            tokio::select! {
                gained = leads.wait_for(|leads| *leads) => { gained.context("the election ended")?; }
                _ = stop.wait_for(|stop| *stop) => return Ok(()),
            }
            self.metrics.leader.set(1);
            let mut controllers = JoinSet::new();
            for scope in self.cli.scopes() {
                self.start(&mut controllers, scope, &recorder)?;
            }
            tokio::select! {
                _ = leads.wait_for(|leads| !*leads) => info!("the controllers stop: another process may lead"),
                _ = stop.wait_for(|stop| *stop) => {}
                ended = controllers.join_next() => anyhow::bail!("a controller ended by itself: {ended:?}"),
            }
            controllers.shutdown().await;
            self.metrics.leader.set(0);
        }
    }

    /// Starts the controllers of one set of watches.
    fn start(&self, controllers: &mut JoinSet<()>, scope: Scope, recorder: &Recorder) -> anyhow::Result<()> {
        let (wake, woken) = mpsc::unbounded_channel();
        let pods = HttpPods::new(self.tls.clone()).context("no HTTP client for the pods")?;
        let asker = HttpAsk::new(self.tls.clone(), self.hosts.clone(), Limits::PRODUCT);
        let asker = asker.context("no HTTP client for metrics")?;
        // Without a receiver the controller is gone, and these tasks with it soon.
        let wake = move |name: &GatewayName| drop(wake.send(name.clone()));
        let confirmations = Confirmations::new(pods.clone(), wake.clone());
        let of = |axis| Analyses::new(pods.clone().counting(axis), asker.clone(), self.prices.clone(), wake.clone());
        let context = gateway::context::Context::new(
            self.client.clone(),
            Writer::new(self.client.clone(), self.leadership.clone()),
            recorder.clone(),
            self.metrics.clone(),
            Policy { images: self.cli.images(), addresses: self.cli.addresses(), hosts: self.hosts.clone() },
            confirmations,
            (of(Axis::Migration), of(Axis::Rollout)),
        );
        let key_context = provider_key::Context {
            client: self.client.clone(),
            recorder: recorder.clone(),
            metrics: self.metrics.clone(),
            addresses: self.cli.addresses(),
            leadership: self.leadership.clone(),
        };
        let (key_controller, keys) = provider_key::controller::controller(&self.watches, &scope);
        let woken = stream::unfold(woken, async |mut woken| woken.recv().await.map(|name| (name, woken)));
        controllers.spawn(provider_key::controller::run(key_controller, Arc::new(key_context)));
        let watches = self.watches.clone();
        controllers
            .spawn(async move { gateway::controller::run(Arc::new(context), &watches, scope, keys, woken).await });
        Ok(())
    }
}

fn stop_on_signal() -> anyhow::Result<watch::Receiver<bool>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be handled")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be handled")?;
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        info!("told to stop");
        stop.send_replace(true);
        // The sender lives until everybody has seen it.
        stop.closed().await;
    });
    Ok(stopped)
}

fn logging(cli: &Cli) -> anyhow::Result<()> {
    // The client writes bodies that it cannot parse into its warnings, and they may be Secrets. Its errors come back to the caller.
    let directives = format!("{},kube_client=off", cli.log);
    let filter = EnvFilter::try_new(&directives).context("the log filter cannot be read")?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match cli.log_format {
        LogFormat::Json => lines.json().flatten_event(true).init(),
        LogFormat::Text => lines.init(),
    }
    Ok(())
}
