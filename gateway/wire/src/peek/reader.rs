//! The pass itself: walks the top-level members, reads the known ones and skips the rest.

use std::borrow::Cow;

use super::known::Spelling;
use super::{JsonType, Known, Member, Opening, Peek, PeekError, Span, StreamOptions};
use crate::json::{Cursor, Fault, StringToken, SyntaxReason};

/// What stands in OpenAI Responses requests that name or ask for what belongs to one account: reasoning that only it can read,
/// conversations, files, containers, stored prompts.
const VENDOR_STATE: [&[u8]; 6] =
    [b"encrypted_content", b"\"conversation\"", b"\"file_id\"", b"\"vector_store_ids\"", b"\"container\"", b"\"pmpt_"];

/// Whether a body seems to name what belongs to one account at the vendor.
pub(crate) fn names_vendor_state(body: &[u8]) -> bool {
    VENDOR_STATE.iter().any(|text| memchr::memmem::find(body, text).is_some())
}

pub(super) fn read(body: &[u8]) -> Result<Peek<'_>, PeekError> {
    if body.starts_with(b"\xef\xbb\xbf") {
        return Err(PeekError::ByteOrderMark);
    }
    let text = simdutf8::basic::from_utf8(body).map_err(|_| invalid_utf8(body))?;
    let mut reader = Reader { text, cursor: Cursor::new(body), seen: 0, peek: Peek::default() };
    reader.read_body()?;
    let mut peek = reader.peek;
    peek.names_vendor_state = peek.store.as_ref().is_some_and(|store| !store.value) && names_vendor_state(body);
    Ok(peek)
}

/// The fast check does not say where it failed, this one does.
#[cold]
fn invalid_utf8(body: &[u8]) -> PeekError {
    let offset = std::str::from_utf8(body).map_or_else(|error| error.valid_up_to(), str::len);
    PeekError::InvalidUtf8 { offset }
}

struct Reader<'a> {
    text: &'a str,
    cursor: Cursor<'a>,
    /// One bit for each [`Known`] member that occurred.
    seen: u16,
    peek: Peek<'a>,
}

impl<'a> Reader<'a> {
    fn read_body(&mut self) -> Result<(), PeekError> {
        self.cursor.skip_whitespace();
        match json_type(self.cursor.byte()) {
            Some(JsonType::Object) => {}
            Some(found) => {
                self.skip()?;
                return Err(PeekError::NotAnObject { found });
            }
            None if self.cursor.is_at_end() => return Err(PeekError::Empty),
            None => return Err(self.cursor.fault(SyntaxReason::ExpectedValue).into()),
        }
        self.peek.opening = self.enter_object()?;
        let mut first = true;
        while let Some(name) = self.cursor.next_name(first)? {
            first = false;
            self.read_member(&name)?;
        }
        self.cursor.skip_whitespace();
        if self.cursor.is_at_end() { Ok(()) } else { Err(PeekError::TrailingText { offset: self.cursor.offset() }) }
    }

    fn enter_object(&mut self) -> Result<Opening, PeekError> {
        let after = self.cursor.offset() + 1;
        self.cursor.enter_object()?;
        Ok(Opening { after, empty: self.cursor.byte() == b'}' })
    }

    #[inline]
    fn read_member(&mut self, token: &StringToken) -> Result<(), PeekError> {
        let name = self.name(token)?;
        match Known::top_level(&name) {
            Some(found) => self.read_known(found, token),
            None => {
                self.peek.names_tools |= name == "tools" && self.cursor.byte() == b'[';
                self.skip()
            }
        }
    }

    fn read_known(&mut self, (known, spelling): (Known, Spelling), name: &StringToken) -> Result<(), PeekError> {
        let name_start = self.note(known, spelling, name)?;
        match known {
            Known::Model => self.peek.model = self.string(known, name_start)?,
            Known::User => self.peek.user = self.string(known, name_start)?,
            Known::SafetyIdentifier => self.peek.safety_identifier = self.string(known, name_start)?,
            Known::PromptCacheKey => self.peek.prompt_cache_key = self.string(known, name_start)?,
            Known::PreviousResponseId => self.peek.previous_response_id = self.string(known, name_start)?,
            Known::Stream => self.peek.stream = flatten(self.boolean(known, name_start)?),
            Known::Store => self.peek.store = flatten(self.boolean(known, name_start)?),
            Known::Fallbacks => self.peek.fallbacks = self.fallbacks(name_start)?,
            Known::StreamOptions => self.peek.stream_options = Some(self.stream_options(name_start)?),
            Known::Metadata => self.metadata()?,
            // Names of nested objects; they are no top-level members.
            Known::MetadataUserId | Known::IncludeUsage => self.skip()?,
        }
        Ok(())
    }

    /// Refuses a known name that is written in another case or occurred before; returns where the name starts.
    fn note(&mut self, member: Known, spelling: Spelling, name: &StringToken) -> Result<usize, PeekError> {
        let offset = name.range.start - 1;
        if spelling == Spelling::OtherCase {
            return Err(PeekError::OtherCase { member, offset });
        }
        let bit = 1 << member as u8;
        if self.seen & bit != 0 {
            return Err(PeekError::Duplicate { member, offset });
        }
        self.seen |= bit;
        Ok(offset)
    }

