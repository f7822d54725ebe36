//! Server-sent events: their text, and a lazily rendered stream of them.

use std::{collections::VecDeque, ops::Range, vec};

use bytes::Bytes;

use crate::{json::Json, script::Script, text};

/// `data: {json}`, as OpenAI's chat streams.
pub(crate) fn data(json: &Json) -> Bytes {
    format!("data: {}\n\n", json.as_str()).into()
}

/// `event: name` and `data: {json}`.
pub(crate) fn event(name: &str, json: &Json) -> Bytes {
    format!("event: {name}\ndata: {}\n\n", json.as_str()).into()
}

type Render = Box<dyn FnMut(&str) -> Bytes + Send>;
/// An error event of the vendor's shape: type and message.
type ErrorEvent = fn(&str, &str) -> Bytes;

/// The events of one answer: some at the start, one for each piece of the text, some at the end.
pub(crate) struct Events {
    head: VecDeque<Bytes>,
    text: String,
    pieces: vec::IntoIter<Range<usize>>,
    render: Render,
    tail: VecDeque<Bytes>,
    error: ErrorEvent,
}

impl Events {
    /// `render` makes the event of one piece of `text`.
    pub(crate) fn new(
        script: &Script,
        text: String,
        head: impl Into<VecDeque<Bytes>>,
        render: impl FnMut(&str) -> Bytes + Send + 'static,
        tail: impl Into<VecDeque<Bytes>>,
        error: ErrorEvent,
    ) -> Self {
        let pieces = text::pieces(&text, script);
        Self { head: head.into(), text, pieces, render: Box::new(render), tail: tail.into(), error }
    }

    /// The error event that a script asks for.
    pub(crate) fn error(&self, script: &Script) -> Bytes {
        let kind = script.kind.as_deref().unwrap_or("overloaded_error");
        (self.error)(kind, script.message.as_deref().unwrap_or("Overloaded"))
    }

    /// How many pieces of text a stream of `script` has: numbered events need it for those at the end.
    pub(crate) fn count(text: &str, script: &Script) -> usize {
        text::pieces(text, script).len()
    }
}

impl Iterator for Events {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if let Some(event) = self.head.pop_front() {
            return Some(event);
        }
        match self.pieces.next() {
            Some(range) => Some((self.render)(self.text.get(range).unwrap_or_default())),
            None => self.tail.pop_front(),
        }
    }
}
