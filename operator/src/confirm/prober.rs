//! The task that asks the pods of one gateway: at once when something was published, often until everybody confirms, then seldom.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::debug;

use super::{Answer, PodClient, Round, Summary, Target};

/// A ready pod that does not confirm for this long is told to read anew: its watch may be dead.
const LAG: Duration = Duration::from_secs(1);
/// How often it is told again.
const REFRESH: Duration = Duration::from_secs(2);
/// How often the numbers of copies are told at the most.
const COPIES: Duration = Duration::from_secs(30);
/// How often pods are asked that all confirm.
const CONFIRMED: Duration = Duration::from_secs(10);

/// Runs until the targets' sender is gone.
pub(super) async fn run<C: PodClient>(
    client: C,
    mut targets: watch::Receiver<Arc<Target>>,
    rounds: watch::Sender<Option<Round>>,
    wake: impl Fn(),
) {
    let mut since = Instant::now();
    let mut refreshed: HashMap<String, Instant> = HashMap::new();
    let mut last = None;
    let mut target = targets.borrow_and_update().clone();
    loop {
        // A pod that hangs must not delay the question about what was published since.
        let answers = tokio::select! {
            answers = ask(&client, &target) => Some(answers),
            changed = targets.changed() => match changed {
                Ok(()) => None,
                Err(_) => return,
            },
        };
        let Some(answers) = answers else {
            follow(&mut target, &mut targets, &mut since, &mut refreshed);
            continue;
        };
        let summary = Summary::of(&target, &answers);
        let settled = is_settled(&summary);
        refresh_lagging(&client, &target, &answers, since, &mut refreshed).await;
        rounds.send_replace(Some(Round { target: target.clone(), answers }));
        if is_news(last.as_ref(), &summary) {
            wake();
            last = Some((Instant::now(), summary));
        }
        let pause = tokio::time::sleep(pause(settled, since.elapsed()));
        let changed = tokio::select! {
            () = pause => Ok(false),
            changed = targets.changed() => changed.map(|()| true),
        };
        match changed {
            Err(_) => return,
            Ok(false) => {}
            Ok(true) => follow(&mut target, &mut targets, &mut since, &mut refreshed),
        }
    }
}

fn follow(
    target: &mut Arc<Target>,
    targets: &mut watch::Receiver<Arc<Target>>,
    since: &mut Instant,
    refreshed: &mut HashMap<String, Instant>,
) {
    let new = targets.borrow_and_update().clone();
    if !new.same_table(target) {
        *since = Instant::now();
        refreshed.clear();
    }
    *target = new;
}

/// Whether nothing is waited for: what was published is confirmed, and a candidate whose own pods are there is held by everybody.
fn is_settled(summary: &Summary) -> bool {
    let is_held = summary.candidates.1 == 0 || summary.holds_candidate;
    summary.released && is_held && (summary.programmed || summary.ready == 0)
}

/// Whether somebody should look: since the last look, at this time, something else changed than how many copies there were. Those change
/// with every round, and are worth a look now and then.
fn is_news(last: Option<&(Instant, Summary)>, now: &Summary) -> bool {
    let Some((at, last)) = last else { return true };
    let copies = last.shadow != now.shadow;
    let others = Summary { shadow: now.shadow.clone(), ..last.clone() } != *now;
    others || (copies && (last.shadow.is_none() || at.elapsed() >= COPIES))
}

/// How long to wait before the next round, `elapsed` after something was published.
fn pause(settled: bool, elapsed: Duration) -> Duration {
    match elapsed.as_millis() {
        _ if settled => CONFIRMED,
        0..1_000 => Duration::from_millis(50),
        1_000..10_000 => Duration::from_millis(200),
        10_000..60_000 => Duration::from_secs(1),
        _ => Duration::from_secs(5),
    }
}

async fn ask<C: PodClient>(client: &C, target: &Target) -> BTreeMap<String, Answer> {
    let asked: FuturesUnordered<_> =
        target.pods.iter().map(|pod| async { (pod.uid.clone(), client.state(pod, &target.token).await) }).collect();
    asked.collect().await
}

