//! gzip of whole bodies and of streams, flushed after each event, and whether a client allows it.
//! Compressors are reused: making one costs far more than a small answer.

use std::cell::RefCell;

use bytes::Bytes;
use flate2::{Compress, Compression, Crc, FlushCompress};
use http::{HeaderMap, header};

const POOLED: usize = 64;

thread_local! {
    static POOL: RefCell<Vec<Compress>> = const { RefCell::new(Vec::new()) };
}

/// One gzip stream.
pub(crate) struct Gzip {
    compress: Option<Compress>,
    crc: Crc,
    started: bool,
}

impl Gzip {
    pub(crate) fn new() -> Self {
        let pooled = POOL.with_borrow_mut(Vec::pop);
        let compress = pooled.unwrap_or_else(|| Compress::new(Compression::fast(), false));
        Self { compress: Some(compress), crc: Crc::new(), started: false }
    }

    /// `data` compressed; what is returned can be inflated at once.
    pub(crate) fn chunk(&mut self, data: &[u8]) -> Bytes {
        self.crc.update(data);
        self.run(data, FlushCompress::Sync).into()
    }

    /// The end of the stream.
    pub(crate) fn finish(&mut self) -> Bytes {
        let mut out = self.run(&[], FlushCompress::Finish);
        out.extend_from_slice(&self.crc.sum().to_le_bytes());
        out.extend_from_slice(&self.crc.amount().to_le_bytes());
        out.into()
    }

    /// A whole body.
    pub(crate) fn whole(data: &[u8]) -> Bytes {
        let mut gzip = Self::new();
        gzip.crc.update(data);
        let mut out = gzip.run(data, FlushCompress::None);
        out.extend_from_slice(&gzip.finish());
        out.into()
    }

    fn run(&mut self, data: &[u8], flush: FlushCompress) -> Vec<u8> {
        let mut out = Vec::with_capacity(data.len() / 2 + 64);
        if !self.started {
            self.started = true;
            out.extend_from_slice(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 255]);
        }
        let Some(compress) = &mut self.compress else { return out };
        let start = compress.total_in();
        loop {
            let done = usize::try_from(compress.total_in() - start).unwrap_or(data.len());
            // Compressing to memory cannot fail; a buffer that stays unfilled says that all is out.
            let result = compress.compress_vec(data.get(done..).unwrap_or_default(), &mut out, flush);
            if result.is_err() || out.len() < out.capacity() {
                return out;
            }
            out.reserve(out.len().max(64));
        }
    }
}

impl Drop for Gzip {
    fn drop(&mut self) {
        let Some(mut compress) = self.compress.take() else { return };
        compress.reset();
        POOL.with_borrow_mut(|pool| {
            if pool.len() < POOLED {
                pool.push(compress);
            }
        });
    }
}

/// Whether `Accept-Encoding` allows gzip. Without the header the vendors send plain text.
pub(crate) fn allowed(headers: &HeaderMap) -> bool {
    let mut star = false;
    for value in headers.get_all(header::ACCEPT_ENCODING) {
        for item in value.to_str().unwrap_or_default().split(',') {
            let mut parts = item.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default();
            let refused = parts.any(|p| p.strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0)));
            if name.eq_ignore_ascii_case("gzip") {
                return !refused;
            }
            star |= name == "*" && !refused;
        }
    }
    star
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::GzDecoder;

    use super::*;

    fn inflate(data: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        GzDecoder::new(data).read_to_end(&mut out).unwrap();
        out
    }

    #[test]
    fn whole_bodies_of_any_size_come_back() {
        for len in [0_usize, 1, 100, 70_000, 3_000_000] {
            let body: Vec<u8> = (0..len).map(|i| u8::try_from(i * i % 251).unwrap()).collect();
            assert_eq!(inflate(&Gzip::whole(&body)), body, "{len} bytes");
        }
    }

    #[test]
    fn each_chunk_can_be_read_before_the_next_one_is_there() {
        let mut gzip = Gzip::new();
        let mut sent = gzip.chunk(b"data: one\n\n").to_vec();
        let mut seen = [0; 11];
        GzDecoder::new(sent.as_slice()).read_exact(&mut seen).unwrap();
        assert_eq!(&seen, b"data: one\n\n");
        sent.extend_from_slice(&gzip.chunk(b"data: two\n\n"));
        sent.extend_from_slice(&gzip.finish());
        assert_eq!(inflate(&sent), b"data: one\n\ndata: two\n\n");
    }

    #[test]
    fn accept_encoding_decides() {
        let ask = |value: &'static str| {
            allowed(&HeaderMap::from_iter([(header::ACCEPT_ENCODING, http::HeaderValue::from_static(value))]))
        };
        assert!(ask("br, gzip, deflate") && ask("GZIP;q=0.5") && ask("*"));
        assert!(!ask("identity") && !ask("gzip;q=0, *") && !ask("gzip; q=0.0") && !allowed(&HeaderMap::new()));
    }
}
