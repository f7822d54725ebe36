//! Which requests are copied. Pure.

use bifrost_config::{Shadow, ShadowedArm};
use bifrost_wire::{Ask, Peek};

use crate::front::route::{Endpoint, Kind};
use crate::http::Head;
use crate::pipeline::choose::Choice;
use crate::pipeline::decode::RequestBody;
use crate::telemetry::Arm;

/// Output tokens of an answer, where the request does not bound them.
const MOST_OUTPUT: u64 = 4096;

/// Why a request that chance had chosen is not copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Skip {
    /// It has the header that says so.
    Header,
    /// Its body is larger than may be copied.
    Size,
    /// Its body cannot be read as a JSON object.
    Body,
    /// It brings tools.
    Tools,
    /// It makes or names what belongs to one account at the vendor.
    State,
    /// It was not answered with a whole 2xx.
    Unanswered,
    /// Its answer cannot be compared: encoded, or too long.
    Answer,
    /// As many copies are under way as may be.
    Busy,
    /// There is no memory to spare.
    Memory,
    /// The vendor said a moment ago that copies are too many for their account.
    RateLimited,
    /// Its model has no price.
    Price,
    /// The money that has accrued is spent.
    Limit,
    /// Nothing is copied any more: the configuration changed, or the pod is on its way out.
    Withdrawn,
}

impl Skip {
    /// All, in the order of their numbers.
    pub const ALL: [Self; 13] = [
        Self::Header,
        Self::Size,
        Self::Body,
        Self::Tools,
        Self::State,
        Self::Unanswered,
        Self::Answer,
        Self::Busy,
        Self::Memory,
        Self::RateLimited,
        Self::Price,
        Self::Limit,
        Self::Withdrawn,
    ];

    /// As reports and metrics spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Header => "header",
            Self::Size => "size",
            Self::Body => "body",
            Self::Tools => "tools",
            Self::State => "state",
            Self::Unanswered => "unanswered",
            Self::Answer => "answer",
            Self::Busy => "busy",
            Self::Memory => "memory",
            Self::RateLimited => "rate_limited",
            Self::Price => "price",
            Self::Limit => "limit",
            Self::Withdrawn => "withdrawn",
        }
    }
}

/// The arm that copies take.
pub const fn other_arm(of: ShadowedArm) -> Arm {
    match of {
        ShadowedArm::Baseline => Arm::Bifrost,
        ShadowedArm::Bifrost => Arm::Baseline,
    }
}

/// Whether chance and arm choose a request whose arm was left to the split; `chance` is a random number.
pub fn is_chosen(shadow: &Shadow, choice: &Choice<'_>, kind: Kind, chance: u32) -> Option<Endpoint> {
    let Kind::Json(endpoint) = kind else { return None };
    // Only these have a text to compare.
    let has_text = matches!(
        endpoint,
        Endpoint::ChatCompletions | Endpoint::Completions | Endpoint::Responses | Endpoint::Messages
    );
    let is_chosen = has_text
        && choice.reason.is_observed()
        && choice.arm != other_arm(shadow.of)
        && chance % 100 < u32::from(shadow.percent);
    is_chosen.then_some(endpoint)
}

/// What can be seen before the request is sent.
pub fn skip_at_once(shadow: &Shadow, head: &Head, body: &RequestBody) -> Result<(), Skip> {
    if shadow.skip_header.as_ref().is_some_and(|name| head.get(name).is_some()) {
        return Err(Skip::Header);
    }
    match body.bytes_in_memory() as u64 {
        0 => Err(Skip::Body),
        bytes if bytes > shadow.max_body => Err(Skip::Size),
        _ => Ok(()),
    }
}

/// What is in the body that must not happen twice.
pub fn skip_by_content(shadow: &Shadow, endpoint: Endpoint, peek: &Peek<'_>, ask: &Ask) -> Result<(), Skip> {
    if shadow.skip_tools && ask.tools {
        return Err(Skip::Tools);
    }
    if ask.state || peek.has_fallbacks() || (endpoint == Endpoint::Responses && peek.holds_vendor_state()) {
        return Err(Skip::State);
    }
    Ok(())
}

/// The most tokens that a copy can take: of the prompt and of the answers. `used` are those of the first answer, if they are known.
pub fn most_tokens(ask: &Ask, body_bytes: usize, used: Option<bifrost_wire::Usage>) -> (u64, u64) {
    // The same prompt: the vendor has counted it. A token has four bytes in English, fewer in other languages.
    let input = used.map(|used| used.input_tokens).filter(|tokens| *tokens > 0);
    let first = used.map_or(0, |used| used.output_tokens);
    let output = match ask.most_output {
        Some(most) => most.saturating_mul(ask.answers),
        None => MOST_OUTPUT.saturating_mul(ask.answers).max(first.saturating_mul(2)),
    };
    (input.unwrap_or(body_bytes as u64 / 4 + 1), output)
}

