//! What may be checked, against what, and what follows.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::sample::Failure;
use crate::stratum::Stratum;

/// One check of the analysis.
#[derive(Debug, Clone, PartialEq)]
pub struct Check {
    /// Its name in reports.
    pub name: String,
    /// What is measured.
    pub kind: CheckKind,
    /// What is too much.
    pub limit: Limit,
    /// What follows when it fails.
    pub action: Action,
}

/// What a check measures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckKind {
    /// The share of requests that failed.
    ErrorRate {
        /// The classes that count; empty: all but the caller's own mistakes ([`Failure::SERVICE`]).
        classes: Vec<Failure>,
    },
    /// The typical (geometric mean) latency of successful requests.
    Latency,
    /// The typical time to first token of successful streams.
    TimeToFirstToken,
    /// What the gateway itself typically adds.
    GatewayOverhead,
    /// The mean number of tokens of an answer.
    OutputTokens,
    /// The mean cost of a request. Strata without a price are left out, and hold the check at inconclusive.
    CostPerRequest,
    /// The share of answers that were empty.
    EmptyResponseRate,
    /// The share of answers with a tool call that is not valid.
    InvalidToolCallRate,
    /// The share of copies whose answer does not agree with the first one. Sentences say it the other way round: how many agree.
    ShadowAgreement,
}

/// What is too much.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Limit {
    /// The most there may be on the new arm: a share (0.05 is 5 %), milliseconds, tokens, or money.
    Absolute(f64),
    /// The most by which the new arm may exceed the old one: for shares in points (0.005 is half a point), for everything else
    /// relative (0.2 is 20 %).
    AgainstBaseline(f64),
}

impl Limit {
    /// The limit of an error rate that is recommended when nothing is said: half a point more than the old arm.
    pub const ERROR_RATE: Self = Self::AgainstBaseline(0.005);
}

/// What follows when a check fails, the mildest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Action {
    /// It is said, and the migration goes on.
    Warn,
    /// The migration stays where it is.
    Pause,
    /// All traffic goes back to the old arm.
    Rollback,
}

/// What tokens cost, in one currency for all strata.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Price {
    /// A token of the prompt.
    pub input: f64,
    /// A token of the answer.
    pub output: f64,
}

/// Prices by stratum.
pub type Prices = BTreeMap<Stratum, Price>;

/// What kind of number a check compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
    /// A share of requests; differences in points.
    Share,
    /// The mean of logarithms of milliseconds; differences are ratios.
    LogMillis,
    /// A mean; differences are relative to the old arm's.
    Mean,
}

impl CheckKind {
    pub(crate) fn scale(&self) -> Scale {
        match self {
            Self::ErrorRate { .. } | Self::EmptyResponseRate | Self::InvalidToolCallRate | Self::ShadowAgreement => {
                Scale::Share
            }
            Self::Latency | Self::TimeToFirstToken | Self::GatewayOverhead => Scale::LogMillis,
            Self::OutputTokens | Self::CostPerRequest => Scale::Mean,
        }
    }

    /// Whether the check says something about this stratum.
    pub(crate) fn applies_to(&self, stratum: &Stratum) -> bool {
        !matches!(self, Self::TimeToFirstToken) || stratum.stream
    }
}
