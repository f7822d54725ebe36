//! Whether the arguments of the tool calls in an answer are JSON. They are a text within JSON (in Anthropic's plain answers an
//! object), in a stream in pieces.
//!
//! It is looked at only where the request named tools. Nothing of the arguments is kept; beyond 16 calls or 64 KiB of arguments, and of
//! what cannot be read, nothing is said. The older `function_call` of OpenAI's chat and calls with free text are no tool calls here.

use std::ops::Range;

use crate::json::{Checker, Cursor, Fault, StringToken};
use crate::sse::Event;
use crate::stream::StreamFormat;
use crate::usage::find_member;

/// Most calls of an answer that are looked at.
const MAX_CALLS: usize = 16;
/// Most bytes of arguments of an answer that are looked at.
const MAX_ARGUMENTS: usize = 64 * 1024;

/// Whether a plain answer has a tool call whose arguments are no JSON; `None` if it has no call or nobody can tell.
pub fn invalid_tool_call(answer: &[u8], format: StreamFormat) -> Option<bool> {
    let start = answer.len() - answer.trim_ascii_start().len();
    let mut calls = ToolCalls::default();
    match format {
        StreamFormat::OpenAiChat => elements(answer, find_member(answer, start, "choices"), |choice| {
            let called = find_member(answer, choice, "message").and_then(|at| find_member(answer, at, "tool_calls"));
            elements(answer, called, |call| {
                if let Some(function) = find_member(answer, call, "function") {
                    calls.whole(answer, find_member(answer, function, "arguments"));
                }
            });
        }),
        StreamFormat::OpenAiResponses => elements(answer, find_member(answer, start, "output"), |item| {
            calls.responses_item(answer, item);
        }),
        StreamFormat::AnthropicMessages => elements(answer, find_member(answer, start, "content"), |block| {
            if is_of_type(answer, block, "tool_use") {
                calls.object(answer, find_member(answer, block, "input"));
            }
        }),
    }
    calls.invalid()
}

/// The tool calls of a stream so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct ToolCalls {
    calls: Vec<Call>,
    bytes: usize,
    /// Something could not be read, or there is too much.
    lost: bool,
}

#[derive(Debug, Clone)]
struct Call {
    /// Which of the answer's calls: numbers of the choice and of the call, or of the block.
    place: (u64, u64),
    checker: Checker,
    /// Whether no arguments at all are as good as `{}`.
    may_be_blank: bool,
}

impl ToolCalls {
    /// Whether a call's arguments are no JSON; `None` if there is no call or nobody can tell. To be asked at the stream's end.
    pub(crate) fn invalid(&self) -> Option<bool> {
        let is_valid = |call: &Call| call.checker.is_whole() || (call.may_be_blank && call.checker.is_blank());
        (!self.lost && !self.calls.is_empty()).then(|| !self.calls.iter().all(is_valid))
    }

    /// Some of the answer cannot be read.
    pub(crate) fn lose(&mut self) {
        self.lost = true;
    }

    /// Reads the list of calls at the position in a chunk of a chat stream, in one pass: this is on the way of every chunk.
    pub(crate) fn openai_chat(&mut self, data: &[u8], choice: u64, at: usize) {
        if !self.lost && self.chat_calls(Cursor::at(data, at), choice).is_err() {
            self.lose();
        }
    }

    fn chat_calls(&mut self, mut cursor: Cursor<'_>, choice: u64) -> Result<(), Fault> {
        if cursor.byte() != b'[' {
            return Ok(());
        }
        cursor.enter_array()?;
        let mut first = true;
        while cursor.next_element(first)? {
            first = false;
            let (mut index, mut function) = (None, None);
            cursor.enter_object()?;
            let mut first = true;
            while let Some(name) = cursor.next_name(first)? {
                first = false;
                match name.raw(cursor.bytes()) {
                    b"function" if cursor.byte() == b'{' => function = Some(arguments(&mut cursor)?),
                    b"index" => {
                        let value = cursor.skip_value()?;
                        index = whole_number(cursor.bytes(), value);
                    }
                    _ => {
                        cursor.skip_value()?;
                    }
                }
            }
            match (index, function) {
                (Some(index), Some(arguments)) => {
                    self.open((choice, index), false);
                    self.add((choice, index), arguments);
                }
                (None, Some(_)) => self.lose(),
                (_, None) => {}
            }
        }
        Ok(())
    }

    /// Reads an event of a responses stream that ends an item of the answer.
    pub(crate) fn openai_responses_item(&mut self, event: &Event<'_>) {
        match find_member(&event.data, 0, "item") {
            Some(item) if event.whole => self.responses_item(&event.data, item),
            _ => self.lose(),
        }
    }