async fn refresh_lagging<C: PodClient>(
    client: &C,
    target: &Target,
    answers: &BTreeMap<String, Answer>,
    since: Instant,
    refreshed: &mut HashMap<String, Instant>,
) {
    if since.elapsed() < LAG {
        return;
    }
    let lagging = target.pods.iter().filter(|pod| match answers.get(&pod.uid) {
        Some(Ok(report)) => !report.confirms(&target.gateway_uid, target.epoch, &target.digest, &target.keys),
        _ => false,
    });
    let due: Vec<_> =
        lagging.filter(|pod| refreshed.get(&pod.uid).is_none_or(|last| last.elapsed() >= REFRESH)).collect();
    for pod in &due {
        debug!(pod = pod.name, "the pod lags and is told to read anew");
        refreshed.insert(pod.uid.clone(), Instant::now());
    }
    // What became of it shows in the next round.
    futures::future::join_all(due.iter().map(|pod| client.refresh(pod, &target.token))).await;
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::super::{Confirmations, Pod, PodError};
    use super::*;
    use bifrost_config::SecretValue;
    use bifrost_config::report::StateReport;

    /// Pods that all report the same epoch, and follow once they are told to read anew.
    #[derive(Clone, Default)]
    struct FakePods {
        epoch: Arc<Mutex<u64>>,
        follow: Arc<Mutex<Option<u64>>>,
        refreshes: Arc<AtomicUsize>,
        slow: Arc<Mutex<Duration>>,
    }

    impl PodClient for FakePods {
        async fn window(&self, _: &Pod, _: &SecretValue) -> Result<bifrost_analysis::WindowReport, PodError> {
            Err(PodError::NoReport)
        }

        async fn state(&self, _: &Pod, _: &SecretValue) -> Result<StateReport, PodError> {
            let epoch = *self.epoch.lock().unwrap();
            Ok(StateReport { gateway_uid: "g".into(), epoch, digest: "d".into(), ..StateReport::default() })
        }

        async fn refresh(&self, _: &Pod, _: &SecretValue) -> Result<(), PodError> {
            self.refreshes.fetch_add(1, Ordering::SeqCst);
            let slow = *self.slow.lock().unwrap();
            tokio::time::sleep(slow).await;
            if let Some(epoch) = *self.follow.lock().unwrap() {
                *self.epoch.lock().unwrap() = epoch;
            }
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn numbers_of_copies_are_told_now_and_then_and_everything_else_at_once() {
        use bifrost_config::report::ShadowReport;
        let of = |copied| Summary { shadow: Some(ShadowReport { copied, ..Default::default() }), ..Summary::default() };
        assert!(is_news(None, &of(1)));
        assert!(is_news(Some(&(Instant::now(), Summary::default())), &of(1)));
        let last = (Instant::now(), of(1));
        assert!(!is_news(Some(&last), &of(1)) && !is_news(Some(&last), &of(2)));
        assert!(is_news(Some(&last), &Summary { ready: 1, ..of(2) }));
        tokio::time::advance(COPIES).await;
        assert!(is_news(Some(&last), &of(2)) && !is_news(Some(&last), &of(1)));
    }

    #[test]
    fn pods_that_do_not_reach_a_candidate_yet_are_asked_often() {
        let confirmed = Summary { released: true, programmed: true, ready: 2, ..Summary::default() };
        assert!(is_settled(&confirmed));
        let reached = |holds_candidate| Summary { candidates: (1, 1), holds_candidate, ..confirmed.clone() };
        assert!(!is_settled(&reached(false)) && is_settled(&reached(true)));
    }

    fn target(epoch: u64) -> Target {
        Target {
            gateway_uid: "g".into(),
            epoch,
            digest: "d".into(),
            keys: BTreeMap::new(),
            wanted_percent: Some(100),
            candidate: None,
            token: SecretValue::new("t"),
            pods: vec![Pod {
                uid: "a".into(),
                name: "ai-a".into(),
                ip: "::1".into(),
                ready: true,
                of_candidate: false,
            }],
        }
    }

    fn name() -> super::super::GatewayName {
        ("llm".into(), "ai".into())
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_that_follows_at_once_is_confirmed_at_once() {
        let pods = FakePods::default();
        *pods.epoch.lock().unwrap() = 3;
        let confirmations = Confirmations::new(pods.clone(), |_| {});
        let began = Instant::now();
        let summary = confirmations.settle(&name(), target(3), Duration::from_millis(500)).await;
        assert!(summary.programmed);
        assert!(began.elapsed() < Duration::from_millis(50));
        assert_eq!(pods.refreshes.load(Ordering::SeqCst), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_whose_watch_is_dead_is_told_to_read_anew_and_the_controller_is_woken() {
        let pods = FakePods::default();
        *pods.follow.lock().unwrap() = Some(4);
        let (woken, mut wakes) = tokio::sync::mpsc::unbounded_channel();
        let confirmations = Confirmations::new(pods.clone(), move |name: &super::super::GatewayName| {
            let _ = woken.send(name.clone());
        });
        let began = Instant::now();
        let summary = confirmations.settle(&name(), target(4), Duration::from_millis(500)).await;
        assert!(!summary.programmed);
        assert_eq!(summary.waiting, ["ai-a: is at epoch 0"]);
        assert_eq!(wakes.recv().await, Some(name()));
        assert_eq!(wakes.recv().await, Some(name()));
        assert!(confirmations.settle(&name(), target(4), Duration::ZERO).await.programmed);
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        assert_eq!(pods.refreshes.load(Ordering::SeqCst), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn lagging_pods_are_told_at_the_same_time() {
        let pods = FakePods { slow: Arc::new(Mutex::new(Duration::from_secs(1))), ..FakePods::default() };
        let mut target = target(4);
        target.pods = ["a", "b", "c"].map(|uid| Pod { uid: uid.into(), ..target.pods[0].clone() }).into();
        let answers = ask(&pods, &target).await;
        let began = Instant::now();
        tokio::time::advance(LAG).await;
        refresh_lagging(&pods, &target, &answers, began, &mut HashMap::new()).await;
        assert_eq!(pods.refreshes.load(Ordering::SeqCst), 3);
        assert!(began.elapsed() < LAG + Duration::from_secs(2), "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_gateway_that_is_forgotten_is_asked_no_more() {
        let pods = FakePods::default();
        let confirmations = Confirmations::new(pods.clone(), |_| {});
        confirmations.settle(&name(), target(1), Duration::ZERO).await;
        confirmations.forget(&name());
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(pods.refreshes.load(Ordering::SeqCst), 0);
    }
}
