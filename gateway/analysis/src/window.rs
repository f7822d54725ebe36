//! What one pod counts, for each stratum and arm. Windows of runtimes and pods merge by addition. Recording allocates only when
//! a stratum or an arm is seen for the first time.

use crate::histogram::Histogram;
use crate::sample::Sample;
use crate::stratum::{Arm, GROUPS, Stratum};
use crate::sums::GroupSums;

/// How many strata a window tells apart; the rest is counted in [`Stratum::other`].
pub const MAX_STRATA: usize = 32;

/// The counts of one arm in one stratum.
#[derive(Debug, Clone, PartialEq)]
pub struct ArmStats {
    /// The sums of each group of users.
    pub groups: Box<[GroupSums; GROUPS]>,
    /// Latency of successful requests, for display.
    pub latency: Histogram,
    /// Time to first token of successful streams, for display.
    pub first_output: Histogram,
}

impl Default for ArmStats {
    fn default() -> Self {
        Self {
            groups: Box::new([GroupSums::default(); GROUPS]),
            latency: Histogram::default(),
            first_output: Histogram::default(),
        }
    }
}

impl ArmStats {
    fn record(&mut self, sample: &Sample) {
        self.groups[sample.group % GROUPS].record(sample);
        if sample.failure.is_none() {
            self.latency.record(sample.latency);
            if let Some(first_output) = sample.first_output {
                self.first_output.record(first_output);
            }
        }
    }

    fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.groups.iter_mut().zip(other.groups.iter()) {
            mine.merge(theirs);
        }
        self.latency.merge(&other.latency);
        self.first_output.merge(&other.first_output);
    }

    /// Finished requests.
    pub fn requests(&self) -> u64 {
        self.groups.iter().map(|group| u64::from(group.requests)).sum()
    }
}

/// One stratum of a window.
#[derive(Debug, Clone, PartialEq)]
pub struct StratumStats {
    /// Which one.
    pub stratum: Stratum,
    hash: u64,
    baseline: Option<ArmStats>,
    bifrost: Option<ArmStats>,
}

impl StratumStats {
    fn new(stratum: Stratum) -> Self {
        let hash = name_hash(&stratum.provider, &stratum.model, &stratum.endpoint, stratum.stream);
        Self { stratum, hash, baseline: None, bifrost: None }
    }

    /// The counts of an arm; none when it has had no request.
    pub fn arm(&self, arm: Arm) -> Option<&ArmStats> {
        match arm {
            Arm::Baseline => self.baseline.as_ref(),
            Arm::Bifrost => self.bifrost.as_ref(),
        }
    }

    /// The counts of an arm, to add to.
    pub fn arm_mut(&mut self, arm: Arm) -> &mut ArmStats {
        let stats = match arm {
            Arm::Baseline => &mut self.baseline,
            Arm::Bifrost => &mut self.bifrost,
        };
        stats.get_or_insert_default()
    }
}

/// The place of a stratum in one window. Valid for that window only, and until it is taken or replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot(usize);

/// Counts per stratum and arm, in the order in which the strata were first seen.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Window {
    strata: Vec<StratumStats>,
}

impl Window {
    /// An empty window.
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts one request.
    pub fn record(&mut self, (provider, model, endpoint, stream): (&str, &str, &str, bool), arm: Arm, sample: &Sample) {
        let slot = self.slot(provider, model, endpoint, stream);
        self.record_at(slot, arm, sample);
    }

    /// Counts one request in a stratum whose slot the caller keeps. A slot of another window counts as the stratum it has here,
    /// and is ignored when there is none.
    pub fn record_at(&mut self, slot: Slot, arm: Arm, sample: &Sample) {
        if let Some(stats) = self.strata.get_mut(slot.0) {
            stats.arm_mut(arm).record(sample);
        }
    }

    /// Counts one copy of a request to the other arm, by the group of the request's user: whether both answers agree.
    pub fn record_copy(
        &mut self,
        (provider, model, endpoint, stream): (&str, &str, &str, bool),
        group: usize,
        agrees: bool,
    ) {
        let Slot(place) = self.slot(provider, model, endpoint, stream);
        self.strata[place].arm_mut(Arm::Bifrost).groups[group % GROUPS].copies.add(!agrees);
    }

