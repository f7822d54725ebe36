//! What others measure of one stage: each metric is asked for at its interval, and two failures in a row count. One alone may be a blip.

use std::sync::Arc;
use std::time::Duration;

use bifrost_analysis::{Action, CheckReport, Report, Verdict};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tracing::debug;

use super::Watched;
use super::answer::Answer;
use super::ask::Ask;
use crate::migration::metric::Metric;

/// So many failures in a row count.
const FAILURES: u32 = 2;

/// The metrics of the stage that is watched. Dropped, it asks for nothing more.
pub(super) struct Outside<A> {
    asker: A,
    origin: Instant,
    asked: Arc<Watched>,
    standings: Vec<Standing>,
    requests: JoinSet<(usize, Answer)>,
}

impl<A: Ask> Outside<A> {
    pub(super) fn new(asker: A, origin: Instant, asked: Arc<Watched>) -> Self {
        let (standings, requests) = (Vec::new(), JoinSet::new());
        let mut outside = Self { asker, origin, asked, standings, requests };
        outside.begin();
        outside
    }

    /// Begins anew where another stage is watched, or this one under another spec. Returns whether it did.
    pub(super) fn follow(&mut self, asked: &Arc<Watched>) -> bool {
        let is_another = !self.asked.is_alike(asked);
        self.asked = asked.clone();
        if is_another {
            self.begin();
        }
        is_another
    }

    fn begin(&mut self) {
        let now = self.origin.elapsed();
        self.requests = JoinSet::new();
        self.standings = self.asked.analysis.metrics.iter().map(|metric| Standing::new(metric.clone(), now)).collect();
    }

    /// Asks for what is due, and returns with the next answer.
    pub(super) async fn answered(&mut self) {
        loop {
            let now = self.origin.elapsed();
            for (index, standing) in self.standings.iter_mut().enumerate().filter(|(_, one)| one.due <= now) {
                standing.due = now + standing.metric.interval;
                let (asker, metric, asked) = (self.asker.clone(), standing.metric.clone(), self.asked.clone());
                self.requests.spawn(async move { (index, asker.ask(&metric, &asked.subject).await) });
            }
            let next = self.standings.iter().map(|standing| standing.due).min();
            tokio::select! {
                Some(answer) = self.requests.join_next() => {
                    if let Ok((index, answer)) = answer
                        && let Some(standing) = self.standings.get_mut(index)
                    {
                        let name = &standing.metric.name;
                        debug!(name, verdict = ?answer.verdict, why = answer.why, "a metric was asked for");
                        standing.take(answer);
                        return;
                    }
                }
                () = sleep_until(self.origin + next.unwrap_or_default()), if next.is_some() => {}
                else => std::future::pending().await,
            }
        }
    }

    /// What keeps metrics from a verdict.
    pub(super) fn doubts(&self) -> Vec<String> {
        let unsure = self.standings.iter().map(Standing::report).filter(|one| one.verdict == Verdict::Inconclusive);
        unsure.map(|one| one.reason).collect()
    }

    /// A report of the checks, and what the metrics say beside them.
    pub(super) fn with(&self, report: Report) -> Report {
        merge(report, self.standings.iter().map(Standing::report))
    }
}

/// How a metric stands.
struct Standing {
    metric: Metric,
    /// When it is asked for next.
    due: Duration,
    last: Option<Answer>,
    /// In a row.
    failures: u32,
}

impl Standing {
    /// The first answer is waited for, so that it is about this stage and not about the one before.
    fn new(metric: Metric, now: Duration) -> Self {
        Self { due: now + metric.interval, metric, last: None, failures: 0 }
    }

    fn take(&mut self, answer: Answer) {
        self.failures = if answer.verdict == Verdict::Fail { self.failures.saturating_add(1) } else { 0 };
        self.last = Some(answer);
    }

    fn report(&self) -> CheckReport {
        let (verdict, why) = match &self.last {
            None => (Verdict::Inconclusive, "not asked for yet".to_owned()),
            Some(answer) if answer.verdict == Verdict::Fail && self.failures < FAILURES => {
                (Verdict::Inconclusive, format!("{}, which counts once it is so twice in a row", answer.why))
            }
            Some(answer) => (answer.verdict, answer.why.clone()),
        };
        CheckReport {
            name: self.metric.name.clone(),
            verdict,
            cause: None,
            action: self.metric.action,
            stratum: None,
            baseline: None,
            bifrost: self.last.as_ref().and_then(|answer| answer.value),
            estimate: None,
            bounds: None,
            requests: [0, 0],
            // A reason names its check.
            reason: format!("{} {}: {why}", self.metric.name, self.metric.source_name()),
        }
    }
}

