//! What a finished request says of its arm, for the comparison of the arms. Pure.

use std::time::Duration;

use bifrost_analysis::{Failure, Sample, group};
use bifrost_wire::Usage;

use crate::front::error::Fault;
use crate::front::route::{Endpoint, Kind};

/// A client that waited longer than this for nothing and left has seen a hang; one that leaves sooner may have changed its mind.
const HANG: Duration = Duration::from_secs(10);

/// What is known of a request whose arm was chosen, once it is over.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    /// What it asked for.
    pub kind: Kind,
    /// Hash of what holds its user on an arm; without such a thing a random number.
    pub hash: u64,
    /// The gateway's own fault.
    pub fault: Option<Fault>,
    /// Whether the gateway broke down over it.
    pub panicked: bool,
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
    /// Whether all that came of a stream was looked at.
    pub watched: bool,
    /// Whether a stream's regular last event was seen.
    pub stream_end: bool,
    /// From the request's last byte to the answer's last.
    pub latency: Duration,
    /// From the request's last byte to the first event with output.
    pub first_output: Option<Duration>,
    /// From the request's last byte to the call of the provider.
    pub overhead: Option<Duration>,
    /// Tokens, as far as the provider named them unasked or because the client asked.
    pub usage: Option<Usage>,
    /// Whether a plain answer has output; none where nobody looked or can tell.
    pub output: Option<bool>,
    /// Whether a tool call's arguments are no JSON; none without a call, or where nobody could tell.
    pub invalid_tool_call: Option<bool>,
}

/// The sample; none of a request that ended by its client's doing before anything was known of it, and none of a stream that nobody could
/// look into: they say nothing of either arm.
pub fn sample(ended: &Ended) -> Option<Sample> {
    let says_nothing = match ended.fault {
        _ if ended.panicked => false,
        _ if is_opaque(ended) => true,
        Some(fault) => matches!(fault, Fault::BodyStalled | Fault::BodyBroken),
        None => !ended.complete && !has_verdict(ended) && !is_hang(ended),
    };
    if says_nothing {
        return None;
    }
    Some(Sample {
        group: group(ended.hash),
        failure: failure(ended),
        latency: ended.latency,
        first_output: ended.first_output,
        overhead: ended.overhead,
        input_tokens: ended.usage.map(|usage| usage.input_tokens),
        output_tokens: ended.usage.map(|usage| usage.output_tokens),
        empty_response: is_empty(ended),
        invalid_tool_call: ended.invalid_tool_call,
    })
}

/// Whether it is a stream whose failures may not show: more such streams are on the arm that leaves their compression to the client. Those
/// that broke off as well, or only failures would count.
fn is_opaque(ended: &Ended) -> bool {
    ended.stream && !ended.watched && (200..300).contains(&ended.status)
}

/// Whether the vendor has said how it went, so that it does not matter how much more of the answer the client took.
fn has_verdict(ended: &Ended) -> bool {
    ended.error_event || ended.stream_end || (ended.answered && ended.status >= 400)
}

/// Whether the client waited for nothing, and for long: no head came, or no output of a stream.
fn is_hang(ended: &Ended) -> bool {
    let has_nothing = !ended.answered || (ended.stream && ended.first_output.is_none());
    !ended.complete && has_nothing && ended.latency > HANG
}

