//! Server-sent events, found while their bytes are relayed.
//!
//! The bytes go on as they came; what is read here is only where events end and what they carry. Line ends may be LF,
//! CRLF or CR, mixed, and anything may be cut anywhere by a chunk's border. Memory is bounded: of an event that is cut by
//! a border and longer than 64 KiB only the name and the end are kept.
//!
//! [`Scanner`] finds events and nothing more. [`StreamTap`] watches a stream that somebody else relays, [`StreamRelay`]
//! says what to relay: whole events, without the usage chunk if the gateway asked for it and not the client.

mod event;
mod lines;
mod relay;
mod splitter;

pub use event::Event;
pub use relay::{Piece, StreamRelay, StreamTap};

use splitter::{Splitter, Visitor};

/// Finds the events in a stream that arrives in chunks.
#[derive(Debug)]
pub struct Scanner {
    splitter: Splitter,
}

impl Scanner {
    /// A scanner at the start of a stream.
    pub fn new() -> Self {
        Scanner { splitter: Splitter::new() }
    }

    /// Reads the next chunk and offers each event with data that ends in it.
    pub fn feed(&mut self, chunk: &[u8], on_event: impl FnMut(&Event<'_>)) {
        self.splitter.feed(chunk, &mut Listener(on_event));
    }

    /// Whether all bytes so far belong to whole events, so that an event of our own may follow.
    pub fn is_between_events(&self) -> bool {
        self.splitter.is_between_events()
    }
}

impl Default for Scanner {
    fn default() -> Self {
        Scanner::new()
    }
}

/// Takes part in a scan only to hear of events.
struct Listener<F>(F);

impl<F: FnMut(&Event<'_>)> Visitor for Listener<F> {
    fn event(&mut self, event: &Event<'_>) -> bool {
        (self.0)(event);
        true
    }

    fn pass(&mut self, _: Piece<'_>) {}
}
