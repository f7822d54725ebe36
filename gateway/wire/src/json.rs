//! A pull scanner over JSON text: it validates as it goes and builds nothing.
//!
//! The caller walks the few objects it cares about member by member and skips the other values, each in one pass. The
//! grammar is RFC 8259 in full (escapes, surrogate pairs, numbers, control characters, nesting), so a text that is
//! scanned to its end without a fault is one that every parser accepts. UTF-8 is the caller's to check: the scanner
//! itself never needs it. The magnitude of a number is not judged, as parsers have no common limit.

mod checker;
mod string;
mod value;

use std::borrow::Cow;
use std::ops::Range;

pub(crate) use checker::Checker;
use string::{decode, string_end};
use value::skip_value;

/// Deepest nesting of arrays and objects that is read; serde_json has the same limit.
pub(crate) const MAX_DEPTH: u32 = 127;

/// Why a text is not JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SyntaxReason {
    /// The text ends inside a value.
    #[error("the text ends too early")]
    UnexpectedEnd,
    /// A value should start here.
    #[error("expected a value")]
    ExpectedValue,
    /// A member's name should start here.
    #[error("expected a member name in double quotes")]
    ExpectedName,
    /// A colon should stand between name and value.
    #[error("expected `:`")]
    ExpectedColon,
    /// The next member or the object's end should follow.
    #[error("expected `,` or `}}`")]
    ExpectedCommaOrBrace,
    /// The next element or the array's end should follow.
    #[error("expected `,` or `]`")]
    ExpectedCommaOrBracket,
    /// A number is not written as JSON writes numbers.
    #[error("invalid number")]
    InvalidNumber,
    /// An unknown escape, or `\u` without four hexadecimal digits.
    #[error("invalid escape in a string")]
    InvalidEscape,
    /// Half of a surrogate pair: it stands for no character, and parsers disagree about it.
    #[error("lone surrogate in a string")]
    LoneSurrogate,
    /// A character below U+0020 in a string, not escaped.
    #[error("control character in a string")]
    ControlCharacter,
    /// More than 127 levels of arrays and objects.
    #[error("nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
}

/// A place in the text where it stops being JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Offset in bytes from the start of the text.
    pub(crate) offset: usize,
    pub(crate) reason: SyntaxReason,
}

/// A string's place in the text, without its quotes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StringToken {
    pub(crate) range: Range<usize>,
    /// The text has escapes and must be decoded.
    pub(crate) escaped: bool,
}

impl StringToken {
    /// The bytes between the quotes, as they are written.
    #[inline]
    pub(crate) fn raw<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        bytes.get(self.range.clone()).unwrap_or_default()
    }

    /// Whether the string reads `text`, however it is written.
    pub(crate) fn is(&self, bytes: &[u8], text: &str) -> bool {
        self.raw(bytes) == text.as_bytes() || (self.escaped && self.decode(bytes) == text)
    }

    /// The string's characters; borrowed unless it has escapes. Bytes that are not UTF-8 become U+FFFD.
    pub(crate) fn decode<'a>(&self, bytes: &'a [u8]) -> Cow<'a, str> {
        let raw = self.raw(bytes);
        if self.escaped { Cow::Owned(decode(&String::from_utf8_lossy(raw))) } else { String::from_utf8_lossy(raw) }
    }
}

