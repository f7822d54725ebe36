//! A gateway's ConfigMap and Secret, followed through an API watch.
//!
//! At the start the newest of three counts: what the API server says, what this pod saved, what is mounted. The API server is
//! waited for only a moment: a pod that restarts while it is away serves from its copies, and a rollback stays a rollback.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bifrost_config::published::PublishedKeys;
use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::inbox::{Inbox, News, Read};
use super::saved::{self, Members, Saver};
use super::store::{Offered, Origin, Store};
use super::watch::watch_one;

/// How long a start waits for the API server before it serves from a copy, and a configuration for the values of its new keys.
const START_PATIENCE: Duration = Duration::from_secs(1);
/// How long a refresh waits for it.
const REFRESH_PATIENCE: Duration = Duration::from_secs(5);
/// How long a connection to it may take.
const CONNECT_PATIENCE: Duration = Duration::from_secs(3);

/// Which gateway, and where its copies are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterOptions {
    /// Namespace of the gateway.
    pub namespace: String,
    /// Name of the BifrostGateway.
    pub name: String,
    /// Directory for what is saved over restarts of the container.
    pub state_dir: Option<PathBuf>,
    /// Where the ConfigMap is mounted.
    pub mounted_config: Option<PathBuf>,
    /// Where the Secret is mounted.
    pub mounted_keys: Option<PathBuf>,
}

impl ClusterOptions {
    fn config_map(&self) -> String {
        format!("{}-bifrost", self.name)
    }

    fn secret(&self) -> String {
        format!("{}-bifrost-keys", self.name)
    }
}

/// Why the two objects could not be read anew.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RefreshError {
    /// No answer in time.
    #[error("the API server did not answer within {} s", REFRESH_PATIENCE.as_secs())]
    TimedOut,
    /// An answer that helps nobody.
    #[error("{0}")]
    Failed(Arc<kube::Error>),
    /// The task that follows the objects is gone.
    #[error("the source has ended")]
    Ended,
}

type Refresh = oneshot::Sender<Result<(), RefreshError>>;

/// Asks the source that runs for a fresh look.
#[derive(Debug, Clone)]
pub struct ClusterHandle(mpsc::Sender<Refresh>);

impl ClusterHandle {
    /// Reads both objects anew and takes them into use; returns once that is done.
    pub async fn refresh(&self) -> Result<(), RefreshError> {
        let (reply, answer) = oneshot::channel();
        self.0.send(reply).await.map_err(|_| RefreshError::Ended)?;
        answer.await.map_err(|_| RefreshError::Ended)?
    }
}

/// A client with the pod's own credentials.
pub fn client() -> Result<Client, Box<dyn std::error::Error + Send + Sync>> {
    let mut config = kube::Config::incluster()?;
    config.connect_timeout = Some(CONNECT_PATIENCE);
    Ok(Client::try_from(config)?)
}

/// Puts the newest configuration at hand into the store, and follows the two objects from then on. Returns within about a second.
pub async fn start(options: ClusterOptions, client: Client, store: Arc<Store>) -> ClusterHandle {
    let mut source = Source::new(&options, client, store);
    let (copies, answers) = tokio::join!(Copies::read(&options), source.asker.ask(START_PATIENCE));
    source.begin(copies, answers);
    let (sender, refreshes) = mpsc::channel(16);
    tokio::spawn(source.run(refreshes));
    ClusterHandle(sender)
}

/// What lies in the pod.
#[derive(Debug, Default)]
struct Copies {
    saved: Option<Members>,
    mounted: Option<Members>,
    keys: Option<PublishedKeys>,
}

impl Copies {
    async fn read(options: &ClusterOptions) -> Self {
        let options = options.clone();
        tokio::task::spawn_blocking(move || Self {
            saved: read_copy(options.state_dir.as_deref(), saved::read_saved),
            mounted: read_copy(options.mounted_config.as_deref(), saved::read_mounted_config),
            keys: read_copy(options.mounted_keys.as_deref(), saved::read_mounted_keys),
        })
        .await
        .unwrap_or_default()
    }
}

fn read_copy<T>(dir: Option<&Path>, read: fn(&Path) -> std::io::Result<Option<T>>) -> Option<T> {
    let dir = dir?;
    read(dir).unwrap_or_else(|error| {
        tracing::warn!(directory = %dir.display(), %error, "a copy of the configuration cannot be read");
        None
    })
}

/// The API server's word on the two objects; `None` inside: there is no such object.
struct Answers {
    config_map: Result<Option<ConfigMap>, RefreshError>,
    secret: Result<Option<Secret>, RefreshError>,
}

/// Reads the two objects.
struct Asker {
    config_maps: Api<ConfigMap>,
    config_map: String,
    secrets: Api<Secret>,
    secret: String,
}

impl Asker {
    async fn ask(&self, patience: Duration) -> Answers {
        let (config_map, secret) = tokio::join!(self.config_map(patience), self.secret(patience));
        Answers { config_map, secret }
    }

    async fn config_map(&self, patience: Duration) -> Result<Option<ConfigMap>, RefreshError> {
        flatten(timeout(patience, self.config_maps.get_opt(&self.config_map)).await)
    }

    async fn secret(&self, patience: Duration) -> Result<Option<Secret>, RefreshError> {
        flatten(timeout(patience, self.secrets.get_opt(&self.secret)).await)
    }
}

fn flatten<T>(answer: Result<Result<T, kube::Error>, tokio::time::error::Elapsed>) -> Result<T, RefreshError> {
    match answer {
        Ok(answer) => answer.map_err(|error| RefreshError::Failed(Arc::new(error))),
        Err(_) => Err(RefreshError::TimedOut),
    }
}