    /// The slot of a stratum, which is added if it is new.
    pub fn slot(&mut self, provider: &str, model: &str, endpoint: &str, stream: bool) -> Slot {
        let hash = name_hash(provider, model, endpoint, stream);
        let known = self.strata.iter().position(|stats| {
            let stratum = &stats.stratum;
            stats.hash == hash
                && stratum.stream == stream
                && stratum.model == model
                && stratum.endpoint == endpoint
                && stratum.provider == provider
        });
        if let Some(place) = known {
            return Slot(place);
        }
        let is_full = self.strata.len() >= MAX_STRATA;
        if is_full {
            let other = Stratum::other();
            if let Some(place) = self.strata.iter().position(|stats| stats.stratum == other) {
                return Slot(place);
            }
        }
        self.strata.push(StratumStats::new(if is_full {
            Stratum::other()
        } else {
            Stratum { provider: provider.into(), model: model.into(), endpoint: endpoint.into(), stream }
        }));
        Slot(self.strata.len() - 1)
    }

    /// The counts of a stratum, to add to. The stratum is added if it is new.
    pub fn stratum_mut(&mut self, stratum: &Stratum) -> &mut StratumStats {
        let Slot(place) = self.slot(&stratum.provider, &stratum.model, &stratum.endpoint, stratum.stream);
        &mut self.strata[place]
    }

    /// Adds what another runtime or pod counted.
    pub fn merge(&mut self, other: &Self) {
        for theirs in &other.strata {
            let mine = self.stratum_mut(&theirs.stratum);
            for arm in [Arm::Baseline, Arm::Bifrost] {
                if let Some(stats) = theirs.arm(arm) {
                    mine.arm_mut(arm).merge(stats);
                }
            }
        }
    }

    /// The strata, in the order in which they were first seen here.
    pub fn strata(&self) -> &[StratumStats] {
        &self.strata
    }

    /// Copies, over all strata.
    pub fn copies(&self) -> u64 {
        let arms = self.strata.iter().filter_map(|stats| stats.arm(Arm::Bifrost));
        arms.flat_map(|arm| arm.groups.iter()).map(|group| u64::from(group.copies.n)).sum()
    }

    /// Finished requests of an arm, over all strata.
    pub fn requests(&self, arm: Arm) -> u64 {
        self.strata.iter().filter_map(|stats| stats.arm(arm)).map(ArmStats::requests).sum()
    }
}

/// A quick hash of a stratum's name (FNV-1a, eight bytes at a time), to find its slot. Never leaves the process.
fn name_hash(provider: &str, model: &str, endpoint: &str, stream: bool) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64 ^ u64::from(stream);
    for part in [provider, model, endpoint] {
        for chunk in part.as_bytes().chunks(8) {
            let mut word = [0u8; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(29);
        }
        hash = (hash ^ part.len() as u64).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::sample::Failure;

    const CHAT: (&str, &str, &str, bool) = ("openai", "gpt-4o-mini", "chat_completion", false);

    fn sample(failure: Option<Failure>) -> Sample {
        Sample { group: 3, failure, latency: Duration::from_millis(100), ..Sample::default() }
    }

    #[test]
    fn failed_requests_have_no_latency() {
        let mut window = Window::new();
        window.record(CHAT, Arm::Bifrost, &sample(None));
        window.record(CHAT, Arm::Bifrost, &sample(Some(Failure::Timeout)));
        let stats = window.strata()[0].arm(Arm::Bifrost).unwrap();
        assert_eq!((stats.groups[3].requests, stats.groups[3].latency.n, stats.latency.count()), (2, 1, 1));
        assert_eq!(stats.groups[3].failed(&Failure::SERVICE), 1);
        assert!((stats.groups[3].latency.sum - 100f64.ln()).abs() < 1e-12);
        assert!(window.strata()[0].arm(Arm::Baseline).is_none());
    }

    #[test]
    fn unknown_is_not_zero() {
        let mut window = Window::new();
        window.record(CHAT, Arm::Bifrost, &Sample { output_tokens: Some(5), ..sample(None) });
        window.record(
            CHAT,
            Arm::Bifrost,
            &Sample { input_tokens: Some(7), output_tokens: Some(5), empty_response: Some(false), ..sample(None) },
        );
        let sums = window.strata()[0].arm(Arm::Bifrost).unwrap().groups[3];
        assert_eq!((sums.usage.n, sums.usage.input, sums.usage.output), (1, 7, 5));
        assert_eq!((sums.empty.n, sums.empty.bad, sums.invalid_tool_call.n), (1, 0, 0));
    }

    #[test]
    fn strata_beyond_the_bound_share_one() {
        let mut window = Window::new();
        for number in 0..100 {
            window.record(("openai", &format!("m{number}"), "chat_completion", true), Arm::Baseline, &sample(None));
        }
        assert_eq!(window.strata().len(), MAX_STRATA + 1);
        assert_eq!(window.strata()[MAX_STRATA].stratum, Stratum::other());
        assert_eq!(window.strata()[MAX_STRATA].arm(Arm::Baseline).unwrap().requests(), 68);
        assert_eq!(window.requests(Arm::Baseline), 100);
    }
}
