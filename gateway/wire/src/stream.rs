//! What an event of a vendor's stream means: output, usage, an error, the end.

use std::borrow::Cow;
use std::ops::BitOrAssign;

use smallvec::SmallVec;

use crate::json::{Cursor, Fault};
use crate::sse::Event;
use crate::tools::{ToolCalls, whole_number};
use crate::usage::{PartialUsage, Usage, find_member};

/// The wire format of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamFormat {
    /// OpenAI's chat completions and completions.
    OpenAiChat,
    /// OpenAI's responses.
    OpenAiResponses,
    /// Anthropic's messages.
    AnthropicMessages,
}

/// What was in one event, or in the events of one chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Seen {
    /// Output: text, reasoning or a tool call; no ping, no `message_start`, no delta with nothing but a role. Said of
    /// a stream's first such event, and perhaps of later ones.
    pub output: bool,
    /// The vendor reports an error.
    pub error: bool,
    /// The stream's regular last event.
    pub end: bool,
    /// The chunk that an OpenAI chat stream has for usage alone: empty `choices` and a `usage` object.
    pub usage_chunk: bool,
}

impl BitOrAssign for Seen {
    fn bitor_assign(&mut self, other: Seen) {
        self.output |= other.output;
        self.error |= other.error;
        self.end |= other.end;
        self.usage_chunk |= other.usage_chunk;
    }
}

/// What is known of a stream so far.
#[derive(Debug, Clone)]
pub struct StreamObserver {
    format: StreamFormat,
    usage: PartialUsage,
    seen: Seen,
    /// Only where somebody wants to know.
    tools: Option<Box<ToolCalls>>,
}

impl StreamObserver {
    /// Nothing seen yet.
    pub fn new(format: StreamFormat) -> Self {
        StreamObserver { format, usage: PartialUsage::default(), seen: Seen::default(), tools: None }
    }

    /// Looks at tool calls from now on.
    pub fn look_at_tool_calls(&mut self) {
        self.tools = Some(Box::default());
    }

    /// Whether a tool call's arguments are no JSON. `None` if there was no call, nobody can tell, nobody wanted to know, or the stream's
    /// regular end was not seen.
    pub fn invalid_tool_call(&self) -> Option<bool> {
        self.tools.as_ref().filter(|_| self.seen.end)?.invalid()
    }

    /// Takes in the next event and says what was in it. What cannot be read means nothing.
    pub fn observe(&mut self, event: &Event<'_>) -> Seen {
        let seen = match self.format {
            StreamFormat::OpenAiChat => self.openai_chat(event),
            StreamFormat::OpenAiResponses => self.openai_responses(event),
            StreamFormat::AnthropicMessages => self.anthropic_messages(event),
        };
        self.seen |= seen;
        seen
    }

    /// All that was seen so far.
    pub fn seen(&self) -> Seen {
        self.seen
    }

    /// The tokens that the stream has named so far.
    pub fn usage(&self) -> Option<Usage> {
        self.usage.total()
    }

    fn openai_chat(&mut self, event: &Event<'_>) -> Seen {
        if event.data.trim_ascii() == b"[DONE]" {
            return Seen { end: true, ..Seen::default() };
        }
        if !event.whole {
            self.lose_tool_calls();
            return Seen { output: true, ..Seen::default() };
        }
        let mut chunk = ChatChunk {
            look_for_output: !self.seen.output,
            look_for_tools: self.tools.is_some(),
            ..ChatChunk::default()
        };
        // What is no JSON object means nothing, and least of all that it may be taken out.
        if chunk.read(&event.data).is_err() {
            self.lose_tool_calls();
            return Seen::default();
        }
        if let Some(tools) = &mut self.tools {
            for (choice, at) in &chunk.tool_calls {
                tools.openai_chat(&event.data, *choice, *at);
            }
        }
        self.usage.update(chunk.usage);
        let usage_chunk = chunk.choices_empty && chunk.usage.is_known() && !chunk.error;
        let error = chunk.error || event.name == b"error";
        Seen { output: chunk.output, error, end: false, usage_chunk }
    }

    fn openai_responses(&mut self, event: &Event<'_>) -> Seen {
        let kind = kind(event);
        let mut seen = Seen::default();
        match &*kind {
            b"error" => seen.error = true,
            b"response.completed" | b"response.incomplete" | b"response.failed" => {
                seen.end = true;
                seen.error = *kind == *b"response.failed";
                self.read_usage(event, "response");
            }
            b"response.output_item.done" => {
                seen.output = true;
                if let Some(tools) = &mut self.tools {
                    tools.openai_responses_item(event);
                }
            }
            b"response.image_generation_call.partial_image" => seen.output = true,
            other => seen.output = other.ends_with(b".delta"),
        }
        seen
    }

    fn anthropic_messages(&mut self, event: &Event<'_>) -> Seen {
        let mut seen = Seen::default();
        let kind = kind(event);
        match (&*kind, &mut self.tools) {
            (b"content_block_start", Some(tools)) => tools.anthropic_start(event),
            (b"content_block_delta", Some(tools)) => tools.anthropic_delta(event),
            _ => {}
        }
        match &*kind {
            b"error" => seen.error = true,
            b"message_stop" => seen.end = true,
            b"message_start" => self.read_usage(event, "message"),
            b"message_delta" => {
                if let Some(at) = find_member(&event.data, 0, "usage") {
                    self.usage.update(PartialUsage::read(&event.data, at));
                }
            }
            b"content_block_delta" if !self.seen.output => seen.output = has_content(&event.data, "delta"),
            // A block of text or thinking starts empty, a tool call with its name.
            b"content_block_start" if !self.seen.output => seen.output = has_content(&event.data, "content_block"),
            _ => {}
        }
        seen
    }

