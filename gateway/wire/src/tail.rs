//! The last bytes of something long.

/// How many bytes are kept: the usage of an answer stands before members that a caller may fill with some KiB.
const KEPT: usize = 16 * 1024;

/// Keeps the last 16 KiB of what is pushed, in at most twice that much memory.
#[derive(Debug, Clone, Default)]
pub struct Tail {
    buffer: Vec<u8>,
}

impl Tail {
    /// Bytes of memory it takes at the most.
    pub const MOST: usize = 2 * KEPT;

    /// Nothing pushed yet; no memory is taken before something is.
    pub fn new() -> Self {
        Tail::default()
    }

    /// Adds what follows.
    pub fn push(&mut self, bytes: &[u8]) {
        let bytes = bytes.get(bytes.len().saturating_sub(KEPT)..).unwrap_or_default();
        let keep = KEPT - bytes.len();
        if keep == 0 || self.buffer.len() + bytes.len() > Self::MOST {
            self.buffer.drain(..self.buffer.len().saturating_sub(keep));
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The last bytes, at least 16 KiB of them if so many were pushed.
    pub fn bytes(&self) -> &[u8] {
        &self.buffer
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
        }
    }

    #[test]
    fn what_is_short_is_kept_whole() {
        let mut tail = Tail::new();
        tail.push(b"ab");
        tail.push(b"");
        tail.push(b"c");
        assert_eq!(tail.bytes(), b"abc");
    }
}
