//! What is kept of one group of users: counters and sums, which merge by addition.

use std::time::Duration;

use crate::sample::{Failure, Sample};

/// A number of values and their sum.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Sum {
    /// How many values.
    pub n: u32,
    /// Their sum.
    pub sum: f64,
}

impl Sum {
    fn add(&mut self, value: f64) {
        self.n = self.n.saturating_add(1);
        self.sum += value;
    }

    fn merge(&mut self, other: &Self) {
        self.n = self.n.saturating_add(other.n);
        self.sum += other.sum;
    }
}

/// A number of answers looked at and how many of them were bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Share {
    /// How many were looked at.
    pub n: u32,
    /// How many of them were bad.
    pub bad: u32,
}

impl Share {
    pub(crate) fn add(&mut self, bad: bool) {
        self.n = self.n.saturating_add(1);
        self.bad = self.bad.saturating_add(u32::from(bad));
    }

    fn merge(&mut self, other: &Self) {
        self.n = self.n.saturating_add(other.n);
        self.bad = self.bad.saturating_add(other.bad);
    }
}

/// Tokens of the requests whose usage is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// How many requests.
    pub n: u32,
    /// Tokens of their prompts.
    pub input: u64,
    /// Tokens of their answers.
    pub output: u64,
}

/// The sums of one group, in one stratum and arm. Everything but `requests`, `failures` and `copies` is of
/// successful requests only.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct GroupSums {
    /// Finished requests.
    pub requests: u32,
    /// Those that failed, by class in the order of [`Failure::ALL`].
    pub failures: [u32; Failure::COUNT],
    /// Natural logarithms of the latency in milliseconds.
    pub latency: Sum,
    /// Natural logarithms of the time to first token in milliseconds.
    pub first_output: Sum,
    /// Natural logarithms of the gateway's overhead in milliseconds.
    pub overhead: Sum,
    /// Tokens.
    pub usage: Usage,
    /// Empty answers.
    pub empty: Share,
    /// Answers with a tool call that is not valid.
    pub invalid_tool_call: Share,
    /// Copies of requests to the other arm; bad are those whose answer does not agree. A copy belongs to no arm alone and counts in
    /// none's requests: it is kept with the new arm, whose verdict it is.
    pub copies: Share,
}

impl GroupSums {
    /// Adds one request.
    pub(crate) fn record(&mut self, sample: &Sample) {
        self.requests = self.requests.saturating_add(1);
        if let Some(failure) = sample.failure {
            let counter = &mut self.failures[failure.index()];
            *counter = counter.saturating_add(1);
            return;
        }
        self.latency.add(log_millis(sample.latency));
        if let Some(first_output) = sample.first_output {
            self.first_output.add(log_millis(first_output));
        }
        if let Some(overhead) = sample.overhead {
            self.overhead.add(log_millis(overhead));
        }
        if let (Some(input), Some(output)) = (sample.input_tokens, sample.output_tokens) {
            self.usage.n = self.usage.n.saturating_add(1);
            self.usage.input = self.usage.input.saturating_add(input);
            self.usage.output = self.usage.output.saturating_add(output);
        }
        if let Some(empty) = sample.empty_response {
            self.empty.add(empty);
        }
        if let Some(invalid) = sample.invalid_tool_call {
            self.invalid_tool_call.add(invalid);
        }
    }

    /// Adds what another pod saw of the same group.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.requests = self.requests.saturating_add(other.requests);
        for (mine, theirs) in self.failures.iter_mut().zip(other.failures) {
            *mine = mine.saturating_add(theirs);
        }
        self.latency.merge(&other.latency);
        self.first_output.merge(&other.first_output);
        self.overhead.merge(&other.overhead);
        self.usage.n = self.usage.n.saturating_add(other.usage.n);
        self.usage.input = self.usage.input.saturating_add(other.usage.input);
        self.usage.output = self.usage.output.saturating_add(other.usage.output);
        self.empty.merge(&other.empty);
        self.invalid_tool_call.merge(&other.invalid_tool_call);
        self.copies.merge(&other.copies);
    }

    /// How many requests failed in one of these classes.
    pub fn failed(&self, classes: &[Failure]) -> u64 {
        classes.iter().map(|class| u64::from(self.failures[class.index()])).sum()
    }

    /// Failures that say something about the service: of [`Failure::SERVICE`].
    pub(crate) fn failed_service(&self) -> u32 {
        let all = self.failures.iter().fold(0u32, |sum, &n| sum.saturating_add(n));
        all.saturating_sub(self.failures[Failure::ClientError.index()])
    }
}

/// The logarithm of a duration in milliseconds; below a microsecond counts as a microsecond.
fn log_millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e3).max(1e-3).ln()
}