/// Adds metrics to a report, in front of the watch for gross failure. They count as its checks do.
fn merge(report: Report, metrics: impl Iterator<Item = CheckReport>) -> Report {
    let Report { verdict, action, mut checks } = report;
    let last = checks.len().saturating_sub(1);
    checks.splice(last..last, metrics);
    let failed = checks.iter().filter(|check| check.verdict == Verdict::Fail);
    let action = failed.map(|check| check.action).max().max(action);
    let mut counting = checks.iter().filter(|check| check.action > Action::Warn);
    let verdict = if action > Some(Action::Warn) {
        Verdict::Fail
    } else if verdict == Verdict::Pass && counting.all(|check| check.verdict == Verdict::Pass) {
        Verdict::Pass
    } else {
        Verdict::Inconclusive
    };
    Report { verdict, action, checks }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migration::metric::Source;
    use bifrost_analysis::GROSS_FAILURE;
    use bifrost_config::BaseUrl;

    fn standing(name: &str, action: Action) -> Standing {
        let url = BaseUrl::parse("http://w").unwrap();
        let source = Source::Webhook { url, target: "http://w".to_owned() };
        let metric =
            Metric { name: name.to_owned(), path: String::new(), source, interval: Duration::from_secs(30), action };
        Standing::new(metric, Duration::from_secs(5))
    }

    fn told(standing: &mut Standing, verdict: Verdict) -> Verdict {
        standing.take(Answer { verdict, value: None, why: format!("says {verdict:?}") });
        standing.report().verdict
    }

    /// Of the checks alone, with one more that passes or not.
    fn report(verdict: Verdict) -> Report {
        let gross = CheckReport { name: GROSS_FAILURE.to_owned(), verdict, ..standing("", Action::Rollback).report() };
        let action = (verdict == Verdict::Fail).then_some(Action::Rollback);
        Report { verdict, action, checks: vec![gross] }
    }

    #[test]
    fn two_failures_in_a_row_count_and_one_does_not() {
        use Verdict::{Fail, Inconclusive, Pass};
        let mut standing = standing("a", Action::Rollback);
        assert_eq!((standing.due, standing.report().verdict), (Duration::from_secs(35), Inconclusive));
        let told: Vec<_> = [Pass, Fail, Pass, Fail, Inconclusive, Fail, Fail, Fail, Pass]
            .into_iter()
            .map(|verdict| told(&mut standing, verdict))
            .collect();
        let expected = [Pass, Inconclusive, Pass, Inconclusive, Inconclusive, Inconclusive, Fail, Fail, Pass];
        assert_eq!(told, expected);
    }

    #[test]
    fn metrics_count_as_checks_do() {
        use Verdict::{Fail, Inconclusive, Pass};
        let with = |checks: Verdict, action: Action, said: &[Verdict]| {
            let mut standing = standing("a", action);
            for verdict in said {
                told(&mut standing, *verdict);
            }
            let report = merge(report(checks), std::iter::once(standing.report()));
            assert_eq!(report.checks.last().map(|check| check.name.as_str()), Some(GROSS_FAILURE));
            (report.verdict, report.action)
        };
        assert_eq!(with(Pass, Action::Rollback, &[Pass]), (Pass, None));
        assert_eq!(with(Inconclusive, Action::Rollback, &[Pass]), (Inconclusive, None));
        assert_eq!(with(Pass, Action::Rollback, &[]), (Inconclusive, None));
        assert_eq!(with(Pass, Action::Rollback, &[Fail]), (Inconclusive, None));
        assert_eq!(with(Pass, Action::Rollback, &[Fail, Fail]), (Fail, Some(Action::Rollback)));
        assert_eq!(with(Inconclusive, Action::Pause, &[Fail, Fail]), (Fail, Some(Action::Pause)));
        assert_eq!(with(Pass, Action::Warn, &[]), (Pass, None));
        assert_eq!(with(Pass, Action::Warn, &[Fail, Fail]), (Pass, Some(Action::Warn)));
        assert_eq!(with(Inconclusive, Action::Warn, &[Pass]), (Inconclusive, None));
        assert_eq!(with(Fail, Action::Pause, &[Fail, Fail]), (Fail, Some(Action::Rollback)));
    }

    #[test]
    fn a_reason_names_the_metric_and_its_source() {
        let mut standing = standing("judge", Action::Rollback);
        assert_eq!(standing.report().reason, "judge webhook: not asked for yet");
        told(&mut standing, Verdict::Fail);
        assert!(standing.report().reason.contains("twice in a row"));
        told(&mut standing, Verdict::Fail);
        assert_eq!(standing.report().reason, "judge webhook: says Fail");
    }
}
