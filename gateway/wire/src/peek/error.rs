//! Why a body is refused.

use super::Known;
use crate::json::SyntaxReason;

/// The kinds of JSON values, as messages name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JsonType {
    /// `{…}`
    Object,
    /// `[…]`
    Array,
    /// `"…"`
    String,
    /// A number.
    Number,
    /// `true` or `false`
    Boolean,
    /// `null`
    Null,
}

impl std::fmt::Display for JsonType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            JsonType::Object => "an object",
            JsonType::Array => "an array",
            JsonType::String => "a string",
            JsonType::Number => "a number",
            JsonType::Boolean => "true or false",
            JsonType::Null => "null",
        })
    }
}

/// Why a body cannot be read safely. The messages are made for clients and quote nothing of the body. Offsets are in
/// bytes from the body's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PeekError {
    /// Nothing but whitespace.
    #[error("the request body is empty; a JSON object is expected")]
    Empty,
    /// A byte order mark: some parsers skip it, others fail.
    #[error("the request body starts with a byte order mark; JSON is sent without one")]
    ByteOrderMark,
    /// Bytes that are not UTF-8.
    #[error("the request body is not valid UTF-8 at byte {offset}")]
    InvalidUtf8 {
        /// The first wrong byte.
        offset: usize,
    },
    /// JSON, but something else than an object.
    #[error("the request body is {found}; a JSON object is expected")]
    NotAnObject {
        /// What it is.
        found: JsonType,
    },
    /// Not JSON.
    #[error("the request body is not valid JSON at byte {offset}: {reason}")]
    Syntax {
        /// Where it stops being JSON.
        offset: usize,
        /// What is wrong there.
        reason: SyntaxReason,
    },
    /// Something follows the object.
    #[error("the request body has text after the JSON object, at byte {offset}")]
    TrailingText {
        /// The first byte of it.
        offset: usize,
    },
    /// A known name occurs twice: parsers differ in which one they take.
    #[error("`{member}` occurs twice in the request body, the second time at byte {offset}")]
    Duplicate {
        /// The member's name.
        member: Known,
        /// The second name's start.
        offset: usize,
    },
    /// A known name in another case: parsers differ in whether they take it.
    #[error("`{member}` is written in another case in the request body at byte {offset}; write it as shown here")]
    OtherCase {
        /// The member's name as it should be.
        member: Known,
        /// The name's start.
        offset: usize,
    },
    /// A known member has a value of a wrong type.
    #[error("`{member}` must be {expected}, not {found} (byte {offset} of the request body)")]
    WrongType {
        /// The member's name.
        member: Known,
        /// What it should be.
        expected: JsonType,
        /// What it is.
        found: JsonType,
        /// The value's start.
        offset: usize,
    },
    /// A NUL character in a member's name: parsers written in C may end the name there.
    #[error("a member's name has a NUL character in it, at byte {offset} of the request body")]
    NulInName {
        /// The name's start.
        offset: usize,
    },
    /// A NUL character in a known string.
    #[error("`{member}` has a NUL character in it (byte {offset} of the request body)")]
    NulInValue {
        /// The member's name.
        member: Known,
        /// The value's start.
        offset: usize,
    },
}

impl PeekError {
    /// Whether no parser would take the body for a JSON object.
    pub fn is_no_object(&self) -> bool {
        matches!(
            self,
            Self::Empty
                | Self::InvalidUtf8 { .. }
                | Self::NotAnObject { .. }
                | Self::Syntax { .. }
                | Self::TrailingText { .. }
        )
    }

    /// A stable code for error bodies and metrics; codes are never renamed.
    pub fn code(&self) -> &'static str {
        match self {
            PeekError::Empty => "empty_body",
            PeekError::ByteOrderMark => "byte_order_mark",
            PeekError::InvalidUtf8 { .. } => "invalid_utf8",
            PeekError::NotAnObject { .. } => "body_not_an_object",
            PeekError::Syntax { .. } => "invalid_json",
            PeekError::TrailingText { .. } => "trailing_text",
            PeekError::Duplicate { .. } => "duplicate_member",
            PeekError::OtherCase { .. } => "member_in_other_case",
            PeekError::WrongType { .. } => "wrong_type",
            PeekError::NulInName { .. } | PeekError::NulInValue { .. } => "nul_character",
        }
    }

    /// The member that is at fault, where it is one.
    pub fn member(&self) -> Option<Known> {
        match *self {
            PeekError::Duplicate { member, .. }
            | PeekError::OtherCase { member, .. }
            | PeekError::WrongType { member, .. }
            | PeekError::NulInValue { member, .. } => Some(member),
            _ => None,
        }
    }
}
