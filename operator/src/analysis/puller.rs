//! The task that pulls the counts of one gateway's pods.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bifrost_analysis::{
    Check, Inputs, Ledger, Price, Prices as StratumPrices, Report, Stratum, Verdict, Watch, Window, WindowReport,
};
use bifrost_config::{Prices, ProviderType};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};
use tracing::debug;

use super::ask::Ask;
use super::outside::Outside;
use super::{Round, Watched};
use crate::confirm::PodClient;
use crate::prices::PriceList;

/// How often the pods are asked.
const PULL: Duration = Duration::from_secs(5);

/// What is known of one stage.
struct Stage {
    ledger: Ledger,
    watch: Watch,
    /// With which the watch looked.
    list: Arc<Prices>,
    /// The same: the checks that it looked at.
    checks: Vec<Check>,
    /// What the pods' counts came to at the last look.
    counted: Option<Report>,
}

impl Stage {
    fn new(now: Duration, mark: u64) -> Self {
        Self {
            ledger: Ledger::new(now, mark),
            watch: Watch::default(),
            list: Arc::default(),
            checks: Vec::new(),
            counted: None,
        }
    }
}

/// What the controller was woken for last. Numbers that change are no news.
struct Told {
    about: Arc<Watched>,
    verdicts: Vec<(String, Verdict)>,
    /// Of metrics: one that is never answered would be said not to be asked for yet.
    doubts: Vec<String>,
}

impl Told {
    fn is_same(&self, other: &Self) -> bool {
        self.about.is_alike(&other.about) && self.verdicts == other.verdicts && self.doubts == other.doubts
    }
}

/// Runs until the sender of what is watched is gone.
pub(super) async fn run<C: PodClient, A: Ask>(
    client: C,
    asker: A,
    prices: PriceList,
    mut watched: watch::Receiver<Arc<Watched>>,
    rounds: watch::Sender<Option<Round>>,
    wake: impl Fn(),
) {
    let origin = Instant::now();
    let mut clock = tokio::time::interval(PULL);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut stage = Stage::new(Duration::ZERO, watched.borrow().mark);
    let mut outside = Outside::new(asker, origin, watched.borrow().clone());
    let mut told: Option<Told> = None;
    loop {
        let mut is_due = true;
        tokio::select! {
            _ = clock.tick() => {}
            () = outside.answered() => is_due = false,
            changed = watched.changed() => {
                if changed.is_err() {
                    return;
                }
                is_due = false;
            }
        }
        let asked = watched.borrow_and_update().clone();
        let is_another = outside.follow(&asked);
        if stage.ledger.mark() != asked.mark {
            stage = Stage::new(origin.elapsed(), asked.mark);
        }
        let counted = match stage.counted.take().filter(|_| !is_due && !is_another) {
            Some(counted) => counted,
            None => look(&client, &asked, prices.current(), &mut stage, origin).await,
        };
        stage.counted = Some(counted.clone());
        let report = outside.with(counted);
        let verdicts = report.checks.iter().map(|check| (check.name.clone(), check.verdict)).collect();
        let news = Told { about: asked.clone(), verdicts, doubts: outside.doubts() };
        rounds.send_replace(Some(Round { asked, report: Arc::new(report) }));
        if told.as_ref().is_none_or(|told| !told.is_same(&news)) {
            wake();
            told = Some(news);
        }
    }
}

/// Asks every pod once, and judges.
async fn look<C: PodClient>(
    client: &C,
    asked: &Watched,
    list: Arc<Prices>,
    stage: &mut Stage,
    origin: Instant,
) -> Report {
    stage.ledger.set_pods(asked.pods.iter().map(|pod| pod.uid.as_str()));
    let answers: FuturesUnordered<_> =
        asked.pods.iter().map(|pod| async move { (pod, client.window(pod, &asked.token).await) }).collect();
    let answers: Vec<(_, Result<WindowReport, _>)> = answers.collect().await;
    let now = origin.elapsed();
    for (pod, answer) in answers {
        match answer {
            Ok(report) => {
                let (mark, is_taken) = (report.epoch_mark, stage.ledger.pull(now, &pod.uid, report));
                debug!(pod = pod.name, mark, is_taken, "pulled");
            }
            Err(error) => debug!(pod = pod.name, %error, "not pulled"),
        }
    }
    let merged = stage.ledger.merged(now);
    if *stage.list != *list {
        // Other prices are another measure: what was looked at before is worth nothing.
        (stage.watch, stage.list) = (Watch::default(), list);
    }
    if stage.checks != asked.analysis.checks {
        // The same of other checks.
        (stage.watch, stage.checks) = (Watch::default(), asked.analysis.checks.clone());
    }
    let prices = priced(&merged.total, &asked.providers, &stage.list);
    let Watched { analysis, position, .. } = asked;
    stage.watch.look(&Inputs {
        merged: &merged,
        checks: &analysis.checks,
        prices: &prices,
        budget: analysis.budget,
        position: *position,
        min_requests: analysis.min_requests,
    })
}

