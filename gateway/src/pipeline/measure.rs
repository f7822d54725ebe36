//! What a finished request says of its arm, for the comparison of the arms. Pure.

use std::time::Duration;

use bifrost_analysis::{Failure, Sample, group};
use bifrost_wire::Usage;

use crate::front::error::Fault;
use crate::front::route::{Endpoint, Kind};

/// What is known of a request whose arm was chosen, once it is over.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    /// What it asked for.
    pub kind: Kind,
    /// Hash of what holds its user on an arm; without such a thing a random number.
    pub hash: u64,
    /// The gateway's own fault.
    pub fault: Option<Fault>,
    /// Status sent to the client; 0 when there was none.
    pub status: u16,
    /// Whether the provider's head came.
    pub answered: bool,
    /// Whether a stream carried an error.
    pub error_event: bool,
    /// Whether the answer went out to its end.
    pub complete: bool,
    /// Whether the answer was a stream.
    pub stream: bool,
    /// Whether a stream's regular last event was seen.
    pub stream_end: bool,
    /// From the request's last byte to the answer's last.
    pub latency: Duration,
    /// From the request's last byte to the first event with output.
    pub first_output: Option<Duration>,
    /// From the request's last byte to the call of the provider.
    pub overhead: Option<Duration>,
    /// Tokens, as far as the provider named them.
    pub usage: Option<Usage>,
    /// Whether a tool call's arguments are no JSON; none without a call, or where nobody could tell.
    pub invalid_tool_call: Option<bool>,
}

/// The sample; none of a request that ended by its client's doing, which says nothing of either arm.
pub fn sample(ended: &Ended) -> Option<Sample> {
    let failure = match ended.fault {
        None if !ended.complete => return None,
        Some(Fault::BodyStalled | Fault::BodyBroken) => return None,
        _ => failure(ended),
    };
    Some(Sample {
        group: group(ended.hash),
        failure,
        latency: ended.latency,
        first_output: ended.first_output,
        overhead: ended.overhead,
        input_tokens: ended.usage.map(|usage| usage.input_tokens),
        output_tokens: ended.usage.map(|usage| usage.output_tokens),
        empty_response: is_empty(ended),
        invalid_tool_call: ended.invalid_tool_call,
    })
}

fn failure(ended: &Ended) -> Option<Failure> {
    // What the vendor said counts before how its saying so ended.
    if ended.answered && ended.status >= 400 && !matches!(ended.fault, Some(Fault::CredentialsRejected)) {
        return by_status(ended.status);
    }
    match ended.fault {
        None if ended.error_event => Some(Failure::BrokenStream),
        None => by_status(ended.status),
        Some(Fault::StreamBroken) => Some(Failure::BrokenStream),
        Some(Fault::UpstreamTimeout) if ended.answered => Some(Failure::BrokenStream),
        Some(Fault::UpstreamTimeout) => Some(Failure::Timeout),
        Some(Fault::UpstreamUnreachable | Fault::UpstreamBroken) => Some(Failure::Unreachable),
        // The vendor would refuse these as well: the caller's own mistakes are no worse on one arm than on the other.
        Some(Fault::InvalidBody | Fault::ModelMissing | Fault::BodyTooLarge) => Some(Failure::ClientError),
        Some(_) => Some(Failure::Gateway),
    }
}

fn by_status(status: u16) -> Option<Failure> {
    match status {
        429 | 529 => Some(Failure::RateLimited),
        500.. => Some(Failure::Upstream5xx),
        400.. => Some(Failure::ClientError),
        _ => None,
    }
}

