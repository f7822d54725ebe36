//! The one scan under everything else here: cuts a stream into events and holds back what is not yet whole.

use std::borrow::Cow;
use std::ops::Range;

use super::Piece;
use super::event::Event;
use super::lines::Lines;
use crate::tail::Tail;

/// The longest event, in bytes, that is held back until it is whole.
const MAX_HELD: usize = 64 * 1024;

/// Buffers above this size are given back once their event is over.
pub(super) const KEPT_CAPACITY: usize = 16 * 1024;

/// What a scan reports to.
pub(super) trait Visitor {
    /// An event has ended. Returns whether its bytes are to pass; those of a cut event have passed already.
    fn event(&mut self, event: &Event<'_>) -> bool;
    /// These bytes pass, in order; pieces of the chunk that follow each other come as one.
    fn pass(&mut self, piece: Piece<'_>);
}

/// Cuts a stream into events.
#[derive(Debug)]
pub(super) struct Splitter {
    lines: Lines,
    /// The start of the event that the last chunk ended in.
    held: Vec<u8>,
    /// The current event is too long to be held and passes as it comes.
    long: Option<LongEvent>,
    /// No event has ended yet: a byte order mark may stand before it.
    first: bool,
    /// Whether the last event passed, for an LF that arrives after its CR.
    passed: bool,
}

/// What is kept of an event that is too long to be held.
#[derive(Debug)]
struct LongEvent {
    name: Vec<u8>,
    tail: Tail,
}

impl Splitter {
    pub(super) fn new() -> Self {
        Splitter { lines: Lines::new(), held: Vec::new(), long: None, first: true, passed: true }
    }

    /// Whether all bytes so far belong to whole events.
    pub(super) fn is_between_events(&self) -> bool {
        self.held.is_empty() && self.long.is_none()
    }

    /// Whether all bytes that passed belong to whole events.
    pub(super) fn passed_whole_events(&self) -> bool {
        self.long.is_none()
    }

    /// The start of an event whose end has not come; nothing is held afterwards.
    pub(super) fn take_held(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }

    pub(super) fn feed(&mut self, chunk: &[u8], visitor: &mut impl Visitor) {
        let mut passing = Passing::default();
        let late = self.lines.late_line_feed(chunk);
        let mut start = 0;
        if late > 0 && self.is_between_events() {
            if self.passed {
                passing.end = late;
            }
            start = late;
        }
        let mut from = late;
        while let Some(end) = self.lines.event_end(chunk, from) {
            self.passed = self.end_event(chunk.get(start..end).unwrap_or_default(), visitor);
            if self.passed {
                passing.extend(start..end, visitor);
            }
            (start, from) = (end, end);
        }
        let rest = chunk.get(start..).unwrap_or_default();
        if !rest.is_empty() && self.continue_event(rest, visitor) {
            passing.extend(start..chunk.len(), visitor);
        }
        passing.tell(visitor);
    }

    /// More of the current event, without its end. Returns whether these bytes pass at once; then what was held has
    /// passed before them.
    fn continue_event(&mut self, bytes: &[u8], visitor: &mut impl Visitor) -> bool {
        if self.long.is_none() && self.held.len() + bytes.len() <= MAX_HELD {
            self.held.extend_from_slice(bytes);
            return false;
        }
        let long = match self.long.take() {
            Some(long) => long,
            None => LongEvent::start(&self.held, bytes, self.first),
        };
        self.release_held(visitor);
        self.long.insert(long).tail.push(bytes);
        true
    }

    /// The last bytes of the current event. Returns whether they pass; then what was held has passed before them.
    fn end_event(&mut self, bytes: &[u8], visitor: &mut impl Visitor) -> bool {
        if self.long.is_some() || (!self.held.is_empty() && self.held.len() + bytes.len() > MAX_HELD) {
            self.continue_event(bytes, visitor);
        }
        let first = std::mem::take(&mut self.first);
        if let Some(long) = self.long.take() {
            visitor.event(&Event { name: &long.name, data: Cow::Borrowed(long.tail.bytes()), whole: false });
            return true;
        }
        if self.held.is_empty() {
            return offer(bytes, first, visitor);
        }
        let held = self.held.len();
        self.held.extend_from_slice(bytes);
        let pass = offer(&self.held, first, visitor);
        self.held.truncate(held);
        if pass {
            self.release_held(visitor);
        } else {
            self.clear_held();
        }
        pass
    }

    fn release_held(&mut self, visitor: &mut impl Visitor) {
        if !self.held.is_empty() {
            visitor.pass(Piece::Held(&self.held));
            self.clear_held();
        }
    }

    fn clear_held(&mut self) {
        self.held.clear();
        self.held.shrink_to(KEPT_CAPACITY);
    }
}

impl LongEvent {
    /// The event starts with `held`; if that is empty, with `bytes`.
    fn start(held: &[u8], bytes: &[u8], first: bool) -> Self {
        let start = if held.is_empty() { bytes } else { held };
        let name = Event::parse(without_mark(start, first)).map(|event| event.name.to_vec()).unwrap_or_default();
        let mut tail = Tail::new();
        tail.push(held);
        LongEvent { name, tail }
    }
}

/// A part of the chunk that is to pass and not yet told.
#[derive(Debug, Default)]
struct Passing {
    start: usize,
    end: usize,
}

impl Passing {
    fn extend(&mut self, range: Range<usize>, visitor: &mut impl Visitor) {
        if self.end != range.start {
            self.tell(visitor);
            self.start = range.start;
        }
        self.end = range.end;
    }

    fn tell(&self, visitor: &mut impl Visitor) {
        if self.start < self.end {
            visitor.pass(Piece::Chunk(self.start..self.end));
        }
    }
}

fn offer(raw: &[u8], first: bool, visitor: &mut impl Visitor) -> bool {
    Event::parse(without_mark(raw, first)).is_none_or(|event| visitor.event(&event))
}

/// The bytes of an event without the byte order mark that a stream may start with.
fn without_mark(raw: &[u8], first: bool) -> &[u8] {
    if first { raw.strip_prefix(b"\xef\xbb\xbf").unwrap_or(raw) } else { raw }
}
