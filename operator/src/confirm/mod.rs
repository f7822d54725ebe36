//! What the pods confirm. One task a gateway asks its pods on their admin port and wakes the controller when the answer to
//! "does everybody act upon what was published?" changes; reconciliations only look at the newest answer.

mod client;
mod prober;
mod summary;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bifrost_config::SecretValue;
use bifrost_config::report::StateReport;
use tokio::sync::watch;
use tokio::task::AbortHandle;

pub use client::{HttpPods, PodClient, PodError};
pub use summary::Summary;

/// A running pod of a gateway.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pod {
    /// Its UID.
    pub uid: String,
    /// Its name, for messages.
    pub name: String,
    /// Where its admin port is.
    pub ip: String,
    /// Whether it is ready and not about to stop. Other pods only count for the removal of keys.
    pub ready: bool,
    /// Whether it is one of a candidate's own: it serves only what is forwarded to it, and what the gateway is does not depend on it.
    pub of_candidate: bool,
}

/// What the pods shall confirm, and which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// UID of the gateway.
    pub gateway_uid: String,
    /// Epoch of the published traffic table.
    pub epoch: u64,
    /// Digest of the published members.
    pub digest: String,
    /// Generations of the published key values.
    pub keys: BTreeMap<String, u64>,
    /// Percent of the eligible users that shall take the bifrost arm; none where rules decide.
    pub wanted_percent: Option<u8>,
    /// The candidate that they shall hold; none where there is none.
    pub candidate: Option<String>,
    /// What the pods want to see.
    pub token: SecretValue,
    /// Every running pod, in a fixed order.
    pub pods: Vec<Pod>,
}

impl Target {
    /// Whether a pod acts upon all of it.
    fn is_confirmed_by(&self, report: &StateReport) -> bool {
        report.confirms(&self.gateway_uid, self.epoch, &self.digest, &self.keys)
    }

    /// Whether a pod acts upon its table, with whichever keys.
    fn is_table_of(&self, report: &StateReport) -> bool {
        report.gateway_uid == self.gateway_uid && report.epoch == self.epoch && report.digest == self.digest
    }

    /// Whether both ask for the same, of whichever pods.
    fn same_table(&self, other: &Self) -> bool {
        (&self.gateway_uid, self.epoch, &self.digest, &self.keys)
            == (&other.gateway_uid, other.epoch, &other.digest, &other.keys)
    }
}

/// What one pod said, or why it said nothing.
pub type Answer = Result<StateReport, PodError>;

/// One round of answers, by the pods' UIDs, and what was asked.
#[derive(Debug, Clone)]
struct Round {
    target: Arc<Target>,
    answers: BTreeMap<String, Answer>,
}

/// Namespace and name of a gateway.
pub type GatewayName = (String, String);

struct Entry {
    targets: watch::Sender<Arc<Target>>,
    rounds: watch::Receiver<Option<Round>>,
    task: AbortHandle,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The tasks of all gateways.
pub struct Confirmations<C> {
    client: C,
    wake: Arc<dyn Fn(&GatewayName) + Send + Sync>,
    entries: Mutex<HashMap<GatewayName, Entry>>,
}

impl<C: PodClient> Confirmations<C> {
    /// `wake` is called when the summary of a gateway changed.
    pub fn new(client: C, wake: impl Fn(&GatewayName) + Send + Sync + 'static) -> Self {
        Self { client, wake: Arc::new(wake), entries: Mutex::default() }
    }

    /// Asks the pods of a gateway for this from now on. Waits for all of them to confirm, at most for `patience`, and says how far
    /// they are.
    pub async fn settle(&self, gateway: &GatewayName, target: Target, patience: Duration) -> Summary {
        let target = Arc::new(target);
        let mut rounds = self.follow(gateway, &target);
        let done = |round: &Option<Round>| {
            round.as_ref().is_some_and(|round| {
                round.target.pods == target.pods
                    && round.target.same_table(&target)
                    && Summary::of(&target, &round.answers).programmed
            })
        };
        if target.pods.iter().any(|pod| pod.ready && !pod.of_candidate) {
            // Either way the newest round says how far they are.
            let _ = tokio::time::timeout(patience, rounds.wait_for(done)).await;
        }
        let newest = rounds.borrow();
        Summary::of(&target, &newest.as_ref().map(|round| round.answers.clone()).unwrap_or_default())
    }

    /// How far the pods are by the newest answers, without waiting.
    pub fn peek(&self, gateway: &GatewayName, target: &Target) -> Summary {
        let entries = self.lock();
        let newest = entries.get(gateway).and_then(|entry| entry.rounds.borrow().clone());
        Summary::of(target, &newest.map(|round| round.answers).unwrap_or_default())
    }

    /// Stops asking.
    pub fn forget(&self, gateway: &GatewayName) {
        self.lock().remove(gateway);
    }

    /// One question to each pod, outside of any task: for a gateway whose table was lost.
    pub async fn ask_once(&self, pods: &[Pod], token: &SecretValue) -> Vec<StateReport> {
        let asked = pods.iter().map(|pod| self.client.state(pod, token));
        futures::future::join_all(asked).await.into_iter().flatten().collect()
    }

    fn follow(&self, gateway: &GatewayName, target: &Arc<Target>) -> watch::Receiver<Option<Round>> {
        let mut entries = self.lock();
        if let Some(entry) = entries.get(gateway)
            && !entry.task.is_finished()
        {
            entry.targets.send_if_modified(|current| {
                let changed = **current != **target;
                if changed {
                    *current = target.clone();
                }
                changed
            });
            return entry.rounds.clone();
        }
        let (targets, asked) = watch::channel(target.clone());
        let (answered, rounds) = watch::channel(None);
        let (wake, name) = (self.wake.clone(), gateway.clone());
        let task = tokio::spawn(prober::run(self.client.clone(), asked, answered, move || wake(&name))).abort_handle();
        entries.insert(gateway.clone(), Entry { targets, rounds: rounds.clone(), task });
        rounds
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<GatewayName, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