/// The scanner: a position in the text, and how many containers are open around it.
#[derive(Debug, Clone)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: u32,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Cursor { bytes, at: 0, depth: 0 }
    }

    /// A scanner that starts in the middle of a text, at `offset`.
    pub(crate) fn at(bytes: &'a [u8], offset: usize) -> Self {
        Cursor { bytes, at: offset, depth: 0 }
    }

    pub(crate) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    pub(crate) fn offset(&self) -> usize {
        self.at
    }

    /// The byte at the position; 0, which is never JSON syntax, at the end.
    #[inline]
    pub(crate) fn byte(&self) -> u8 {
        byte_at(self.bytes, self.at)
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.at >= self.bytes.len()
    }

    #[inline]
    pub(crate) fn skip_whitespace(&mut self) {
        self.at = skip_whitespace(self.bytes, self.at);
    }

    #[cold]
    pub(crate) fn fault(&self, reason: SyntaxReason) -> Fault {
        fault(self.bytes, self.at, reason)
    }

    /// Steps into the object whose `{` is at the position.
    pub(crate) fn enter_object(&mut self) -> Result<(), Fault> {
        self.enter(b'{')
    }

    /// Steps into the array whose `[` is at the position.
    pub(crate) fn enter_array(&mut self) -> Result<(), Fault> {
        self.enter(b'[')
    }

    fn enter(&mut self, open: u8) -> Result<(), Fault> {
        if self.byte() != open {
            return Err(self.fault(SyntaxReason::ExpectedValue));
        }
        if self.depth >= MAX_DEPTH {
            return Err(self.fault(SyntaxReason::TooDeep));
        }
        self.depth += 1;
        self.at += 1;
        self.skip_whitespace();
        Ok(())
    }

    /// The name of the object's next member, the position then being at its value; `None` after stepping out at `}`.
    /// `first` is set on the first call after [`Self::enter_object`].
    #[inline]
    pub(crate) fn next_name(&mut self, first: bool) -> Result<Option<StringToken>, Fault> {
        if !self.next_item(first, b'}', SyntaxReason::ExpectedCommaOrBrace)? {
            return Ok(None);
        }
        let name = self.quoted(SyntaxReason::ExpectedName)?;
        self.at = colon(self.bytes, self.at)?;
        Ok(Some(name))
    }

    /// Whether the array has another element, the position then being at it; `false` after stepping out at `]`.
    pub(crate) fn next_element(&mut self, first: bool) -> Result<bool, Fault> {
        self.next_item(first, b']', SyntaxReason::ExpectedCommaOrBracket)
    }

    #[inline]
    fn next_item(&mut self, first: bool, close: u8, otherwise: SyntaxReason) -> Result<bool, Fault> {
        self.skip_whitespace();
        let byte = self.byte();
        if byte == close {
            self.depth = self.depth.saturating_sub(1);
            self.at += 1;
            return Ok(false);
        }
        if !first {
            if byte != b',' {
                return Err(self.fault(otherwise));
            }
            self.at += 1;
            self.skip_whitespace();
        }
        Ok(true)
    }

    /// The string whose opening quote is at the position.
    #[inline]
    pub(crate) fn string(&mut self) -> Result<StringToken, Fault> {
        self.quoted(SyntaxReason::ExpectedValue)
    }

    #[inline]
    fn quoted(&mut self, otherwise: SyntaxReason) -> Result<StringToken, Fault> {
        if self.byte() != b'"' {
            return Err(self.fault(otherwise));
        }
        let start = self.at + 1;
        let (end, escaped) = string_end(self.bytes, start)?;
        self.at = end + 1;
        Ok(StringToken { range: start..end, escaped })
    }

    /// Steps over the value at the position and returns its range.
    #[inline]
    pub(crate) fn skip_value(&mut self) -> Result<Range<usize>, Fault> {
        let start = self.at;
        self.at = skip_value(self.bytes, start, MAX_DEPTH.saturating_sub(self.depth))?;
        Ok(start..self.at)
    }
}

#[inline]
fn byte_at(bytes: &[u8], at: usize) -> u8 {
    bytes.get(at).copied().unwrap_or(0)
}

#[inline]
fn skip_whitespace(bytes: &[u8], mut at: usize) -> usize {
    while matches!(byte_at(bytes, at), b' ' | b'\n' | b'\r' | b'\t') {
        at += 1;
    }
    at
}

/// A fault at `at`; what is missing there is the rest of the text if the text ends there.
#[cold]
fn fault(bytes: &[u8], at: usize, reason: SyntaxReason) -> Fault {
    let reason = if at >= bytes.len() { SyntaxReason::UnexpectedEnd } else { reason };
    Fault { offset: at.min(bytes.len()), reason }
}

/// From the end of a member's name over the colon to its value.
#[inline]
fn colon(bytes: &[u8], at: usize) -> Result<usize, Fault> {
    let at = skip_whitespace(bytes, at);
    if byte_at(bytes, at) != b':' {
        return Err(fault(bytes, at, SyntaxReason::ExpectedColon));
    }
    Ok(skip_whitespace(bytes, at + 1))
}

/// From a member's opening quote over its name and colon to its value.
#[inline]
fn skip_name(bytes: &[u8], at: usize) -> Result<usize, Fault> {
    if byte_at(bytes, at) != b'"' {
        return Err(fault(bytes, at, SyntaxReason::ExpectedName));
    }
    let (end, _) = string_end(bytes, at + 1)?;
    colon(bytes, end + 1)
}

#[cfg(test)]
mod tests;