    /// Reads the start of a block of a messages stream.
    pub(crate) fn anthropic_start(&mut self, event: &Event<'_>) {
        let data = &event.data;
        let Some(block) = find_member(data, 0, "content_block").filter(|_| event.whole) else { return self.lose() };
        if is_of_type(data, block, "tool_use") {
            match number(data, 0, "index") {
                Some(index) => self.open((0, index), true),
                None => self.lose(),
            }
        }
    }

    /// Reads what is added to a block of a messages stream.
    pub(crate) fn anthropic_delta(&mut self, event: &Event<'_>) {
        let data = &event.data;
        if !event.whole {
            return self.lose();
        }
        if self.calls.is_empty() {
            return;
        }
        let delta = find_member(data, 0, "delta");
        let json = text(data, delta.and_then(|delta| find_member(data, delta, "partial_json")));
        match number(data, 0, "index") {
            Some(index) => self.add((0, index), json),
            None => self.lose(),
        }
    }

    fn responses_item(&mut self, data: &[u8], item: usize) {
        if is_of_type(data, item, "function_call") {
            self.whole(data, find_member(data, item, "arguments"));
        }
    }

    /// A call whose arguments are the string at the position.
    fn whole(&mut self, data: &[u8], at: Option<usize>) {
        let place = (u64::MAX, self.calls.len() as u64);
        self.open(place, false);
        self.add(place, text(data, at));
    }

    /// A call whose arguments should be an object and not a text.
    fn object(&mut self, data: &[u8], at: Option<usize>) {
        let place = (u64::MAX, self.calls.len() as u64);
        self.open(place, false);
        if let (Some(at), Some(call)) = (at.filter(|at| data.get(*at) == Some(&b'{')), self.calls.last_mut()) {
            // The answer was scanned beyond it, or it would be lost; what it holds matters no more.
            match Cursor::at(data, at).skip_value() {
                Ok(_) => call.checker.feed(b"{}"),
                Err(_) => self.lose(),
            }
        }
    }

    fn open(&mut self, place: (u64, u64), may_be_blank: bool) {
        if self.calls.iter().any(|call| call.place == place) {
            return;
        }
        if self.calls.len() >= MAX_CALLS {
            return self.lose();
        }
        self.calls.push(Call { place, checker: Checker::new(), may_be_blank });
    }

    /// Adds to the arguments of a call, if it is one of a tool.
    fn add(&mut self, place: (u64, u64), written: &[u8]) {
        let Some(call) = self.calls.iter_mut().find(|call| call.place == place) else { return };
        self.bytes += written.len();
        if self.bytes > MAX_ARGUMENTS {
            return self.lose();
        }
        call.checker.feed_escaped(written);
    }
}

/// Calls with the offset of each element of the array at the position, if one is there.
fn elements(data: &[u8], at: Option<usize>, mut each: impl FnMut(usize)) {
    let Some(at) = at else { return };
    let mut cursor = Cursor::at(data, at);
    if cursor.byte() != b'[' || cursor.enter_array().is_err() {
        return;
    }
    let mut first = true;
    while let Ok(true) = cursor.next_element(first) {
        first = false;
        each(cursor.offset());
        if cursor.skip_value().is_err() {
            return;
        }
    }
}

/// Reads the function at the position: its arguments as they are written, empty if there are none.
fn arguments<'a>(cursor: &mut Cursor<'a>) -> Result<&'a [u8], Fault> {
    let mut arguments: &[u8] = &[];
    cursor.enter_object()?;
    let mut first = true;
    while let Some(name) = cursor.next_name(first)? {
        first = false;
        if name.raw(cursor.bytes()) == b"arguments" && cursor.byte() == b'"' {
            arguments = cursor.string()?.raw(cursor.bytes());
        } else {
            cursor.skip_value()?;
        }
    }
    Ok(arguments)
}

fn string(data: &[u8], at: usize) -> Option<StringToken> {
    Cursor::at(data, at).string().ok()
}

/// The string at the position, as it is written; empty if there is none.
fn text(data: &[u8], at: Option<usize>) -> &[u8] {
    at.and_then(|at| string(data, at)).map_or(&[], |token| token.raw(data))
}

fn is_of_type(data: &[u8], object: usize, name: &str) -> bool {
    find_member(data, object, "type").and_then(|at| string(data, at)).is_some_and(|token| token.is(data, name))
}

fn number(data: &[u8], object: usize, name: &str) -> Option<u64> {
    let at = find_member(data, object, name)?;
    whole_number(data, Cursor::at(data, at).skip_value().ok()?)
}

/// The number that is written there, if it is a whole one.
pub(crate) fn whole_number(data: &[u8], place: Range<usize>) -> Option<u64> {
    std::str::from_utf8(data.get(place)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests;
