//! Inflates a copy of what passes, so that the tee of the baseline arm can read usage and first output. The client gets the bytes as
//! they came; whatever is strange here ends the watching, never the answer.

use std::io::Write as _;

use flate2::write::GzDecoder;

/// Compressed bytes of one chunk that are looked at: more would hold up the runtime.
const MAX_CHUNK: usize = 16 * 1024;
/// Compressed bytes taken at once, and what they may become: a bomb is noticed before it grows.
const SLICE: usize = 512;
const MAX_OUTPUT: usize = 256 * 1024;

/// The state of one answer's inflation.
pub struct Inflate {
    decoder: Option<GzDecoder<Vec<u8>>>,
}

impl Inflate {
    /// For an answer with this `content-encoding`, if it is one that is understood.
    pub fn of(encoding: &[u8]) -> Option<Self> {
        encoding.eq_ignore_ascii_case(b"gzip").then(|| Self { decoder: Some(GzDecoder::new(Vec::new())) })
    }

    /// Whether something was too large or strange to be read, so that nothing is from there on.
    pub fn has_given_up(&self) -> bool {
        self.decoder.is_none()
    }

    /// What a chunk says; nothing once given up.
    pub fn feed(&mut self, chunk: &[u8]) -> Vec<u8> {
        let inflated = if chunk.len() <= MAX_CHUNK {
            self.decoder.as_mut().and_then(|decoder| write(decoder, chunk))
        } else {
            None
        };
        if inflated.is_none() {
            self.decoder = None;
        }
        inflated.unwrap_or_default()
    }
}

fn write(decoder: &mut GzDecoder<Vec<u8>>, chunk: &[u8]) -> Option<Vec<u8>> {
    for slice in chunk.chunks(SLICE) {
        decoder.write_all(slice).ok()?;
        if decoder.get_ref().len() > MAX_OUTPUT {
            return None;
        }
    }
    decoder.flush().ok()?;
    Some(std::mem::take(decoder.get_mut()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn chunks_of_any_size_say_the_whole() {
        let text: Vec<u8> = (0..5000).map(|n| b"data: {}\n"[n % 9]).collect();
        let packed = gzip(&text);
        for size in [1, 7, packed.len()] {
            let mut inflate = Inflate::of(b"GZip").unwrap();
            let out: Vec<u8> = packed.chunks(size).flat_map(|chunk| inflate.feed(chunk)).collect();
            assert_eq!(out, text);
        }
    }

    #[test]
    fn bombs_and_nonsense_are_given_up() {
        let bomb = gzip(&vec![0; 64 << 20]);
        let mut inflate = Inflate::of(b"gzip").unwrap();
        let most = bomb.chunks(1400).map(|chunk| inflate.feed(chunk).len()).max().unwrap();
        assert!(most <= 2 * MAX_OUTPUT && inflate.has_given_up());
        let mut inflate = Inflate::of(b"gzip").unwrap();
        assert!(inflate.feed(b"no gzip at all").is_empty() && inflate.has_given_up());
        assert!(Inflate::of(b"br").is_none());
    }
}
