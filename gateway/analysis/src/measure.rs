//! One measure of one stratum, as a sum and a number of values for each group and arm.

use crate::check::{CheckKind, Price};
use crate::sample::Failure;
use crate::stratum::{Arm, GROUPS};
use crate::sums::GroupSums;
use crate::window::{ArmStats, StratumStats};

/// One arm's sums and numbers of values by group.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Side {
    pub(crate) sums: [f64; GROUPS],
    pub(crate) counts: [f64; GROUPS],
    pub(crate) sum: f64,
    pub(crate) count: f64,
}

impl Side {
    fn new(stats: Option<&ArmStats>, read: impl Fn(&GroupSums) -> (f64, f64)) -> Self {
        let mut side = Self { sums: [0.0; GROUPS], counts: [0.0; GROUPS], sum: 0.0, count: 0.0 };
        for (place, group) in stats.iter().flat_map(|stats| stats.groups.iter()).enumerate() {
            let (sum, count) = read(group);
            side.sums[place] = sum;
            side.counts[place] = count;
            side.sum += sum;
            side.count += count;
        }
        side
    }

    /// The mean value; 0 without values.
    pub(crate) fn mean(&self) -> f64 {
        if self.count > 0.0 { self.sum / self.count } else { 0.0 }
    }
}

/// A measure of one stratum on both arms.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured {
    pub(crate) baseline: Side,
    pub(crate) bifrost: Side,
}

impl Measured {
    pub(crate) fn new(kind: &CheckKind, stats: &StratumStats, price: Option<Price>) -> Self {
        let side = |arm| Side::new(stats.arm(arm), |sums| read(kind, sums, price));
        Self { baseline: side(Arm::Baseline), bifrost: side(Arm::Bifrost) }
    }
}

fn read(kind: &CheckKind, sums: &GroupSums, price: Option<Price>) -> (f64, f64) {
    let share = |share: &crate::sums::Share| (f64::from(share.bad), f64::from(share.n));
    let logs = |sum: &crate::sums::Sum| (sum.sum, f64::from(sum.n));
    match kind {
        CheckKind::ErrorRate { classes } => {
            let classes = if classes.is_empty() { &Failure::SERVICE[..] } else { classes };
            (sums.failed(classes) as f64, f64::from(sums.requests))
        }
        CheckKind::Latency => logs(&sums.latency),
        CheckKind::TimeToFirstToken => logs(&sums.first_output),
        CheckKind::GatewayOverhead => logs(&sums.overhead),
        CheckKind::OutputTokens => (sums.usage.output as f64, f64::from(sums.usage.n)),
        CheckKind::CostPerRequest => match price {
            Some(Price { input, output }) => {
                (sums.usage.input as f64 * input + sums.usage.output as f64 * output, f64::from(sums.usage.n))
            }
            None => (0.0, 0.0),
        },
        CheckKind::EmptyResponseRate => share(&sums.empty),
        CheckKind::InvalidToolCallRate => share(&sums.invalid_tool_call),
        CheckKind::ShadowAgreement => share(&sums.copies),
    }
}
