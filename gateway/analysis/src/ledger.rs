//! The operator's side: what pods answered when they were pulled, as the totals of the step and of the recent past. What a pod
//! counted stays in the totals when the pod is gone or its process starts again.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::gross;
use crate::recent::{Moments, Tally};
use crate::stratum::{Arm, Stratum};
use crate::window::{MAX_STRATA, Window};
use crate::wire::WindowReport;

/// An answer is recent for this long: three pulls of five seconds.
const RECENT: Duration = Duration::from_secs(15);
/// More pods than this are not kept apart: further ones count as not answering.
const MAX_PODS: usize = 4_096;

/// The totals of one step.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    mark: u64,
    began: Duration,
    pods: BTreeMap<String, Pod>,
    /// What pods and processes counted that are gone.
    gone: Window,
    /// Strata in the order in which they were first seen: the order in which they get their part of the budget.
    order: Vec<Stratum>,
    moments: Moments,
    gross_looks: u64,
}

#[derive(Debug, Clone, Default)]
struct Pod {
    last: Option<Answer>,
}

#[derive(Debug, Clone)]
struct Answer {
    instance: String,
    at: Duration,
    window: Window,
    /// Requests a second between the last two answers.
    rate: f64,
}

/// What the verdict is made from.
#[derive(Debug, Clone, Default)]
pub struct Merged {
    /// The totals of the step.
    pub total: Window,
    /// What was added in several spans of the recent past.
    pub recent: Vec<Tally>,
    /// The share of the traffic that recent answers tell about, 0 to 1.
    pub known_share: f64,
    /// Whether every live pod answered recently.
    pub is_complete: bool,
    /// Before how many earlier looks of the step the arms together had failures enough for gross failure of the new one.
    pub gross_looks: u64,
}

impl Ledger {
    /// A ledger of the position with this mark. Times are since any one origin of the caller's.
    pub fn new(now: Duration, mark: u64) -> Self {
        let mut moments = Moments::default();
        moments.remember(now, Tally::default());
        Self { mark, began: now, moments, ..Self::default() }
    }

    /// The mark of the position it counts for. With another position begin another ledger.
    pub fn mark(&self) -> u64 {
        self.mark
    }

    /// Says which pods live. What others counted stays in the totals; pods that are new have yet to answer.
    pub fn set_pods<'a>(&mut self, live: impl IntoIterator<Item = &'a str>) {
        let mut pods = BTreeMap::new();
        for name in live.into_iter().take(MAX_PODS) {
            pods.insert(name.to_owned(), self.pods.remove(name).unwrap_or_default());
        }
        // With the places of the totals: once there are as many strata as are told apart, what is gone must not become another one.
        for stratum in &self.order {
            self.gone.slot(&stratum.provider, &stratum.model, &stratum.endpoint, stratum.stream);
        }
        for pod in std::mem::replace(&mut self.pods, pods).into_values() {
            if let Some(answer) = pod.last {
                self.gone.merge(&answer.window);
            }
        }
    }

    /// Takes a pod's answer, and says whether it counts: not when the pod is not known, still counts for another position, or
    /// the answer is older than one that is known already.
    pub fn pull(&mut self, now: Duration, pod: &str, report: WindowReport) -> bool {
        let Some(pod) = self.pods.get_mut(pod) else { return false };
        if report.epoch_mark != self.mark {
            return false;
        }
        let mut since = self.began;
        let mut before = 0;
        if let Some(last) = pod.last.take() {
            if last.instance == report.instance {
                before = requests(&last.window);
                since = last.at;
                if requests(&report.window) < before {
                    pod.last = Some(last);
                    return false;
                }
            } else {
                self.gone.merge(&last.window);
            }
        }
        for stats in report.window.strata() {
            if !self.order.contains(&stats.stratum) && self.order.len() <= MAX_STRATA {
                self.order.push(stats.stratum.clone());
            }
        }
        let seconds = now.saturating_sub(since).as_secs_f64().max(1.0);
        let rate = requests(&report.window).saturating_sub(before) as f64 / seconds;
        pod.last = Some(Answer { instance: report.instance, at: now, window: report.window, rate });
        true
    }

    /// The totals as they are now. Call it after each round of pulls: it also remembers them for the recent past.
    pub fn merged(&mut self, now: Duration) -> Merged {
        let mut total = Window::new();
        for stratum in &self.order {
            total.slot(&stratum.provider, &stratum.model, &stratum.endpoint, stratum.stream);
        }
        total.merge(&self.gone);
        for answer in self.pods.values().filter_map(|pod| pod.last.as_ref()) {
            total.merge(&answer.window);
        }
        let tally = Tally::of(&total);
        let recent = self.moments.spans(now, &tally);
        self.moments.remember(now, tally);
        let gross_looks = self.gross_looks;
        self.gross_looks += u64::from(gross::could_be_anywhere(&recent));
        Merged {
            total,
            recent,
            known_share: self.known_share(now),
            is_complete: !self.pods.is_empty() && self.pods.values().all(|pod| pod.is_recent(now)),
            gross_looks,
        }
    }

    /// The share of traffic of pods that answered recently. A silent pod counts with its last known rate, one that never answered
    /// as the mean of the others.
    fn known_share(&self, now: Duration) -> f64 {
        let rates: Vec<f64> =
            self.pods.values().filter_map(|pod| pod.last.as_ref()).map(|answer| answer.rate).collect();
        let mean = if rates.is_empty() { 0.0 } else { rates.iter().sum::<f64>() / rates.len() as f64 };
        // Without any traffic each pod counts the same.
        let least = if mean > 0.0 { 0.0 } else { 1.0 };
        let (mut known, mut all) = (0.0, 0.0);
        for pod in self.pods.values() {
            let rate = pod.last.as_ref().map_or(mean, |answer| answer.rate) + least;
            all += rate;
            known += if pod.is_recent(now) { rate } else { 0.0 };
        }
        if all > 0.0 { known / all } else { 0.0 }
    }
}

