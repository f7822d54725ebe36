//! Where events end: at blank lines, whatever ends the lines.

use memchr::memchr2;

const BYTE_ORDER_MARK: [u8; 3] = [0xef, 0xbb, 0xbf];

/// Follows the lines of a stream over chunk borders.
#[derive(Debug)]
pub(super) struct Lines {
    /// The current line is empty so far.
    at_line_start: bool,
    /// The last byte was a CR; an LF that follows belongs to it.
    after_cr: bool,
    /// How many bytes of a byte order mark the stream has started with; `None` when its start is behind us.
    mark: Option<usize>,
}

impl Lines {
    pub(super) fn new() -> Self {
        Lines { at_line_start: true, after_cr: false, mark: Some(0) }
    }

    /// The LF that completes a CRLF whose CR ended the chunk before: 1 if the chunk starts with it, else 0.
    pub(super) fn late_line_feed(&mut self, chunk: &[u8]) -> usize {
        let late = self.after_cr && chunk.first() == Some(&b'\n');
        self.after_cr &= chunk.is_empty();
        usize::from(late)
    }

    /// Where the event that `chunk` is in at `from` ends, its blank line included; `None` if it goes on in the next
    /// chunk.
    pub(super) fn event_end(&mut self, chunk: &[u8], from: usize) -> Option<usize> {
        let mut at = self.skip_mark(chunk, from);
        loop {
            let rest = chunk.get(at..).unwrap_or_default();
            let first = *rest.first()?;
            let blank = self.at_line_start && (first == b'\n' || first == b'\r');
            let length = if blank { Some(0) } else { memchr2(b'\n', b'\r', rest) };
            self.at_line_start = length.is_some();
            at = self.line_end(chunk, at + length?);
            if blank {
                return Some(at);
            }
        }
    }

    /// The offset after the line end that starts at `at`.
    fn line_end(&mut self, chunk: &[u8], at: usize) -> usize {
        if chunk.get(at) == Some(&b'\n') {
            return at + 1;
        }
        match chunk.get(at + 1) {
            Some(b'\n') => at + 2,
            next => {
                self.after_cr = next.is_none();
                at + 1
            }
        }
    }

    /// Skips a byte order mark at the stream's start: it belongs to no line.
    fn skip_mark(&mut self, chunk: &[u8], mut at: usize) -> usize {
        while let Some(seen) = self.mark
            && let Some(byte) = chunk.get(at)
        {
            if BYTE_ORDER_MARK.get(seen) == Some(byte) {
                self.mark = Some(seen + 1);
                at += 1;
            } else {
                self.at_line_start = seen == 0 || seen == BYTE_ORDER_MARK.len();
                self.mark = None;
            }
        }
        at
    }
}