/// What a token costs in each stratum whose provider and model have a price.
fn priced(total: &Window, providers: &BTreeMap<String, ProviderType>, list: &Prices) -> StratumPrices {
    let price = |stratum: &Stratum| {
        let price = list.find(*providers.get(&stratum.provider)?, &stratum.model)?;
        Some(Price { input: price.cost(1.0, 0.0), output: price.cost(0.0, 1.0) })
    };
    let strata = total.strata().iter().map(|stats| &stats.stratum);
    strata.filter_map(|stratum| Some((stratum.clone(), price(stratum)?))).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::super::answer::Answer;
    use super::super::ask::{Named, Subject};
    use super::super::fixed::Counted;
    use super::super::{Analyses, judged};
    use super::*;
    use crate::confirm::{GatewayName, Pod};
    use crate::migration::guard::guard;
    use crate::migration::metric::Metric;
    use bifrost_analysis::{Action, Arm, Failure, Position, Sample};
    use bifrost_config::SecretValue;

    /// What others say, and whom they were asked about.
    #[derive(Clone)]
    struct Said(Arc<Mutex<(Verdict, Vec<String>)>>);

    impl Said {
        fn new(verdict: Verdict) -> Self {
            Self(Arc::new(Mutex::new((verdict, Vec::new()))))
        }

        fn now(&self, verdict: Verdict) {
            self.0.lock().unwrap().0 = verdict;
        }
    }

    impl Ask for Said {
        async fn ask(&self, _: &Metric, subject: &Subject) -> Answer {
            let mut said = self.0.lock().unwrap();
            said.1.push(subject.revision.clone());
            Answer { verdict: said.0, value: None, why: format!("says {:?}", said.0) }
        }
    }

    fn watched(mark: u64) -> Watched {
        checking(mark, serde_json::json!({}))
    }

    fn checking(mark: u64, analysis: serde_json::Value) -> Watched {
        let spec = serde_json::json!({"canaryPercent": 50, "analysis": analysis});
        Watched {
            pods: vec![Pod {
                uid: "a".into(),
                name: "ai-a".into(),
                ip: "::1".into(),
                ready: true,
                of_candidate: false,
            }],
            token: SecretValue::new("t"),
            mark,
            analysis: guard(&serde_json::from_value(spec).unwrap()).unwrap().analysis.unwrap(),
            providers: BTreeMap::from([("openai".to_owned(), ProviderType::OpenAI)]),
            position: Position { step: 0, steps: None },
            subject: Subject {
                gateway: Named { namespace: "llm".into(), name: "ai".into() },
                step: "-".into(),
                revision: "r1".into(),
                percent: Some(50),
            },
        }
    }

    fn counted(mark: u64, requests: usize, failing: bool) -> WindowReport {
        let mut window = Window::new();
        for request in 0..requests {
            for arm in [Arm::Baseline, Arm::Bifrost] {
                let failure = (failing && arm == Arm::Bifrost).then_some(Failure::Upstream5xx);
                let sample = Sample {
                    group: request % 64,
                    failure,
                    input_tokens: Some(1000),
                    output_tokens: Some(100),
                    ..Sample::default()
                };
                window.record(("openai", "gpt-4o-mini", "chat_completion", false), arm, &sample);
            }
        }
        WindowReport { instance: "one".into(), epoch_mark: mark, window }
    }

    fn name() -> GatewayName {
        ("llm".into(), "ai".into())
    }

    #[tokio::test(start_paused = true)]
    async fn a_stage_is_judged_by_what_was_counted_in_it() {
        let pods = Counted::default();
        let (woken, mut wakes) = tokio::sync::mpsc::unbounded_channel();
        let analyses =
            Analyses::new(pods.clone(), Said::new(Verdict::Pass), PriceList::default(), move |_: &GatewayName| {
                let _ = woken.send(());
            });
        analyses.follow(&name(), watched(3));
        wakes.recv().await.unwrap();
        let first = judged(analyses.report(&name(), 3).as_deref());
        assert_eq!(first.verdict, Verdict::Inconclusive);

        *pods.0.lock().unwrap() = Some(counted(3, 500, false));
        wakes.recv().await.unwrap();
        assert_eq!(judged(analyses.report(&name(), 3).as_deref()).verdict, Verdict::Pass);

        // The next stage knows nothing of the one before.
        assert!(analyses.report(&name(), 4).is_none());
        analyses.follow(&name(), watched(4));
        wakes.recv().await.unwrap();
        assert_eq!(judged(analyses.report(&name(), 4).as_deref()).verdict, Verdict::Inconclusive);
        *pods.0.lock().unwrap() = Some(counted(4, 500, true));
        wakes.recv().await.unwrap();
        let failed = judged(analyses.report(&name(), 4).as_deref());
        assert_eq!(failed.verdict, Verdict::Fail);
        assert!(failed.reason.contains("errors "), "{}", failed.reason);
    }

    #[tokio::test(start_paused = true)]
    async fn what_others_measure_counts_beside_the_checks() {
        let metrics = serde_json::json!({"metrics": [{"name": "judge", "webhook": {"url": "http://w"}}]});
        let (woken, mut wakes) = tokio::sync::mpsc::unbounded_channel();
        let pods = Counted(Arc::new(Mutex::new(Some(counted(3, 500, false)))));
        let said = Said::new(Verdict::Pass);
        let analyses = Analyses::new(pods, said.clone(), PriceList::default(), move |_: &GatewayName| {
            let _ = woken.send(());
        });
        let now = |analyses: &Analyses<_, _>| judged(analyses.report(&name(), 3).as_deref());
        let begin = Instant::now();
        analyses.follow(&name(), checking(3, metrics.clone()));
        wakes.recv().await.unwrap();
        assert_eq!(now(&analyses).verdict, Verdict::Inconclusive);
        assert_eq!(now(&analyses).reason, "judge webhook: not asked for yet");
        wakes.recv().await.unwrap();
        assert_eq!((now(&analyses).verdict, begin.elapsed().as_secs()), (Verdict::Pass, 30));

        said.now(Verdict::Fail);
        wakes.recv().await.unwrap();
        assert_eq!((now(&analyses).verdict, begin.elapsed().as_secs()), (Verdict::Inconclusive, 60));
        wakes.recv().await.unwrap();
        let failed = now(&analyses);
        assert_eq!((failed.verdict, failed.action), (Verdict::Fail, Some(Action::Rollback)));
        assert_eq!((failed.reason.as_str(), begin.elapsed().as_secs()), ("judge webhook: says Fail", 90));

        // The same stage under another spec begins anew, at once.
        let mut edited = checking(3, metrics);
        edited.subject.revision = "r2".into();
        analyses.follow(&name(), edited);
        assert!(analyses.report(&name(), 3).is_none());
        wakes.recv().await.unwrap();
        assert_eq!(now(&analyses).reason, "judge webhook: not asked for yet");
        wakes.recv().await.unwrap();
        assert_eq!((now(&analyses).verdict, begin.elapsed().as_secs()), (Verdict::Inconclusive, 120));
        assert_eq!(said.0.lock().unwrap().1, ["r1", "r1", "r1", "r2"]);
    }

    #[tokio::test(start_paused = true)]
    async fn another_limit_of_a_check_counts_at_once() {
        let check = |max: &str| {
            let check = serde_json::json!({"name": "tokens", "type": "OutputTokens", "max": max});
            checking(3, serde_json::json!({"checks": [check]}))
        };
        let (woken, mut wakes) = tokio::sync::mpsc::unbounded_channel();
        let pods = Counted(Arc::new(Mutex::new(Some(counted(3, 500, false)))));
        let analyses = Analyses::new(pods, Said::new(Verdict::Pass), PriceList::default(), move |_: &GatewayName| {
            let _ = woken.send(());
        });
        analyses.follow(&name(), check("50"));
        wakes.recv().await.unwrap();
        assert_eq!(judged(analyses.report(&name(), 3).as_deref()).verdict, Verdict::Fail);
        analyses.follow(&name(), check("500"));
        wakes.recv().await.unwrap();
        assert_eq!(judged(analyses.report(&name(), 3).as_deref()).verdict, Verdict::Pass);
    }

    #[tokio::test(start_paused = true)]
    async fn a_cost_is_judged_by_the_price_list_as_it_is_now() {
        let path = std::env::temp_dir().join(format!("bifrost-cost-{}.json", std::process::id()));
        let list = |input: &str| {
            let price = format!(r#"{{"input":"{input}","output":"0"}}"#);
            std::fs::write(&path, format!(r#"{{"currency":"USD","models":{{"OpenAI":{{"gpt-4o*":{price}}}}}}}"#))
                .unwrap();
        };
        let _ = std::fs::remove_file(&path);
        let (woken, mut wakes) = tokio::sync::mpsc::unbounded_channel();
        let pods = Counted(Arc::new(Mutex::new(Some(counted(3, 500, false)))));
        let prices = PriceList::new(Some(path.clone()));
        let analyses = Analyses::new(pods, Said::new(Verdict::Pass), prices, move |_: &GatewayName| {
            let _ = woken.send(());
        });
        let check = serde_json::json!({"checks": [{"name": "cost", "type": "CostPerRequest", "max": "0.002"}]});
        analyses.follow(&name(), checking(3, check));
        wakes.recv().await.unwrap();
        let unpriced = judged(analyses.report(&name(), 3).as_deref());
        assert_eq!(unpriced.verdict, Verdict::Inconclusive);
        assert!(unpriced.reason.contains("no price for openai/gpt-4o-mini: "), "{}", unpriced.reason);
        // A thousand tokens of the prompt cost 0.00015.
        list("0.15");
        wakes.recv().await.unwrap();
        assert_eq!(judged(analyses.report(&name(), 3).as_deref()).verdict, Verdict::Pass);
        list("15.00");
        wakes.recv().await.unwrap();
        let dear = judged(analyses.report(&name(), 3).as_deref());
        assert_eq!(dear.verdict, Verdict::Fail);
        assert!(dear.reason.contains("0.015"), "{}", dear.reason);
        std::fs::remove_file(&path).unwrap();
    }
}
