//! What an analysis comes to over counts and answers that are always the same: for tests of what a spec leads to.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bifrost_analysis::{Arm, Failure, Position, Sample, Window, WindowReport};
use bifrost_config::report::StateReport;
use bifrost_config::{ProviderType, SecretValue};
use tokio::time::Instant;

use super::answer::{Answer, of_query, of_webhook};
use super::ask::{Ask, Named, Subject};
use super::{Analyses, Watched};
use crate::confirm::{GatewayName, Pod, PodClient, PodError};
use crate::migration::guard::Analysis;
use crate::migration::metric::{Metric, Source};
use crate::prices::PriceList;

const MARK: u64 = 3;
/// How long is looked: what is asked for each minute is asked for more than once.
const LONG: Duration = Duration::from_secs(150);
/// A request of a hundred tokens of each kind costs 0.0015.
const PRICES: &str = r#"{"currency":"USD","models":{"OpenAI":{"gpt-4o*":{"input":"5.00","output":"10.00"}}}}"#;
const ANSWER: &[u8] =
    br#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[0,"1.5"]}]}}"#;

/// What the operator's own task reports, of few requests and of many, and what it asks others for meanwhile.
pub(crate) fn told_by(analysis: &Analysis) -> String {
    let prices = std::env::temp_dir().join(format!("bifrost-fixed-{}.json", std::process::id()));
    std::fs::write(&prices, PRICES).unwrap();
    // The clock is paused: time that nothing happens in passes at once.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let mut told = String::new();
    for window in [few(), many()] {
        let (report, asked) = runtime.block_on(async {
            let asker = Noting { since: Instant::now(), asked: Arc::default() };
            let report = WindowReport { instance: "one".into(), epoch_mark: MARK, window };
            let pods = Counted(Arc::new(Mutex::new(Some(report))));
            let prices = PriceList::new(Some(prices.clone()));
            let analyses = Analyses::new(pods, asker.clone(), prices, |_: &GatewayName| {});
            let name = ("llm".into(), "ai".into());
            analyses.follow(&name, watched(analysis));
            tokio::time::sleep(LONG).await;
            let asked = asker.asked.lock().unwrap().join("\n");
            (analyses.report(&name, MARK).unwrap(), asked)
        });
        writeln!(told, "{report:?}\n{asked}").unwrap();
    }
    std::fs::remove_file(&prices).unwrap();
    told
}

fn watched(analysis: &Analysis) -> Watched {
    let pod = Pod { uid: "a".into(), name: "ai-a".into(), ip: "::1".into(), ready: true, of_candidate: false };
    Watched {
        pods: vec![pod],
        token: SecretValue::new("t"),
        mark: MARK,
        analysis: analysis.clone(),
        providers: BTreeMap::from([("openai".to_owned(), ProviderType::OpenAI)]),
        position: Position { step: 0, steps: Some(2) },
        subject: Subject {
            gateway: Named { namespace: "llm".into(), name: "ai".into() },
            step: "1/2".into(),
            revision: "r".into(),
            percent: Some(50),
        },
    }
}

/// Both arms alike.
fn few() -> Window {
    let mut window = Window::new();
    for request in 0..150 {
        for arm in [Arm::Baseline, Arm::Bifrost] {
            record(&mut window, arm, Sample { group: request % 64, ..Sample::default() });
        }
    }
    window
}

/// The bifrost arm is slower by 15 %, has timeouts and empty answers, and of its copies 92.5 % agree.
fn many() -> Window {
    let mut window = Window::new();
    for request in 0..10_000_usize {
        let is_one_in = |each: usize| request.is_multiple_of(each);
        for (arm, millis) in [(Arm::Baseline, 1_000), (Arm::Bifrost, 1_150)] {
            let sample = Sample {
                group: request.wrapping_mul(37) / 3 % 64,
                failure: (arm == Arm::Bifrost && is_one_in(10)).then_some(Failure::Timeout),
                latency: Duration::from_millis(millis + request as u64 % 17),
                input_tokens: Some(100),
                output_tokens: Some(100),
                empty_response: Some(arm == Arm::Bifrost && is_one_in(9)),
                ..Sample::default()
            };
            record(&mut window, arm, sample);
        }
        window.record_copy(("openai", "gpt-4o-mini", "chat_completion", false), request % 64, request % 40 >= 3);
    }
    window
}

fn record(window: &mut Window, arm: Arm, sample: Sample) {
    window.record(("openai", "gpt-4o-mini", "chat_completion", false), arm, &sample);
}

/// Pods that all counted the same; none: they do not answer.
#[derive(Clone, Default)]
pub(super) struct Counted(pub(super) Arc<Mutex<Option<WindowReport>>>);

impl PodClient for Counted {
    async fn state(&self, _: &Pod, _: &SecretValue) -> Result<StateReport, PodError> {
        Err(PodError::NoReport)
    }

    async fn refresh(&self, _: &Pod, _: &SecretValue) -> Result<(), PodError> {
        Err(PodError::NoReport)
    }

    async fn window(&self, _: &Pod, _: &SecretValue) -> Result<WindowReport, PodError> {
        self.0.lock().unwrap().clone().ok_or(PodError::Unreachable)
    }
}

/// Notes what is asked for, and when; a query has 1.5, and a webhook finds a failure.
#[derive(Clone)]
struct Noting {
    since: Instant,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Ask for Noting {
    async fn ask(&self, metric: &Metric, subject: &Subject) -> Answer {
        let (what, answer) = match &metric.source {
            Source::Prometheus(query) => {
                let text = query.fill(&subject.gateway.namespace, &subject.gateway.name).unwrap();
                (format!("{} {text}", query.url), of_query(query, ANSWER))
            }
            Source::Webhook { target, .. } => (format!("{target} {subject:?}"), of_webhook(br#"{"verdict":"Fail"}"#)),
        };
        self.asked.lock().unwrap().push(format!("{:?} {what}", self.since.elapsed()));
        answer
    }
}