/// Whether an answer that should have output has none; none where nobody can tell.
fn is_empty(ended: &Ended) -> Option<bool> {
    let has_output = matches!(
        ended.kind,
        Kind::Json(Endpoint::ChatCompletions | Endpoint::Completions | Endpoint::Responses | Endpoint::Messages)
    );
    if !has_output || !ended.complete || !(200..300).contains(&ended.status) {
        return None;
    }
    match ended.stream {
        true if ended.first_output.is_some() => Some(false),
        // Without its last event the end was perhaps not looked at.
        true => ended.stream_end.then_some(true),
        false => ended.usage.map(|usage| usage.output_tokens == 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended() -> Ended {
        Ended {
            kind: Kind::Json(Endpoint::ChatCompletions),
            hash: u64::MAX,
            fault: None,
            status: 200,
            answered: true,
            error_event: false,
            complete: true,
            stream: false,
            stream_end: false,
            latency: Duration::from_millis(80),
            first_output: None,
            overhead: None,
            usage: Some(Usage { input_tokens: 3, output_tokens: 4 }),
            invalid_tool_call: None,
        }
    }

    fn class(ended: Ended) -> Option<Failure> {
        sample(&ended).unwrap().failure
    }

    #[test]
    fn the_vendors_word_is_classed_by_its_status() {
        let status = |status| class(Ended { status, ..ended() });
        assert_eq!([200, 204, 302].map(status), [None; 3]);
        assert_eq!([429, 529].map(status), [Some(Failure::RateLimited); 2]);
        assert_eq!([500, 503, 599].map(status), [Some(Failure::Upstream5xx); 3]);
        assert_eq!([400, 401, 404].map(status), [Some(Failure::ClientError); 3]);
        let broken = Ended { status: 500, fault: Some(Fault::StreamBroken), complete: false, ..ended() };
        assert_eq!(class(broken), Some(Failure::Upstream5xx));
    }

    #[test]
    fn faults_are_classed_by_whose_they_are() {
        let own = |fault: Fault| {
            class(Ended { fault: Some(fault), status: fault.status().as_u16(), answered: false, ..ended() })
        };
        assert_eq!(own(Fault::UpstreamTimeout), Some(Failure::Timeout));
        assert_eq!(own(Fault::UpstreamUnreachable), Some(Failure::Unreachable));
        assert_eq!(own(Fault::UpstreamBroken), Some(Failure::Unreachable));
        for fault in [Fault::NoKey, Fault::ModelNotFound, Fault::ModelUnseen, Fault::DisputedBody, Fault::EncodedBody] {
            assert_eq!(own(fault), Some(Failure::Gateway), "{fault:?}");
        }
        assert_eq!(own(Fault::InvalidBody), Some(Failure::ClientError));
        let rejected = Ended { fault: Some(Fault::CredentialsRejected), status: 502, ..ended() };
        assert_eq!(class(rejected), Some(Failure::Gateway));
    }

    #[test]
    fn an_answer_that_began_and_broke_is_a_broken_stream() {
        for fault in [Fault::StreamBroken, Fault::UpstreamTimeout] {
            let broken = Ended { fault: Some(fault), complete: false, ..ended() };
            assert_eq!(class(broken), Some(Failure::BrokenStream), "{fault:?}");
        }
        assert_eq!(class(Ended { error_event: true, ..ended() }), Some(Failure::BrokenStream));
    }

    #[test]
    fn a_client_that_left_says_nothing() {
        assert!(sample(&Ended { complete: false, ..ended() }).is_none());
        assert!(sample(&Ended { complete: false, error_event: true, ..ended() }).is_none());
        for fault in [Fault::BodyBroken, Fault::BodyStalled] {
            assert!(sample(&Ended { fault: Some(fault), status: 400, ..ended() }).is_none());
        }
    }

    #[test]
    fn emptiness_is_told_only_where_it_can_be() {
        let empty = |ended| sample(&ended).unwrap().empty_response;
        let nothing = Some(Usage { input_tokens: 3, output_tokens: 0 });
        assert_eq!(empty(ended()), Some(false));
        assert_eq!(empty(Ended { usage: nothing, ..ended() }), Some(true));
        assert_eq!(empty(Ended { usage: None, ..ended() }), None);
        assert_eq!(empty(Ended { usage: nothing, kind: Kind::Json(Endpoint::Embeddings), ..ended() }), None);
        assert_eq!(empty(Ended { usage: nothing, status: 400, ..ended() }), None);
        let stream = Ended { stream: true, ..ended() };
        assert_eq!(empty(Ended { first_output: Some(Duration::ZERO), ..stream }), Some(false));
        assert_eq!(empty(Ended { stream_end: true, ..stream }), Some(true));
        assert_eq!(empty(stream), None);
    }

    #[test]
    fn one_users_requests_are_of_one_group() {
        assert_eq!(sample(&ended()).unwrap().group, 63);
    }
}