    #[cold]
    fn lose_tool_calls(&mut self) {
        if let Some(tools) = &mut self.tools {
            tools.lose();
        }
    }

    /// Reads the usage in the object that is the event's member `parent`.
    fn read_usage(&mut self, event: &Event<'_>, parent: &str) {
        if !event.whole {
            self.usage.update(PartialUsage::read_last(&event.data));
            return;
        }
        let usage = find_member(&event.data, 0, parent).and_then(|at| find_member(&event.data, at, "usage"));
        if let Some(at) = usage {
            self.usage.update(PartialUsage::read(&event.data, at));
        }
    }
}

/// The event's name; without one, its member `type`, which says the same.
fn kind<'a>(event: &'a Event<'_>) -> Cow<'a, [u8]> {
    if !event.name.is_empty() || !event.whole {
        return Cow::Borrowed(event.name);
    }
    let at = find_member(&event.data, 0, "type");
    let token = at.and_then(|at| Cursor::at(&event.data, at).string().ok());
    token.map_or(Cow::Borrowed(b""), |token| Cow::Borrowed(token.raw(&event.data)))
}

/// Whether the object that is the member `name` says something beside its type.
fn has_content(data: &[u8], name: &str) -> bool {
    find_member(data, 0, name).is_some_and(|at| says_something(&mut Cursor::at(data, at), "type").unwrap_or(false))
}

/// Reads the object at the position: whether it has, beside the member `but`, a string, an array or an object that is
/// not empty.
fn says_something(cursor: &mut Cursor<'_>, but: &str) -> Result<bool, Fault> {
    let mut something = false;
    cursor.enter_object()?;
    let mut first = true;
    while let Some(name) = cursor.next_name(first)? {
        first = false;
        let counts = !name.is(cursor.bytes(), but);
        something |= is_not_empty(cursor)? && counts;
    }
    Ok(something)
}

/// Steps over a value; whether it is a string, an array or an object with something in it.
pub(crate) fn is_not_empty(cursor: &mut Cursor<'_>) -> Result<bool, Fault> {
    let container = matches!(cursor.byte(), b'"' | b'[' | b'{');
    let value = cursor.skip_value()?;
    // The shortest value with content has three bytes, as in `[1]`; blanks in empty containers are not worth a look.
    Ok(container && value.len() > 2)
}

/// What matters of one chunk of a chat stream.
#[derive(Debug, Default)]
struct ChatChunk {
    look_for_output: bool,
    look_for_tools: bool,
    /// Number of the choice, and where its calls lie.
    tool_calls: SmallVec<[(u64, usize); 1]>,
    output: bool,
    error: bool,
    choices_empty: bool,
    usage: PartialUsage,
}

impl ChatChunk {
    fn read(&mut self, data: &[u8]) -> Result<(), Fault> {
        let mut cursor = Cursor::new(data);
        cursor.skip_whitespace();
        cursor.enter_object()?;
        let mut first = true;
        while let Some(name) = cursor.next_name(first)? {
            first = false;
            match name.raw(data) {
                b"choices" if cursor.byte() == b'[' => self.read_choices(&mut cursor)?,
                b"usage" if cursor.byte() == b'{' => {
                    self.usage = PartialUsage::read(data, cursor.offset());
                    cursor.skip_value()?;
                }
                b"error" => {
                    self.error = cursor.byte() != b'n';
                    cursor.skip_value()?;
                }
                _ => {
                    cursor.skip_value()?;
                }
            }
        }
        Ok(())
    }

    fn read_choices(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Fault> {
        if !self.look_for_output && !self.look_for_tools {
            let start = cursor.clone();
            cursor.skip_value()?;
            self.choices_empty = is_empty_array(start)?;
            return Ok(());
        }
        cursor.enter_array()?;
        self.choices_empty = true;
        while cursor.next_element(self.choices_empty)? {
            self.choices_empty = false;
            if cursor.byte() == b'{' {
                self.read_choice(cursor)?;
            } else {
                cursor.skip_value()?;
            }
        }
        Ok(())
    }

    fn read_choice(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Fault> {
        let (mut number, mut calls) = (0, None);
        cursor.enter_object()?;
        let mut first = true;
        while let Some(name) = cursor.next_name(first)? {
            first = false;
            self.output |= match name.raw(cursor.bytes()) {
                b"delta" if cursor.byte() == b'{' => read_delta(cursor, &mut calls)?,
                b"text" => is_not_empty(cursor)?,
                b"index" => {
                    let value = cursor.skip_value()?;
                    number = whole_number(cursor.bytes(), value).unwrap_or(0);
                    false
                }
                _ => {
                    cursor.skip_value()?;
                    false
                }
            };
        }
        if self.look_for_tools {
            self.tool_calls.extend(calls.map(|at| (number, at)));
        }
        Ok(())
    }
}

/// Reads the delta at the position: whether it says something beside its role, and where its tool calls lie.
fn read_delta(cursor: &mut Cursor<'_>, calls: &mut Option<usize>) -> Result<bool, Fault> {
    let mut something = false;
    cursor.enter_object()?;
    let mut first = true;
    while let Some(name) = cursor.next_name(first)? {
        first = false;
        let name = name.raw(cursor.bytes());
        if name == b"tool_calls" {
            *calls = Some(cursor.offset());
        }
        something |= is_not_empty(cursor)? && name != b"role";
    }
    Ok(something)
}

fn is_empty_array(mut cursor: Cursor<'_>) -> Result<bool, Fault> {
    cursor.enter_array()?;
    Ok(!cursor.next_element(true)?)
}

#[cfg(test)]
mod tests;
