//! One finished request as the recorder sees it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Why a request failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Failure {
    /// The upstream did not answer in time.
    Timeout,
    /// No connection to the upstream, or an answer of our own because it is away.
    Unreachable,
    /// The vendor answered with a status of 500 or more (529 is [`Failure::RateLimited`]).
    Upstream5xx,
    /// The vendor answered 429 or 529.
    RateLimited,
    /// Another status of 4xx by the vendor: most often the caller's own mistake.
    ClientError,
    /// The gateway itself refused the request or broke it.
    Gateway,
    /// The answer began and then broke off or carried an error.
    BrokenStream,
}

impl Failure {
    /// How many classes there are.
    pub const COUNT: usize = 7;
    /// All classes, in the order of their counters.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Timeout,
        Self::Unreachable,
        Self::Upstream5xx,
        Self::RateLimited,
        Self::ClientError,
        Self::Gateway,
        Self::BrokenStream,
    ];
    /// The classes that say something about the service: all but the caller's own mistakes.
    pub const SERVICE: [Self; 6] =
        [Self::Timeout, Self::Unreachable, Self::Upstream5xx, Self::RateLimited, Self::Gateway, Self::BrokenStream];

    /// The place of its counter.
    pub(crate) fn index(self) -> usize {
        self as usize
    }
}

/// One finished request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sample {
    /// The user's group, see [`crate::group`]; taken modulo [`crate::GROUPS`].
    pub group: usize,
    /// Why it failed, if it did. Nothing else is measured on a failed request.
    pub failure: Option<Failure>,
    /// From the request's last byte to the answer's last.
    pub latency: Duration,
    /// From the request's last byte to the first event with output; streams only.
    pub first_output: Option<Duration>,
    /// What the gateway itself added.
    pub overhead: Option<Duration>,
    /// Tokens of the prompt; none when unknown. Tokens are counted only when both numbers are known.
    pub input_tokens: Option<u64>,
    /// Tokens of the answer; none when unknown.
    pub output_tokens: Option<u64>,
    /// Whether the answer was empty; none when nobody looked.
    pub empty_response: Option<bool>,
    /// Whether a tool call in the answer was not valid; none when there was none, or nobody looked.
    pub invalid_tool_call: Option<bool>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_has_its_own_counter() {
        for (place, class) in Failure::ALL.into_iter().enumerate() {
            assert_eq!(class.index(), place);
        }
        assert!(!Failure::SERVICE.contains(&Failure::ClientError));
    }
}