    #[inline]
    fn name(&self, token: &StringToken) -> Result<Cow<'a, str>, PeekError> {
        let name = self.decode(token);
        if token.escaped && name.contains('\0') {
            return Err(PeekError::NulInName { offset: token.range.start - 1 });
        }
        Ok(name)
    }

    #[inline]
    fn decode(&self, token: &StringToken) -> Cow<'a, str> {
        match self.text.get(token.range.clone()) {
            Some(plain) if !token.escaped => Cow::Borrowed(plain),
            _ => token.decode(self.text.as_bytes()),
        }
    }

    #[inline]
    fn skip(&mut self) -> Result<(), PeekError> {
        self.cursor.skip_value()?;
        Ok(())
    }

    /// The type of the value at the position, if it is the expected one or `null`.
    fn expect(&self, member: Known, expected: JsonType) -> Result<JsonType, PeekError> {
        match json_type(self.cursor.byte()) {
            None => Err(self.cursor.fault(SyntaxReason::ExpectedValue).into()),
            Some(found) if found == expected || found == JsonType::Null => Ok(found),
            Some(found) => Err(PeekError::WrongType { member, expected, found, offset: self.cursor.offset() }),
        }
    }

    fn string(&mut self, member: Known, name_start: usize) -> Result<Option<Member<Cow<'a, str>>>, PeekError> {
        let start = self.cursor.offset();
        if self.expect(member, JsonType::String)? == JsonType::Null {
            return self.skip().map(|()| None);
        }
        let token = self.cursor.string()?;
        let value = self.decode(&token);
        if token.escaped && value.contains('\0') {
            return Err(PeekError::NulInValue { member, offset: start });
        }
        Ok(Some(Member { value, span: Span { name_start, value: start..self.cursor.offset() } }))
    }

    fn boolean(&mut self, member: Known, name_start: usize) -> Result<Member<Option<bool>>, PeekError> {
        self.expect(member, JsonType::Boolean)?;
        let value = match self.cursor.byte() {
            b't' => Some(true),
            b'f' => Some(false),
            _ => None,
        };
        Ok(Member { value, span: Span { name_start, value: self.cursor.skip_value()? } })
    }

    fn fallbacks(&mut self, name_start: usize) -> Result<Option<Member<bool>>, PeekError> {
        let found = self.expect(Known::Fallbacks, JsonType::Array)?;
        let range = self.cursor.skip_value()?;
        if found == JsonType::Null {
            return Ok(None);
        }
        let inside = self.text.get(range.start + 1..range.end - 1).unwrap_or_default();
        let names_something = !inside.bytes().all(|byte| byte.is_ascii_whitespace());
        Ok(Some(Member { value: names_something, span: Span { name_start, value: range } }))
    }

    fn stream_options(&mut self, name_start: usize) -> Result<StreamOptions, PeekError> {
        let start = self.cursor.offset();
        let mut include_usage = None;
        let mut opening = None;
        if self.expect(Known::StreamOptions, JsonType::Object)? == JsonType::Null {
            self.skip()?;
        } else {
            opening = Some(self.enter_object()?);
            let mut first = true;
            while let Some(token) = self.cursor.next_name(first)? {
                first = false;
                match Known::in_stream_options(&self.name(&token)?) {
                    Some((known, spelling)) => {
                        let name_start = self.note(known, spelling, &token)?;
                        include_usage = Some(self.boolean(known, name_start)?);
                    }
                    None => self.skip()?,
                }
            }
        }
        let span = Span { name_start, value: start..self.cursor.offset() };
        Ok(StreamOptions { span, opening, include_usage })
    }

    /// Reads `metadata.user_id`. Callers may choose the names in `metadata` freely, so another case is another name
    /// here; no permission hangs on it either.
    fn metadata(&mut self) -> Result<(), PeekError> {
        if self.expect(Known::Metadata, JsonType::Object)? == JsonType::Null {
            return self.skip();
        }
        self.cursor.enter_object()?;
        let mut first = true;
        while let Some(token) = self.cursor.next_name(first)? {
            first = false;
            if self.name(&token)? == "user_id" {
                let name_start = self.note(Known::MetadataUserId, Spelling::Exact, &token)?;
                self.peek.metadata_user_id = self.string(Known::MetadataUserId, name_start)?;
            } else {
                self.skip()?;
            }
        }
        Ok(())
    }
}

fn flatten(member: Member<Option<bool>>) -> Option<Member<bool>> {
    member.value.map(|value| Member { value, span: member.span })
}

/// The type of the value that starts with this byte, if one can.
fn json_type(byte: u8) -> Option<JsonType> {
    match byte {
        b'{' => Some(JsonType::Object),
        b'[' => Some(JsonType::Array),
        b'"' => Some(JsonType::String),
        b'-' | b'0'..=b'9' => Some(JsonType::Number),
        b't' | b'f' => Some(JsonType::Boolean),
        b'n' => Some(JsonType::Null),
        _ => None,
    }
}

impl From<Fault> for PeekError {
    fn from(fault: Fault) -> Self {
        PeekError::Syntax { offset: fault.offset, reason: fault.reason }
    }
}
