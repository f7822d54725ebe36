//! What is known of a request once it is over: the input of every counter.

use std::time::Duration;

use bifrost_analysis::Sample;

use super::histogram::Gaps;

/// Which way a request took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Arm {
    /// Straight to the provider, with the client's own credential.
    Baseline,
    /// Through the pipeline.
    Bifrost,
}

impl Arm {
    /// The arm as labels and headers spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::Bifrost => "bifrost",
        }
    }

    /// As labels and headers spell the arm of a request that may have ended before one was chosen.
    pub const fn label(arm: Option<Self>) -> &'static str {
        match arm {
            Some(arm) => arm.as_str(),
            None => "none",
        }
    }
}

/// One finished request. Texts become labels, so each must come from a bounded set; only `model` may be anything, it is bounded
/// by [`super::ModelLabels`].
#[derive(Debug, Clone, Copy)]
pub struct Outcome<'a> {
    /// The front, such as `openai`.
    pub front: &'static str,
    /// Kind of request, such as `chat_completion_stream`; empty for what is no inference (health, unknown paths): such requests count
    /// in the `http_*` metrics only.
    pub endpoint: &'static str,
    /// Path template, such as `/openai/v1/chat/completions`; never the path as sent.
    pub path: &'static str,
    /// HTTP method as sent; unusual ones are counted as `other`.
    pub http_method: &'a str,
    /// Name of the provider; empty when the request ended before one was known.
    pub provider: &'a str,
    /// Model; empty when the request ended before one was known.
    pub model: &'a str,
    /// Which way it took; none when the request ended before one was chosen.
    pub arm: Option<Arm>,
    /// Why it took that arm (`x-bf-arm-reason`).
    pub reason: &'static str,
    /// Whether the split decided: such requests are the ones that the observed percent is made of.
    pub eligible: bool,
    /// Epoch of the traffic table that decided.
    pub epoch: u64,
    /// Status sent to the client; 0 when the client left before there was one.
    pub status: u16,
    /// Code of the gateway's own error, if it was one.
    pub error_code: Option<&'static str>,
    /// Name of the pool key used; empty on the baseline arm.
    pub key_name: &'a str,
    /// From the request's head to the answer's last byte.
    pub total: Duration,
    /// From the request's last byte to the call of the provider; none when none was called.
    pub overhead: Option<Duration>,
    /// From the first byte sent to the provider to the answer's last byte; none when no provider was called.
    pub upstream_latency: Option<Duration>,
    /// Whether the provider answered at all.
    pub answered: bool,
    /// From the request's last byte to the first event with output.
    pub first_output: Option<Duration>,
    /// Time between the chunks of a stream, from the first with output on.
    pub gaps: Option<&'a Gaps>,
    /// Bytes of the request's body.
    pub request_bytes: u64,
    /// Bytes of the answer's body.
    pub response_bytes: u64,
    /// Input tokens as the provider counted them.
    pub input_tokens: u64,
    /// Output tokens as the provider counted them.
    pub output_tokens: u64,
    /// Whether the client left before the answer's end.
    pub client_gone: bool,
    /// What it says of its arm; none where that is not to be compared with the other's.
    pub compared: Option<Compared>,
    /// What it says of its revision; none where no rollout gave it to one.
    pub of_revision: Option<OfRevision<'a>>,
}

/// What a request says of the revision to which a rollout gave it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OfRevision<'a> {
    /// Whether that is the candidate.
    pub candidate: bool,
    /// The model as the client named it.
    pub model: &'a str,
    /// How it went.
    pub compared: Compared,
}

/// What a request says of its arm, among those that asked for the same.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Compared {
    /// Kind of request, such as `chat_completion`, whatever the form of its answer.
    pub kind: &'static str,
    /// Whether it asked for a stream.
    pub stream: bool,
    /// How it went.
    pub sample: Sample,
}

/// A copy whose answer was compared with the first one. It was of a request that got a 2xx.
#[derive(Debug, Clone, Copy)]
pub struct Copied<'a> {
    /// Name of the provider.
    pub provider: &'a str,
    /// Model.
    pub model: &'a str,
    /// Kind of request, such as `chat_completion`, whatever the form of its answer.
    pub kind: &'static str,
    /// Whether it asked for a stream.
    pub stream: bool,
    /// Group of the request's user ([`bifrost_analysis::group`]).
    pub group: usize,
    /// Epoch of the traffic table that decided the request.
    pub epoch: u64,
    /// Whether both answers agree.
    pub agrees: bool,
}

impl Outcome<'_> {
    /// Whether a provider answered it with a 2xx, which also confirms the model's name.
    pub(super) fn is_confirmed(&self) -> bool {
        (200..300).contains(&self.status) && self.error_code.is_none() && self.answered
    }
}

/// The method as a label: methods are free text, labels are not.
pub(super) fn method_label(method: &str) -> &'static str {
    const KNOWN: [&str; 7] = ["POST", "GET", "DELETE", "HEAD", "OPTIONS", "PATCH", "PUT"];
    KNOWN.into_iter().find(|known| *known == method).unwrap_or("other")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A plain successful chat completion on the bifrost arm.
    pub(crate) fn chat() -> Outcome<'static> {
        Outcome {
            front: "openai",
            endpoint: "chat_completion",
            path: "/openai/v1/chat/completions",
            http_method: "POST",
            provider: "openai",
            model: "gpt-4o-mini",
            arm: Some(Arm::Bifrost),
            reason: "split",
            eligible: true,
            epoch: 1,
            status: 200,
            error_code: None,
            key_name: "openai-1",
            total: Duration::from_millis(80),
            overhead: Some(Duration::from_micros(80)),
            upstream_latency: Some(Duration::from_millis(70)),
            answered: true,
            first_output: None,
            gaps: None,
            request_bytes: 500,
            response_bytes: 1500,
            input_tokens: 10,
            output_tokens: 20,
            client_gone: false,
            compared: None,
            of_revision: None,
        }
    }

    #[test]
    fn unusual_methods_share_a_label() {
        assert_eq!(method_label("POST"), "POST");
        assert_eq!(method_label("BREW"), "other");
        assert_eq!(method_label("post"), "other");
    }
}
