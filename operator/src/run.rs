//! Puts the process together: client, election, controllers, admin server, signals.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context as _;
use futures::stream;
use kube::Client;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tracing::info;
use tracing_subscriber::EnvFilter;

use crate::admin::{self, Admin};
use crate::cli::{Cli, LogFormat, Scope};
use crate::cluster::Writer;
use crate::confirm::{Confirmations, HttpPods};
use crate::events::Recorder;
use crate::gateway;
use crate::gateway::validate::Policy;
use crate::leader::{self, Leadership};
use crate::metrics::Metrics;
use crate::provider_key;

/// Runs until SIGTERM or SIGINT.
pub async fn run(cli: Cli) -> anyhow::Result<()> {
    logging(&cli)?;
    let config = kube::Config::infer().await.context("no way to an API server was found")?;
    let client = Client::try_from(config).context("the API server's address or credentials cannot be used")?;
    let metrics = Arc::new(Metrics::new().context("metrics cannot be registered")?);
    let stop = stop_on_signal()?;
    let leadership = Arc::new(if cli.leader_election { Leadership::candidate() } else { Leadership::alone() });
    let synced = Arc::new(Synced::new(cli.scopes().len()));
    info!(version = env!("CARGO_PKG_VERSION"), scopes = ?cli.scopes(), "the operator starts");

    let admin = tokio::spawn(admin::serve(cli.admin_address, health(&metrics, &leadership, &synced), stop.clone()));
    let work = tokio::spawn(lead(cli.clone(), client.clone(), metrics, leadership.clone(), synced, stop.clone()));
    if cli.leader_election {
        let (namespace, lease) = (cli.lease_namespace(), cli.leader_election_lease.as_str());
        leader::run(client, namespace, lease, &cli.pod_name, &leadership, stop.clone()).await;
    }
    work.await.context("the controllers ended")??;
    admin.await.context("the admin server ended")?.context("the admin address cannot be used")
}

/// A standby is ready once it looked at the Lease; a leader once it knows all gateways.
fn health(metrics: &Arc<Metrics>, leadership: &Arc<Leadership>, synced: &Arc<Synced>) -> Admin {
    let (leadership, synced) = (leadership.clone(), synced.clone());
    let ready = move || if leadership.holds() { synced.all() } else { leadership.observed() };
    Admin { metrics: metrics.clone(), ready: Arc::new(ready) }
}

/// Runs the controllers while this process leads, until it shall stop.
async fn lead(
    cli: Cli,
    client: Client,
    metrics: Arc<Metrics>,
    leadership: Arc<Leadership>,
    synced: Arc<Synced>,
    mut stop: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let recorder = Recorder::start(client.clone(), &cli.pod_name);
    let mut leads = leadership.subscribe();
    loop {
        tokio::select! {
            gained = leads.wait_for(|leads| *leads) => { gained.context("the election ended")?; }
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
        }
        metrics.leader.set(1);
        let mut controllers = JoinSet::new();
        for scope in cli.scopes() {
            start(&mut controllers, &cli, scope, &client, &metrics, &leadership, &recorder, &synced)?;
        }
        tokio::select! {
            _ = leads.wait_for(|leads| !*leads) => info!("the controllers stop: another process may lead"),
            _ = stop.wait_for(|stop| *stop) => {}
            ended = controllers.join_next() => anyhow::bail!("a controller ended by itself: {ended:?}"),
        }
        controllers.shutdown().await;
        metrics.leader.set(0);
    }
}

#[expect(clippy::too_many_arguments, reason = "the one place where everything comes together")]
fn start(
    controllers: &mut JoinSet<()>,
    cli: &Cli,
    scope: Scope,
    client: &Client,
    metrics: &Arc<Metrics>,
    leadership: &Arc<Leadership>,
    recorder: &Recorder,
    synced: &Arc<Synced>,
) -> anyhow::Result<()> {
    let (wake, woken) = mpsc::unbounded_channel();
    let pods = HttpPods::new().context("no HTTP client for the pods")?;
    let confirmations = Confirmations::new(pods, move |name: &(String, String)| {
        // Without a receiver the controller is gone, and this task with it soon.
        let _ = wake.send(name.clone());
    });
    let policy = Policy { images: cli.images(), addresses: cli.addresses() };
    let context = gateway::context::Context::new(
        client.clone(),
        Writer::new(client.clone(), leadership.clone()),
        recorder.clone(),
        metrics.clone(),
        policy,
        confirmations,
    );
    let key_context = provider_key::Context {
        client: client.clone(),
        recorder: recorder.clone(),
        metrics: metrics.clone(),
        addresses: cli.addresses(),
    };
    let (key_controller, keys) = provider_key::controller::controller(client, &scope);
    let woken = stream::unfold(woken, async |mut woken| woken.recv().await.map(|name| (name, woken)));
    let synced = synced.clone();
    controllers.spawn(provider_key::controller::run(key_controller, Arc::new(key_context)));
    controllers.spawn(gateway::controller::run(Arc::new(context), scope, keys, woken, move || synced.one_more()));
    Ok(())
}

/// How many sets of watches know their gateways. It only rises: a later loss of a watch is no reason to take the pod out.
struct Synced {
    wanted: usize,
    done: AtomicUsize,
}

impl Synced {
    fn new(wanted: usize) -> Self {
        Self { wanted, done: AtomicUsize::new(0) }
    }

    fn one_more(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
    }

    fn all(&self) -> bool {
        self.done.load(Ordering::Relaxed) >= self.wanted
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
    // The client writes bodies that it cannot parse into its warnings, and they may be Secrets.
    let directives = format!("{},kube_client::client=error", cli.log);
    let filter = EnvFilter::try_new(&directives).context("the log filter cannot be read")?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match cli.log_format {
        LogFormat::Json => lines.json().flatten_event(true).init(),
        LogFormat::Text => lines.init(),
    }
    Ok(())
}
