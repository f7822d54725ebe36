//! The peek: one pass over a request's JSON body that finds the few members the gateway decides by.
//!
//! It agrees with every parser or refuses. The body goes on to the vendor byte for byte, so a body that two parsers
//! read differently could name one model here and another one there, and model lists could be walked around. Refused
//! are therefore, besides whatever is not JSON: a known name that occurs twice, a known name in another case (some
//! parsers take `Model` for `model`, others ignore it), a known member of a wrong type, half a surrogate pair, a NUL in a
//! name or a known value, a byte order mark, and text after the object. Names are compared after their escapes are decoded.
//! `null` counts as absent.

mod error;
mod known;
mod reader;

use std::borrow::Cow;
use std::ops::Range;

pub use error::{JsonType, PeekError};
pub use known::Known;
pub(crate) use reader::names_vendor_state;

/// Where a member lies in the body, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Offset of the opening quote of the member's name.
    pub name_start: usize,
    /// The value, its quotes or brackets included.
    pub value: Range<usize>,
}

/// A member that is there and not `null`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member<T> {
    /// The value, decoded.
    pub value: T,
    /// Where it lies.
    pub span: Span,
}

/// The start of an object, where new members can be inserted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Opening {
    /// Offset right after the `{`.
    pub after: usize,
    /// The object has no members.
    pub empty: bool,
}

/// The member `stream_options`, which may be `null`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamOptions {
    /// Where it lies.
    pub span: Span,
    /// The start of the object; `None` if the value is `null`.
    pub opening: Option<Opening>,
    /// The member `include_usage` of the object; a value of `None` is `null`.
    pub include_usage: Option<Member<Option<bool>>>,
}

/// What the gateway needs to know of a request's JSON body.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Peek<'a> {
    /// The start of the body's object.
    pub opening: Opening,
    /// The model asked for.
    pub model: Option<Member<Cow<'a, str>>>,
    /// Whether the answer is to be streamed.
    pub stream: Option<Member<bool>>,
    /// Whether the vendor is to keep the answer (OpenAI Responses).
    pub store: Option<Member<bool>>,
    /// The end user, as OpenAI's older APIs name it.
    pub user: Option<Member<Cow<'a, str>>>,
    /// The end user, as OpenAI's newer APIs name it.
    pub safety_identifier: Option<Member<Cow<'a, str>>>,
    /// The member `user_id` of `metadata`: the end user, as Anthropic names it.
    pub metadata_user_id: Option<Member<Cow<'a, str>>>,
    /// What keeps requests with one prompt prefix together; names no user.
    pub prompt_cache_key: Option<Member<Cow<'a, str>>>,
    /// With `store` false: whether the body seems to name or ask for what belongs to one account at the vendor.
    pub names_vendor_state: bool,
    /// An answer stored at the vendor that this request goes on from.
    pub previous_response_id: Option<Member<Cow<'a, str>>>,
    /// The gateway's own member `fallbacks`. The value says whether it names something: `[]` does not.
    pub fallbacks: Option<Member<bool>>,
    /// Options of the stream (OpenAI chat and completions).
    pub stream_options: Option<StreamOptions>,
    /// Whether it names tools. Nothing is decided by it, so it is not held to be said once and in one case.
    pub names_tools: bool,
}

impl Peek<'_> {
    /// The same without a loan from the body, for a body that was read on another thread.
    pub fn into_owned(self) -> Peek<'static> {
        let own = |member: Option<Member<Cow<'_, str>>>| {
            member.map(|Member { value, span }| Member { value: Cow::Owned(value.into_owned()), span })
        };
        Peek {
            opening: self.opening,
            model: own(self.model),
            stream: self.stream,
            store: self.store,
            user: own(self.user),
            safety_identifier: own(self.safety_identifier),
            metadata_user_id: own(self.metadata_user_id),
            prompt_cache_key: own(self.prompt_cache_key),
            names_vendor_state: self.names_vendor_state,
            previous_response_id: own(self.previous_response_id),
            fallbacks: self.fallbacks,
            stream_options: self.stream_options,
            names_tools: self.names_tools,
        }
    }

    /// The model's name, if one is given.
    pub fn model(&self) -> Option<&str> {
        self.model.as_ref().map(|member| member.value.as_ref())
    }

    /// Whether the client asked for a streamed answer.
    pub fn is_stream(&self) -> bool {
        self.stream.as_ref().is_some_and(|member| member.value)
    }

    /// Whether the client asked for the usage chunk at the end of the stream.
    pub fn asks_for_usage(&self) -> bool {
        let include_usage = self.stream_options.as_ref().and_then(|options| options.include_usage.as_ref());
        include_usage.is_some_and(|member| member.value == Some(true))
    }

    /// Whether the request names fallback targets.
    pub fn has_fallbacks(&self) -> bool {
        self.fallbacks.as_ref().is_some_and(|member| member.value)
    }

    /// Whether an OpenAI Responses request makes or names what belongs to one account at the vendor: the answer is stored unless it says
    /// otherwise, or something stored is named.
    pub fn holds_vendor_state(&self) -> bool {
        self.store.as_ref().is_none_or(|store| store.value)
            || self.previous_response_id.is_some()
            || self.names_vendor_state
    }

    /// The end user that the body names: `safety_identifier`, else `user`, else `metadata.user_id`. An empty string
    /// names nobody.
    pub fn end_user(&self) -> Option<&str> {
        [&self.safety_identifier, &self.user, &self.metadata_user_id]
            .into_iter()
            .flatten()
            .map(|member| member.value.as_ref())
            .find(|user| !user.is_empty())
    }
}

/// Reads a request's JSON body in one pass. No allocation, unless a known string has escapes.
pub fn peek(body: &[u8]) -> Result<Peek<'_>, PeekError> {
    reader::read(body)
}

#[cfg(test)]
mod tests;