/// Follows the two objects.
struct Source {
    asker: Asker,
    inbox: Inbox,
    store: Arc<Store>,
    saver: Saver,
    /// Whether each watch works, for the log.
    watching: BTreeMap<&'static str, bool>,
}

impl Source {
    fn new(options: &ClusterOptions, client: Client, store: Arc<Store>) -> Self {
        let asker = Asker {
            config_maps: Api::namespaced(client.clone(), &options.namespace),
            config_map: options.config_map(),
            secrets: Api::namespaced(client, &options.namespace),
            secret: options.secret(),
        };
        let saver = Saver::start(options.state_dir.clone());
        Self { asker, inbox: Inbox::default(), store, saver, watching: BTreeMap::new() }
    }

    /// Takes the newest of what is at hand into use. Copies come first: what the API server says is held against them.
    fn begin(&mut self, copies: Copies, answers: Answers) {
        self.inbox = Inbox::new(copies.keys);
        let answered = self.hear(answers);
        let keys = self.inbox.keys().cloned().unwrap_or_default();
        for (members, origin) in [(copies.saved, Origin::Saved), (copies.mounted, Origin::Mounted)] {
            match members.map(|members| Read::new(&members, keys.clone())) {
                Some(Ok(read)) => drop(self.store.offer(read.parts, origin)),
                Some(Err(error)) => tracing::warn!(?origin, %error, "a copy of the configuration is left aside"),
                None => {}
            }
        }
        self.offer();
        if let Err(error) = answered {
            tracing::warn!(%error, serving = self.store.is_ready(), "the API server cannot be asked at the start");
            self.store.report_problem_at_start(format!("the API server cannot be asked: {error}"));
        }
    }

    async fn run(mut self, mut refreshes: mpsc::Receiver<Refresh>) {
        let mut config_maps = pin!(watch_one(self.asker.config_maps.clone(), &self.asker.config_map));
        let mut secrets = pin!(watch_one(self.asker.secrets.clone(), &self.asker.secret));
        loop {
            tokio::select! {
                Some(event) = config_maps.next() => {
                    if let Some((news, object)) = self.watched("ConfigMap", event) {
                        self.inbox.config_map(news, object);
                        self.catch_up_with_keys().await;
                        self.offer();
                    }
                }
                Some(event) = secrets.next() => {
                    if let Some((news, object)) = self.watched("Secret", event) {
                        self.inbox.secret(news, object);
                        self.offer();
                    }
                }
                Some(reply) = refreshes.recv() => self.refresh(reply, &mut refreshes).await,
                // Watches do not end; without handles there are only they.
                else => return,
            }
        }
    }

    /// Asks for the Secret where the configuration names a new key without a value: the value is written first, but the Secret's watch
    /// may tell of it later than the other one of the configuration.
    async fn catch_up_with_keys(&mut self) {
        let Some(in_use) = self.store.snapshot() else { return };
        if self.inbox.lacks_a_new_value(&in_use.parts)
            && let Ok(secret) = self.asker.secret(START_PATIENCE).await
        {
            self.inbox.secret(News::Asked, secret);
        }
    }

    async fn refresh(&mut self, first: Refresh, waiting: &mut mpsc::Receiver<Refresh>) {
        // Those that wait already are served by the same look; later ones want a later look.
        let others: Vec<_> = std::iter::from_fn(|| waiting.try_recv().ok()).collect();
        let answers = self.asker.ask(REFRESH_PATIENCE).await;
        let result = self.hear(answers);
        self.offer();
        for reply in others {
            // Whoever asked may have given up meanwhile.
            let _ = reply.send(result.clone());
        }
        let _ = first.send(result);
    }

    /// Takes note of what was answered; the first error is returned.
    fn hear(&mut self, answers: Answers) -> Result<(), RefreshError> {
        let config_map = answers.config_map.map(|object| self.inbox.config_map(News::Asked, object));
        let secret = answers.secret.map(|object| self.inbox.secret(News::Asked, object));
        config_map.and(secret)
    }

    /// Offers what is known now, and says so if it cannot be offered.
    fn offer(&mut self) {
        match self.inbox.parts() {
            None => {}
            Some(Err(error)) => self.store.report_problem(format!("ConfigMap {}: {error}", self.asker.config_map)),
            Some(Ok(Read { parts, unknown })) => {
                let offered = self.store.offer(parts, Origin::Api);
                if offered == Offered::Taken {
                    self.taken(&unknown);
                }
            }
        }
        if self.inbox.config_is_missing() {
            self.store.report_problem(format!("there is no ConfigMap {}", self.asker.config_map));
        }
    }

    fn taken(&self, unknown: &[String]) {
        if !unknown.is_empty() {
            tracing::warn!(members = unknown.join(", "), "members that this version does not know have no effect");
        }
        if let Some(members) = self.inbox.members() {
            self.saver.save(members);
        }
    }

    /// Logs when a watch breaks and when it is back; errors in between are no news.
    fn watched<T>(&mut self, kind: &'static str, event: Result<T, kube::runtime::watcher::Error>) -> Option<T> {
        let worked = self.watching.insert(kind, event.is_ok()).unwrap_or(true);
        match event {
            Ok(object) => {
                if !worked {
                    tracing::info!(kind, "the watch is back");
                }
                Some(object)
            }
            Err(error) => {
                if worked {
                    tracing::warn!(kind, %error, "the watch broke; it is opened again until it works");
                }
                self.store.report_problem_at_start(format!("the gateway's {kind} cannot be watched: {error}"));
                None
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