impl Pod {
    fn is_recent(&self, now: Duration) -> bool {
        self.last.as_ref().is_some_and(|answer| now <= answer.at + RECENT)
    }
}

fn requests(window: &Window) -> u64 {
    window.requests(Arm::Baseline) + window.requests(Arm::Bifrost)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Sample;

    fn report(instance: &str, mark: u64, requests: u32) -> WindowReport {
        let mut window = Window::new();
        for _ in 0..requests {
            window.record(("openai", "gpt-4o-mini", "chat_completion", false), Arm::Bifrost, &Sample::default());
        }
        WindowReport { instance: instance.into(), epoch_mark: mark, window }
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn restarts_and_removed_pods_lose_nothing() {
        let mut ledger = Ledger::new(at(0), 7);
        ledger.set_pods(["a", "b"]);
        assert!(ledger.pull(at(5), "a", report("a1", 7, 100)));
        assert!(ledger.pull(at(5), "b", report("b1", 7, 50)));
        assert!(ledger.pull(at(10), "a", report("a2", 7, 3)), "the process started again");
        assert_eq!(ledger.merged(at(10)).total.requests(Arm::Bifrost), 153);
        ledger.set_pods(["a", "c"]);
        let merged = ledger.merged(at(10));
        assert_eq!(merged.total.requests(Arm::Bifrost), 153);
        assert!(!merged.is_complete, "c has yet to answer");
        assert!(ledger.pull(at(10), "c", report("c1", 7, 1)));
        assert!(ledger.merged(at(11)).is_complete);
        assert!(!ledger.merged(at(26)).is_complete, "answers grow old");
    }

    #[test]
    fn what_belongs_elsewhere_does_not_count() {
        let mut ledger = Ledger::new(at(0), 7);
        ledger.set_pods(["a"]);
        assert!(!ledger.pull(at(5), "a", report("a1", 6, 100)), "another position");
        assert!(!ledger.pull(at(5), "x", report("x1", 7, 100)), "an unknown pod");
        assert!(ledger.pull(at(5), "a", report("a1", 7, 10)));
        assert!(!ledger.pull(at(6), "a", report("a1", 7, 9)), "an answer that was overtaken");
        assert_eq!(ledger.merged(at(6)).total.requests(Arm::Bifrost), 10);
    }

    #[test]
    fn the_known_share_is_of_traffic_not_of_pods() {
        let mut ledger = Ledger::new(at(0), 1);
        ledger.set_pods(["busy", "idle"]);
        assert_eq!(ledger.merged(at(1)).known_share, 0.0);
        ledger.pull(at(5), "busy", report("a", 1, 900));
        assert!((ledger.merged(at(5)).known_share - 0.5).abs() < 1e-9, "the other may have as much");
        ledger.pull(at(5), "idle", report("b", 1, 100));
        ledger.pull(at(100), "busy", report("a", 1, 18_000));
        let share = ledger.merged(at(100)).known_share;
        assert!((0.89..0.91).contains(&share), "{share}");
    }

    #[test]
    fn the_recent_past_is_what_was_added() {
        let mut ledger = Ledger::new(at(0), 1);
        ledger.set_pods(["a"]);
        let mut last = Merged::default();
        for second in (5..=300).step_by(5) {
            ledger.pull(at(second), "a", report("a", 1, u32::try_from(second).unwrap()));
            last = ledger.merged(at(second));
        }
        let added: Vec<u32> =
            last.recent.iter().map(|tally| tally.strata[0].1[1].requests.iter().sum::<u32>()).collect();
        assert_eq!(added[..3], [10, 15, 25]);
        assert_eq!(added.last(), Some(&300));
    }
}
