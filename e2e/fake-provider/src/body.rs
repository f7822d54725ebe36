//! Response bodies: handed over at once, or chunk by chunk with the waits and cuts of a script. Each carries the open
//! record of its request and closes it when it is dropped.

use std::{
    iter::Peekable,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep};

use crate::{
    gzip::Gzip,
    records::OpenRecord,
    script::{Cut, Script},
    server::Conn,
};

/// Time for what was sent to leave before the connection is reset, which would throw it away.
const SETTLE: Duration = Duration::from_millis(20);

/// The connection is to be ended here; hyper does so on an error of the body.
#[derive(Debug, thiserror::Error)]
#[error("cut as scripted")]
pub(crate) struct CutHere;

/// A response body.
pub(crate) struct FakeBody {
    kind: Kind,
    record: OpenRecord,
    /// Close the connection silently after the end.
    close: Option<Arc<Conn>>,
}

enum Kind {
    Whole(Option<Bytes>),
    Paced(Box<Paced>),
}

struct Paced {
    chunks: Peekable<Box<dyn Iterator<Item = Bytes> + Send>>,
    /// Declared length.
    len: Option<u64>,
    gzip: Option<Gzip>,
    first: Duration,
    gap: Duration,
    sent_chunks: u64,
    sent_bytes: u64,
    cut: Option<(u64, Cut)>,
    /// What the next chunk waits for.
    sleep: Option<Pin<Box<Sleep>>>,
    conn: Arc<Conn>,
}

impl FakeBody {
    /// A body that is there as a whole.
    pub(crate) fn whole(bytes: Bytes, record: OpenRecord) -> Self {
        Self { kind: Kind::Whole(Some(bytes).filter(|b| !b.is_empty())), record, close: None }
    }

    /// Chunks, as the script paces them. `len` is the declared length, if any.
    pub(crate) fn paced(
        chunks: impl Iterator<Item = Bytes> + Send + 'static,
        len: Option<u64>,
        gzip: Option<Gzip>,
        script: &Script,
        conn: Arc<Conn>,
        record: OpenRecord,
    ) -> Self {
        let chunks: Box<dyn Iterator<Item = Bytes> + Send> = Box::new(chunks);
        let paced = Paced {
            chunks: chunks.peekable(),
            len,
            gzip,
            first: Duration::from_millis(script.first_byte_delay_ms),
            gap: Duration::from_millis(script.gap_ms),
            sent_chunks: 0,
            sent_bytes: 0,
            cut: script.cut_after.map(|after| (after, script.cut)),
            sleep: None,
            conn,
        };
        Self { kind: Kind::Paced(Box::new(paced)), record, close: None }
    }

    /// Close the connection after the end of this body.
    pub(crate) fn then_close(mut self, conn: Arc<Conn>) -> Self {
        self.close = Some(conn);
        self
    }

    fn ended(&mut self) {
        self.record.complete();
        if let Some(conn) = &self.close {
            conn.end(Cut::Close);
        }
    }
}

impl Paced {
    fn poll_chunk(&mut self, cx: &mut Context<'_>, record: &OpenRecord) -> Poll<Option<Result<Bytes, CutHere>>> {
        let cut = self.cut.filter(|(after, _)| *after == self.sent_chunks).map(|(_, how)| how);
        if self.sleep.is_none() {
            self.sleep = self.wait(cut, record).map(|w| Box::pin(sleep(w)));
        }
        if let Some(sleep) = &mut self.sleep {
            ready!(sleep.as_mut().poll(cx));
            self.sleep = None;
        }
        if let Some(how) = cut {
            self.conn.end(how);
            return Poll::Ready(Some(Err(CutHere)));
        }
        Poll::Ready(self.next_chunk().map(Ok))
    }

    /// What the next chunk, or the end, waits for.
    fn wait(&mut self, cut: Option<Cut>, record: &OpenRecord) -> Option<Duration> {
        if cut.is_some() {
            return Some(SETTLE);
        }
        self.chunks.peek()?;
        let wait = if self.sent_chunks == 0 { self.first } else { self.gap };
        Some(wait).filter(|wait| !wait.is_zero() && !record.is_hurried())
    }

    fn next_chunk(&mut self) -> Option<Bytes> {
        let Some(chunk) = self.chunks.next() else {
            return self.gzip.take().map(|mut gzip| gzip.finish());
        };
        let chunk = self.gzip.as_mut().map_or(chunk.clone(), |gzip| gzip.chunk(&chunk));
        self.sent_chunks += 1;
        self.sent_bytes += chunk.len() as u64;
        Some(chunk)
    }
}

impl Drop for FakeBody {
    fn drop(&mut self) {
        // An empty body is never asked for its end.
        if self.is_end_stream() {
            self.ended();
        }
    }
}

impl Body for FakeBody {
    type Data = Bytes;
    type Error = CutHere;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, CutHere>>> {
        let this = &mut *self;
        let chunk = match &mut this.kind {
            Kind::Whole(bytes) => {
                let bytes = bytes.take();
                self.ended();
                bytes.map(Ok)
            }
            Kind::Paced(paced) => {
                let chunk = ready!(paced.poll_chunk(cx, &this.record));
                // hyper does not ask again once a declared length is reached.
                let last = matches!(&chunk, Some(Ok(_)) if paced.len == Some(paced.sent_bytes));
                if chunk.is_none() || last {
                    self.ended();
                }
                chunk
            }
        };
        Poll::Ready(chunk.map(|c| c.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.kind, Kind::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Kind::Paced(paced) => paced.len.map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}
