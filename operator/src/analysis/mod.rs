//! What the pods counted, pulled and judged. One task a gateway whose migration is watched pulls every five seconds, merges, asks the
//! pure verdict, and wakes the controller when that changed; reconciliations only look at the newest one.

mod answer;
pub mod ask;
#[cfg(test)]
pub(crate) mod fixed;
pub mod hosts;
mod outside;
mod puller;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bifrost_analysis::{Action, Position, Report, Verdict};
use bifrost_config::{Prices, ProviderType, SecretValue};
use futures::Stream;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use self::ask::{Ask, HttpAsk, Subject};
use crate::confirm::{GatewayName, Pod, PodClient};
use crate::migration::Judged;
use crate::migration::guard::Analysis;
use crate::prices::PriceList;

/// What is watched.
#[derive(Debug, Clone, PartialEq)]
pub struct Watched {
    /// Every running pod.
    pub pods: Vec<Pod>,
    /// What the pods want to see.
    pub token: SecretValue,
    /// Epoch of the table that began to split like this: what was counted before is of another stage.
    pub mark: u64,
    /// The checks.
    pub analysis: Analysis,
    /// The type of each provider, by its name: prices are by type.
    pub providers: BTreeMap<String, ProviderType>,
    /// The stage, and how many there are.
    pub position: Position,
    /// What metrics are asked about.
    pub subject: Subject,
}

impl Watched {
    /// Whether what was found of the one is true of the other: the same stage under the same spec.
    fn is_alike(&self, other: &Self) -> bool {
        self.mark == other.mark && self.analysis == other.analysis && self.subject == other.subject
    }
}

/// The newest verdict, and of what.
#[derive(Debug, Clone)]
struct Round {
    asked: Arc<Watched>,
    report: Arc<Report>,
}

struct Entry {
    watched: watch::Sender<Arc<Watched>>,
    rounds: watch::Receiver<Option<Round>>,
    task: AbortHandle,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The tasks of all gateways.
pub struct Analyses<C, A = HttpAsk> {
    client: C,
    asker: A,
    prices: PriceList,
    wake: Arc<dyn Fn(&GatewayName) + Send + Sync>,
    entries: Mutex<HashMap<GatewayName, Entry>>,
}

impl<C: PodClient, A: Ask> Analyses<C, A> {
    /// `wake` is called when the verdict of a gateway changed.
    pub fn new(client: C, asker: A, prices: PriceList, wake: impl Fn(&GatewayName) + Send + Sync + 'static) -> Self {
        Self { client, asker, prices, wake: Arc::new(wake), entries: Mutex::default() }
    }

    /// What models cost, as of now.
    pub fn prices(&self) -> Arc<Prices> {
        self.prices.current()
    }

    /// An item for every change of that.
    pub fn price_changes(&self) -> impl Stream<Item = ()> + Send + 'static + use<C, A> {
        self.prices.changes()
    }

    /// The newest report of the stage that began with this epoch, if it is of what is watched now.
    pub fn report(&self, gateway: &GatewayName, mark: u64) -> Option<Arc<Report>> {
        let entries = self.lock();
        let entry = entries.get(gateway)?;
        let (newest, watched) = (entry.rounds.borrow(), entry.watched.borrow());
        let fits = |round: &&Round| round.asked.mark == mark && round.asked.is_alike(&watched);
        newest.as_ref().filter(fits).map(|round| round.report.clone())
    }

    /// Watches this from now on.
    pub fn follow(&self, gateway: &GatewayName, watched: Watched) {
        let mut entries = self.lock();
        if let Some(entry) = entries.get(gateway)
            && !entry.task.is_finished()
        {
            entry.watched.send_if_modified(|current| {
                let changed = **current != watched;
                if changed {
                    *current = Arc::new(watched);
                }
                changed
            });
            return;
        }
        let (watched, asked) = watch::channel(Arc::new(watched));
        let (answered, rounds) = watch::channel(None);
        let (wake, name) = (self.wake.clone(), gateway.clone());
        let (client, asker, prices) = (self.client.clone(), self.asker.clone(), self.prices.clone());
        let run = puller::run(client, asker, prices, asked, answered, move || wake(&name));
        let task = tokio::spawn(run).abort_handle();
        entries.insert(gateway.clone(), Entry { watched, rounds, task });
    }

    /// Stops watching.
    pub fn forget(&self, gateway: &GatewayName) {
        self.lock().remove(gateway);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<GatewayName, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Checks that are named as the reason of a verdict; all are in the status.
const REASONS: usize = 3;

/// What a report comes to for a migration. Without one, nothing is known yet.
pub fn judged(report: Option<&Report>) -> Judged {
    let Some(report) = report else {
        return Judged { verdict: Verdict::Inconclusive, action: None, reason: "nothing is counted yet".to_owned() };
    };
    let counting = report.checks.iter().filter(|check| check.action > Action::Warn);
    let deciding = counting.filter(|check| check.verdict == report.verdict && report.verdict != Verdict::Pass);
    // A reason names its check.
    let reasons: Vec<_> = deciding.take(REASONS).map(|check| check.reason.clone()).collect();
    Judged { verdict: report.verdict, action: report.action, reason: reasons.join("; ") }
}
