//! A stream relayed and watched in one scan.

use std::ops::Range;

use super::Scanner;
use super::event::Event;
use super::splitter::{KEPT_CAPACITY, Splitter, Visitor};
use crate::stream::{Seen, StreamFormat, StreamObserver};
use crate::usage::Usage;

/// Bytes to relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Bytes of earlier chunks that were held back.
    Held(&'a [u8]),
    /// A part of the chunk that is being fed; usually all of it.
    Chunk(Range<usize>),
}

/// Says what of a stream to relay, and watches it.
///
/// Bytes pass unchanged and in order, with two differences. Chunks are cut at the ends of events: the start of an
/// event waits for its blank line, so that an error event of our own can follow whole events if the vendor dies. No
/// client is delayed, as an SSE client acts at the blank line only. And the usage chunk, if the gateway asked for it
/// and not the client, is taken out: its empty `choices` breaks simple clients. An event over 64 KiB passes as it comes.
#[derive(Debug)]
pub struct StreamRelay {
    splitter: Splitter,
    observer: StreamObserver,
    drop_usage: bool,
}

impl StreamRelay {
    /// A relay at the start of a stream; all events pass.
    pub fn new(format: StreamFormat) -> Self {
        StreamRelay { splitter: Splitter::new(), observer: StreamObserver::new(format), drop_usage: false }
    }

    /// A relay that takes out the usage chunk of an OpenAI chat or completions stream.
    pub fn without_usage_chunk(format: StreamFormat) -> Self {
        StreamRelay { drop_usage: true, ..StreamRelay::new(format) }
    }

    /// Looks at tool calls too, from the start.
    pub fn look_at_tool_calls(&mut self) {
        self.observer.look_at_tool_calls();
    }

    /// Reads the next chunk, gives out what to relay, and returns what was in the events that ended in it.
    pub fn feed(&mut self, chunk: &[u8], emit: impl FnMut(Piece<'_>)) -> Seen {
        let mut visitor =
            Relaying { observer: &mut self.observer, drop_usage: self.drop_usage, emit, seen: Seen::default() };
        self.splitter.feed(chunk, &mut visitor);
        visitor.seen
    }

    /// The start of an event whose end has not come. At the stream's regular end it is to be relayed; after a break
    /// it is better left away, so that an error event stands between whole events.
    pub fn take_held(&mut self) -> Vec<u8> {
        self.splitter.take_held()
    }

    /// Whether what was relayed ends with a whole event.
    pub fn is_between_events(&self) -> bool {
        self.splitter.passed_whole_events()
    }

    /// What is known of the stream so far.
    pub fn observer(&self) -> &StreamObserver {
        &self.observer
    }

    /// The tokens that the stream has named so far.
    pub fn usage(&self) -> Option<Usage> {
        self.observer.usage()
    }
}

struct Relaying<'o, F> {
    observer: &'o mut StreamObserver,
    drop_usage: bool,
    emit: F,
    seen: Seen,
}

impl<F: FnMut(Piece<'_>)> Visitor for Relaying<'_, F> {
    fn event(&mut self, event: &Event<'_>) -> bool {
        let seen = self.observer.observe(event);
        self.seen |= seen;
        !(self.drop_usage && seen.usage_chunk)
    }

    fn pass(&mut self, piece: Piece<'_>) {
        (self.emit)(piece);
    }
}

/// Watches a stream that is relayed elsewhere.
#[derive(Debug)]
pub struct StreamTap {
    scanner: Scanner,
    observer: StreamObserver,
}

impl StreamTap {
    /// Bytes of memory it may keep for long; an event that is cut by a chunk's border takes up to 64 KiB until it is whole.
    pub const KEPT: usize = KEPT_CAPACITY;

    /// A tap at the start of a stream.
    pub fn new(format: StreamFormat) -> Self {
        StreamTap { scanner: Scanner::new(), observer: StreamObserver::new(format) }
    }

    /// Looks at tool calls too, from the start.
    pub fn look_at_tool_calls(&mut self) {
        self.observer.look_at_tool_calls();
    }

    /// Reads the next chunk and returns what was in the events that ended in it.
    pub fn feed(&mut self, chunk: &[u8]) -> Seen {
        let mut seen = Seen::default();
        self.scanner.feed(chunk, |event| seen |= self.observer.observe(event));
        seen
    }

    /// Whether all bytes so far belong to whole events.
    pub fn is_between_events(&self) -> bool {
        self.scanner.is_between_events()
    }

    /// What is known of the stream so far.
    pub fn observer(&self) -> &StreamObserver {
        &self.observer
    }

    /// The tokens that the stream has named so far.
    pub fn usage(&self) -> Option<Usage> {
        self.observer.usage()
    }
}