fn failure(ended: &Ended) -> Option<Failure> {
    if ended.panicked {
        return Some(Failure::Gateway);
    }
    // What the vendor said counts before how its saying so ended.
    if ended.answered && ended.status >= 400 && !matches!(ended.fault, Some(Fault::CredentialsRejected)) {
        return by_status(ended.status);
    }
    match ended.fault {
        None if ended.error_event => Some(Failure::BrokenStream),
        None if !has_verdict(ended) && is_hang(ended) => Some(Failure::Timeout),
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
    if !has_output || !(200..300).contains(&ended.status) {
        return None;
    }
    match ended.stream {
        true if ended.first_output.is_some() => Some(false),
        // Without its last event the end was perhaps not looked at.
        true => ended.stream_end.then_some(true),
        false => ended.output.map(|output| !output),
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
            panicked: false,
            status: 200,
            answered: true,
            error_event: false,
            complete: true,
            stream: false,
            watched: false,
            stream_end: false,
            latency: Duration::from_millis(80),
            first_output: None,
            overhead: None,
            usage: Some(Usage { input_tokens: 3, output_tokens: 4 }),
            output: None,
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

    /// A client left: before the head, with the head of a plain answer, and with that of a stream.
    fn left() -> [Ended; 3] {
        let plain = Ended { complete: false, usage: None, ..ended() };
        let stream = Ended { stream: true, watched: true, ..plain };
        [Ended { status: 0, answered: false, ..plain }, plain, stream]
    }

    #[test]
    fn a_client_that_left_before_anything_was_known_says_nothing() {
        for left in left() {
            assert!(sample(&left).is_none(), "{left:?}");
            assert!(sample(&Ended { latency: HANG, ..left }).is_none(), "{left:?}");
        }
        for fault in [Fault::BodyBroken, Fault::BodyStalled] {
            assert!(sample(&Ended { fault: Some(fault), status: 400, ..ended() }).is_none());
        }
    }

    #[test]
    fn a_client_that_waited_long_for_nothing_has_seen_a_hang() {
        let [no_head, plain, stream] = left().map(|left| Ended { latency: HANG + Duration::from_millis(1), ..left });
        assert_eq!([no_head, stream].map(class), [Some(Failure::Timeout); 2]);
        // Something came of these.
        assert!(sample(&plain).is_none());
        assert!(sample(&Ended { first_output: Some(Duration::ZERO), ..stream }).is_none());
        assert_eq!(class(Ended { complete: true, ..stream }), None);
    }

    #[test]
    fn what_the_vendor_said_counts_however_much_of_it_the_client_took() {
        let [_, plain, stream] = left();
        for latency in [Duration::ZERO, 2 * HANG] {
            let refused = |status| class(Ended { status, latency, ..plain });
            assert_eq!(
                [503, 429, 404].map(refused),
                [Some(Failure::Upstream5xx), Some(Failure::RateLimited), Some(Failure::ClientError)]
            );
            assert_eq!(class(Ended { error_event: true, latency, ..stream }), Some(Failure::BrokenStream));
            let over = sample(&Ended { stream_end: true, latency, ..stream }).unwrap();
            assert_eq!((over.failure, over.empty_response), (None, Some(true)));
        }
    }

    #[test]
    fn a_break_down_of_the_gateway_is_its_own_failure() {
        for ended in left().into_iter().chain([ended(), Ended { status: 500, ..ended() }]) {
            assert_eq!(class(Ended { panicked: true, ..ended }), Some(Failure::Gateway), "{ended:?}");
        }
    }

    #[test]
    fn a_stream_that_nobody_looked_into_says_nothing_however_it_ended() {
        let opaque = Ended { stream: true, ..ended() };
        let broken = Ended { fault: Some(Fault::StreamBroken), complete: false, ..opaque };
        let given_up = Ended { error_event: true, ..opaque };
        for ended in [opaque, broken, given_up] {
            assert!(sample(&ended).is_none(), "{ended:?}");
            assert!(sample(&Ended { watched: true, ..ended }).is_some(), "{ended:?}");
        }
        // A refusal shows in its head.
        assert_eq!(class(Ended { status: 503, ..opaque }), Some(Failure::Upstream5xx));
    }

    #[test]
    fn emptiness_is_told_only_where_it_can_be() {
        let empty = |ended| sample(&ended).unwrap().empty_response;
        assert_eq!(empty(ended()), None);
        let [full, nothing] = [true, false].map(|output| Ended { output: Some(output), ..ended() });
        assert_eq!((empty(full), empty(nothing)), (Some(false), Some(true)));
        assert_eq!(empty(Ended { kind: Kind::Json(Endpoint::Embeddings), ..nothing }), None);
        assert_eq!(empty(Ended { status: 400, ..nothing }), None);
        let stream = Ended { stream: true, watched: true, ..ended() };
        assert_eq!(empty(Ended { first_output: Some(Duration::ZERO), ..stream }), Some(false));
        assert_eq!(empty(Ended { stream_end: true, ..stream }), Some(true));
        assert_eq!(empty(stream), None);
    }

    #[test]
    fn one_users_requests_are_of_one_group() {
        assert_eq!(sample(&ended()).unwrap().group, 63);
    }
}
