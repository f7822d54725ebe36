//! The last bytes of something long.

/// How many bytes are kept: the usage of an answer stands before members that a caller may fill with some KiB.
const KEPT: usize = 16 * 1024;

/// How many bytes are kept of an answer whose tool calls are looked at: most are kept whole.
const KEPT_FOR_TOOLS: usize = 64 * 1024;

/// Keeps the last bytes of what is pushed, in at most twice that much memory.
#[derive(Debug, Clone)]
pub struct Tail {
    kept: usize,
    pushed: usize,
    buffer: Vec<u8>,
}

impl Default for Tail {
    fn default() -> Self {
        Self::new()
    }
}

impl Tail {
    /// Keeps 16 KiB. Nothing is pushed yet; no memory is taken before something is.
    pub fn new() -> Self {
        Self::keeping(KEPT)
    }

    /// Keeps 64 KiB, for an answer whose tool calls are looked at.
    pub fn for_tools() -> Self {
        Self::keeping(KEPT_FOR_TOOLS)
    }

    fn keeping(kept: usize) -> Self {
        Tail { kept, pushed: 0, buffer: Vec::new() }
    }

    /// Bytes of memory it takes at the most.
    pub fn most(&self) -> usize {
        2 * self.kept
    }

    /// Adds what follows.
    pub fn push(&mut self, bytes: &[u8]) {
        self.pushed = self.pushed.saturating_add(bytes.len());
        let bytes = bytes.get(bytes.len().saturating_sub(self.kept)..).unwrap_or_default();
        let keep = self.kept - bytes.len();
        if keep == 0 || self.buffer.len() + bytes.len() > self.most() {
            self.buffer.drain(..self.buffer.len().saturating_sub(keep));
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The last bytes, at least as many as are kept if so many were pushed.
    pub fn bytes(&self) -> &[u8] {
        &self.buffer
    }

    /// All bytes, if none were dropped.
    pub fn whole(&self) -> Option<&[u8]> {
        (self.buffer.len() == self.pushed).then_some(&self.buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_kept_and_memory_is_bounded() {
        let all: Vec<u8> = (0..200_000u32).map(|index| (index % 251) as u8).collect();
        for step in [1, 100, 16_384, 20_000, 200_000] {
            let mut tail = Tail::new();
            for chunk in all.chunks(step) {
                tail.push(chunk);
                assert!(tail.bytes().len() <= 2 * KEPT);
            }
            assert!(tail.bytes().len() >= KEPT);
            assert!(all.ends_with(tail.bytes()));
            assert_eq!(tail.whole(), None);
        }
    }

    #[test]
    fn what_is_short_is_kept_whole() {
        let mut tail = Tail::new();
        tail.push(b"ab");
        tail.push(b"");
        tail.push(b"c");
        assert_eq!(tail.bytes(), b"abc");
        assert_eq!(tail.whole(), Some(&b"abc"[..]));
    }
}