#[cfg(test)]
mod tests {
    use bifrost_wire::{Usage, peek};
    use bytes::Bytes;
    use http::{HeaderName, HeaderValue};

    use super::*;
    use crate::pipeline::Reason;

    fn shadow() -> Shadow {
        Shadow {
            percent: 25,
            of: ShadowedArm::Baseline,
            daily_limit: 1,
            pods: 1,
            skip_tools: true,
            max_body: 100,
            skip_header: Some("x-no-shadow".into()),
            currency: String::new(),
            prices: Vec::new(),
        }
    }

    fn choice(arm: Arm, reason: Reason) -> Choice<'static> {
        Choice { arm, reason, hash: 0, upstream: 0, model: Some("m"), renamed: false }
    }

    const CHAT: Kind = Kind::Json(Endpoint::ChatCompletions);

    #[test]
    fn chance_chooses_among_the_requests_of_the_one_arm() {
        let chosen = |choice: &Choice<'_>, kind, chance| is_chosen(&shadow(), choice, kind, chance).is_some();
        let baseline = choice(Arm::Baseline, Reason::Canary);
        assert_eq!((0..1000).filter(|chance| chosen(&baseline, CHAT, *chance)).count(), 250);
        assert!(!chosen(&choice(Arm::Bifrost, Reason::Canary), CHAT, 0));
        for kind in [Kind::Models, Kind::Raw, Kind::Account, Kind::Json(Endpoint::Embeddings)] {
            assert!(!chosen(&baseline, kind, 0), "{kind:?}");
        }
        let bifrost = Shadow { of: ShadowedArm::Bifrost, ..shadow() };
        assert!(is_chosen(&bifrost, &choice(Arm::Bifrost, Reason::DropIn), CHAT, 0).is_some());
        assert!(is_chosen(&bifrost, &baseline, CHAT, 0).is_none());
        assert!(is_chosen(&Shadow { percent: 0, ..shadow() }, &baseline, CHAT, 0).is_none());
    }

    #[test]
    fn what_had_no_choice_of_an_arm_is_not_copied() {
        for reason in [Reason::NoCredential, Reason::VirtualKey, Reason::Header, Reason::Preview, Reason::Fallbacks] {
            let bifrost = Shadow { of: ShadowedArm::Bifrost, ..shadow() };
            assert!(is_chosen(&bifrost, &choice(Arm::Bifrost, reason), CHAT, 0).is_none(), "{reason:?}");
        }
    }

    #[test]
    fn size_and_header_are_seen_at_once() {
        let body = |bytes: usize| RequestBody::Whole(Bytes::from(vec![b' '; bytes]));
        let mut head = Head::default();
        assert_eq!(skip_at_once(&shadow(), &head, &body(100)), Ok(()));
        assert_eq!(skip_at_once(&shadow(), &head, &body(101)), Err(Skip::Size));
        assert_eq!(skip_at_once(&shadow(), &head, &body(0)), Err(Skip::Body));
        head.set(HeaderName::from_static("x-no-shadow"), HeaderValue::from_static("1"));
        assert_eq!(skip_at_once(&shadow(), &head, &body(100)), Err(Skip::Header));
    }

    #[test]
    fn tools_and_state_are_never_copied() {
        let skip = |shadow: &Shadow, endpoint, body: &str| {
            skip_by_content(shadow, endpoint, &peek(body.as_bytes()).unwrap(), &Ask::read(body.as_bytes()).unwrap())
        };
        let chat = |body| skip(&shadow(), Endpoint::ChatCompletions, body);
        assert_eq!(chat(r#"{"model":"m"}"#), Ok(()));
        assert_eq!(chat(r#"{"model":"m","tools":[{}]}"#), Err(Skip::Tools));
        assert_eq!(chat(r#"{"model":"m","store":true}"#), Err(Skip::State));
        let responses = |body| skip(&shadow(), Endpoint::Responses, body);
        assert_eq!(responses(r#"{"model":"m"}"#), Err(Skip::State));
        assert_eq!(responses(r#"{"model":"m","store":false}"#), Ok(()));
        let tools = Shadow { skip_tools: false, ..shadow() };
        assert_eq!(skip(&tools, Endpoint::Messages, r#"{"model":"m","tools":[{}]}"#), Ok(()));
    }

    #[test]
    fn the_most_a_copy_takes_is_known_before_it_is_sent() {
        let ask = |body: &str| Ask::read(body.as_bytes()).unwrap();
        let used = Some(Usage { input_tokens: 12, output_tokens: 3_000 });
        assert_eq!(most_tokens(&ask("{}"), 400, None), (101, 4096));
        assert_eq!(most_tokens(&ask("{}"), 400, used), (12, 6_000));
        assert_eq!(most_tokens(&ask(r#"{"max_tokens":50,"n":3}"#), 400, used), (12, 150));
    }

    #[test]
    fn reasons_are_numbered_in_their_order() {
        assert!(Skip::ALL.iter().enumerate().all(|(number, skip)| *skip as usize == number));
    }
}
