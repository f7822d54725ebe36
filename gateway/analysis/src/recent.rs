//! The recent past, for gross failure: how many requests there were and how many failed, by stratum, arm and group, over several
//! spans up to now. Kept as totals at past moments, the farther apart the older they are, so a gateway with little traffic is
//! seen as well as a busy one, and the memory is bounded.

use std::collections::VecDeque;
use std::time::Duration;

use crate::stratum::{Arm, GROUPS, Stratum};
use crate::window::Window;

/// How many spans are looked at. One step's budget for gross failure is split evenly over them.
pub(crate) const SPANS: i32 = 17;
/// The shortest span; each next one is half as long again, so that some span fits what has just begun, however slowly it shows.
const SHORTEST: Duration = Duration::from_secs(10);
const RATIO: f64 = 1.5;
/// Moments are forgotten when they are older than this, with room for a moment after the longest span.
const OLDEST: Duration = Duration::from_secs(9_000);
/// Moments of an age are at most this part of the age apart, …
const APART: u32 = 5;
/// … and no moment is remembered sooner than this after the last one.
const SOONEST: Duration = Duration::from_secs(2);

/// The length of a span, from the shortest: 10 s, 15 s, … 110 minutes.
pub fn span(place: i32) -> Duration {
    SHORTEST.mul_f64(RATIO.powi(place))
}

/// Requests and failures of one arm by group. Only failures that say something about the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArmTally {
    /// Requests of each group.
    pub requests: [u32; GROUPS],
    /// Failed ones of each group.
    pub failures: [u32; GROUPS],
}

impl Default for ArmTally {
    fn default() -> Self {
        Self { requests: [0; GROUPS], failures: [0; GROUPS] }
    }
}

impl ArmTally {
    fn since(&self, past: &Self) -> Self {
        let minus = |now: &[u32; GROUPS], past: &[u32; GROUPS]| {
            std::array::from_fn(|group| now[group].saturating_sub(past[group]))
        };
        Self { requests: minus(&self.requests, &past.requests), failures: minus(&self.failures, &past.failures) }
    }

    /// Adds another stratum's.
    pub(crate) fn add(&mut self, other: &Self) {
        for group in 0..GROUPS {
            self.requests[group] = self.requests[group].saturating_add(other.requests[group]);
            self.failures[group] = self.failures[group].saturating_add(other.failures[group]);
        }
    }
}

/// Requests and failures of both arms, old and new.
pub type PairTally = [ArmTally; 2];

/// Requests and failures by stratum.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Tally {
    /// In the order in which the strata were first seen.
    pub strata: Vec<(Stratum, PairTally)>,
}

impl Tally {
    /// The tally of a window.
    pub fn of(window: &Window) -> Self {
        let strata = window.strata().iter().map(|stats| {
            let pair = [Arm::Baseline, Arm::Bifrost].map(|arm| {
                let mut tally = ArmTally::default();
                for (place, group) in stats.arm(arm).iter().flat_map(|stats| stats.groups.iter()).enumerate() {
                    tally.requests[place] = group.requests;
                    tally.failures[place] = group.failed_service();
                }
                tally
            });
            (stats.stratum.clone(), pair)
        });
        Self { strata: strata.collect() }
    }

    /// What was added since a past tally.
    pub fn since(&self, past: &Self) -> Self {
        let strata = self.strata.iter().map(|(stratum, now)| {
            let past = past.strata.iter().find(|(other, _)| other == stratum).map(|(_, pair)| pair);
            let pair = past.map_or(*now, |past| [now[0].since(&past[0]), now[1].since(&past[1])]);
            (stratum.clone(), pair)
        });
        Self { strata: strata.collect() }
    }
}

/// Totals at past moments.
#[derive(Debug, Clone, Default)]
pub(crate) struct Moments {
    /// The oldest first. The first one is the step's start, until it is too old.
    kept: VecDeque<(Duration, Tally)>,
}

impl Moments {
    /// Remembers the totals of this moment, and forgets what is not needed any more.
    pub(crate) fn remember(&mut self, now: Duration, total: Tally) {
        if self.kept.back().is_some_and(|(at, _)| now < *at + SOONEST) {
            return;
        }
        self.kept.push_back((now, total));
        let mut before = None;
        let mut after: VecDeque<Duration> = self.kept.iter().map(|(at, _)| *at).collect();
        self.kept.retain(|(at, _)| {
            after.pop_front();
            let age = now.saturating_sub(*at);
            let is_spare = match (before, after.front()) {
                (Some(before), Some(next)) => next.saturating_sub(before) <= age / APART,
                _ => false,
            };
            let is_kept = age <= OLDEST && !is_spare;
            if is_kept {
                before = Some(*at);
            }
            is_kept
        });
    }

    /// What was added within each span, if the span is not the same as a shorter one.
    pub(crate) fn spans(&self, now: Duration, total: &Tally) -> Vec<Tally> {
        let mut spans = Vec::new();
        let mut last = None;
        for length in (0..SPANS).map(span) {
            let from = self.kept.iter().rposition(|(at, _)| *at + length <= now).unwrap_or(0);
            if last != Some(from) {
                match self.kept.get(from) {
                    Some((at, past)) if *at < now => spans.push(total.since(past)),
                    _ => continue,
                }
                last = Some(from);
            }
        }
        spans
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn total(requests: u32) -> Tally {
        let stratum = Stratum { provider: "p".into(), model: "m".into(), endpoint: "e".into(), stream: false };
        let mut arm = ArmTally::default();
        arm.requests[5] = requests;
        Tally { strata: vec![(stratum, [ArmTally::default(), arm])] }
    }

    #[test]
    fn spans_count_what_was_added_within_them_and_memory_is_bounded() {
        let mut moments = Moments::default();
        let mut most = 0;
        for second in (0..100_000).step_by(5) {
            let now = Duration::from_secs(second);
            let tally = total(u32::try_from(second).unwrap());
            if second > 8_000 {
                let counts: Vec<u32> =
                    moments.spans(now, &tally).iter().map(|tally| tally.strata[0].1[1].requests[5]).collect();
                assert_eq!(counts[..2], [10, 15], "at {second}");
                assert_eq!(counts.len(), 17);
                for (place, &count) in (0..).zip(&counts) {
                    let length = span(place).as_secs_f64();
                    assert!((length..=length * 1.25 + 5.0).contains(&f64::from(count)), "{length}: {count}");
                }
            }
            moments.remember(now, tally);
            most = most.max(moments.kept.len());
        }
        assert!(most < 60, "{most}");
    }

    #[test]
    fn a_young_step_is_looked_at_as_a_whole() {
        let mut moments = Moments::default();
        moments.remember(Duration::ZERO, Tally::default());
        let counts = |moments: &Moments, second, requests| -> Vec<u32> {
            let spans = moments.spans(Duration::from_secs(second), &total(requests));
            spans.iter().map(|tally| tally.strata[0].1[1].requests[5]).collect()
        };
        assert_eq!(counts(&moments, 5, 7), [7]);
        moments.remember(Duration::from_secs(5), total(7));
        moments.remember(Duration::from_secs(10), total(9));
        assert_eq!(counts(&moments, 20, 11), [2, 4, 11]);
    }
}
