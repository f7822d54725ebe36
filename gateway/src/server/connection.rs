//! One client connection: HTTP/1.1 with its time limits, its retirement and its lingering end.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

use super::door::Door;
use super::drain::Stage;
use super::shard::{DRAIN_SILENCE, Shard};
use crate::deadline::Deadline;
use crate::pipeline;
use crate::pipeline::respond::AnswerBody;

/// Silence between requests. Load balancers keep their side open for up to ten minutes, and must be the ones to close.
const IDLE: Duration = Duration::from_secs(620);
/// From the first byte of a request to the end of its head.
const HEAD: Duration = Duration::from_secs(10);
/// A client that takes no bytes for so long is gone.
const WRITE_STALL: Duration = Duration::from_secs(60);
/// Headers of a request, and bytes of its head.
const MAX_HEADERS: usize = 100;
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// Bytes that hyper may buffer of one connection.
const BUFFER: usize = 128 * 1024;
/// Connections are retired so that new pods get their share: after this long, ± 20 %.
const RETIRE_AFTER: Duration = Duration::from_secs(600);
/// The lingering close: how long and how much is read of what the client still sends, so that it reads the answer.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 4 << 20;

/// What a connection is waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waiting {
    /// The next request.
    Request,
    /// The rest of a request's head.
    Head,
    /// Its own answer: the request's deadlines hold.
    Answer,
}

/// The state of a connection, seen by its socket, its requests and the drain.
pub struct ConnectionState {
    door: Door,
    waiting: Cell<Waiting>,
    write_stalled: Cell<bool>,
    silence: Cell<Duration>,
    unread_body: Cell<bool>,
    retire_at: Instant,
    deadline: Deadline,
}

impl ConnectionState {
    /// A connection that waits for its first request.
    pub fn new(shard: &Shard, door: Door) -> Rc<Self> {
        // The last of the accept queue come after the drain has shortened the silence of the others.
        let silence = if shard.shared.drain.stage() >= Stage::Stopping { DRAIN_SILENCE } else { IDLE };
        let spread = RETIRE_AFTER.mul_f64(0.8 + 0.4 * fastrand::f64());
        Rc::new(Self {
            door,
            waiting: Cell::new(Waiting::Request),
            write_stalled: Cell::new(false),
            silence: Cell::new(silence),
            unread_body: Cell::new(false),
            retire_at: Instant::now() + spread,
            deadline: shard.deadlines.arm(silence),
        })
    }

    /// By which port it came.
    pub fn door(&self) -> Door {
        self.door
    }

    /// Whether the answer should be the last on this connection.
    pub fn is_retiring(&self, now: Instant) -> bool {
        now >= self.retire_at
    }

    /// Says that an answer was given before the request's body was read.
    pub fn leave_body_unread(&self) {
        self.unread_body.set(true);
    }

    /// A draining pod waits no longer than this for the next request.
    pub fn shorten_silence(&self, silence: Duration) {
        self.silence.set(silence);
        self.restore();
    }

    /// Makes the connection look at the drain's stage.
    pub fn wake(&self) {
        self.deadline.extend(Duration::ZERO);
    }

    fn begin(&self) {
        self.waiting.set(Waiting::Answer);
        self.restore();
    }

    /// The answer was handed over in full, or dropped.
    pub fn finish(&self) {
        self.waiting.set(Waiting::Request);
        self.restore();
    }

    fn read_some(&self) {
        if self.waiting.get() == Waiting::Request {
            self.waiting.set(Waiting::Head);
            self.restore();
        }
    }

    fn write_blocks(&self, blocks: bool) {
        if self.write_stalled.replace(blocks) != blocks {
            self.restore();
        }
    }

    fn restore(&self) {
        match (self.write_stalled.get(), self.waiting.get()) {
            (true, _) => self.deadline.extend(WRITE_STALL),
            (false, Waiting::Request) => self.deadline.extend(self.silence.get()),
            (false, Waiting::Head) => self.deadline.extend(HEAD),
            (false, Waiting::Answer) => self.deadline.disarm(),
        }
    }
}

/// Serves a connection to its end.
pub async fn serve(shard: Rc<Shard>, state: Rc<ConnectionState>, stream: TcpStream) {
    let socket = Socket { stream, state: state.clone() };
    let service = service_fn({
        let (shard, state) = (shard.clone(), state.clone());
        move |request: Request<Incoming>| -> Answering {
            state.begin();
            Box::pin(answer(shard.clone(), state.clone(), request))
        }
    });
    let mut connection = http1::Builder::new()
        .half_close(false)
        .header_read_timeout(None)
        .max_headers(MAX_HEADERS)
        .max_header_size(MAX_HEAD_BYTES)
        .max_buf_size(BUFFER)
        // Events and answers are small: one copy is cheaper than gathering three slices in the kernel.
        .writev(false)
        .serve_connection(TokioIo::new(socket), service);
    let ended = poll_fn(|cx| {
        loop {
            if let Poll::Ready(result) = connection.poll_without_shutdown(cx) {
                return Poll::Ready(result.is_ok());
            }
            if state.deadline.poll_expired(cx).is_pending() {
                return Poll::Pending;
            }
            let cutoff = shard.shared.drain.stage() == Stage::Cutoff;
            match (state.write_stalled.get(), state.waiting.get()) {
                (false, Waiting::Request) => {
                    state.deadline.disarm();
                    Pin::new(&mut connection).graceful_shutdown();
                }
                // Woken for the cutoff: the answer itself says the rest at the next poll.
                (false, Waiting::Answer) if cutoff => state.deadline.disarm(),
                _ => return Poll::Ready(false),
            }
        }
    })
    .await;
    if ended {
        let unread = state.unread_body.get();
        let socket = connection.into_parts().io.into_inner();
        if let Some(stream) = close(socket.stream, unread).await
            && shard.shared.drain.has_begun()
        {
            settle(stream).await;
        }
    }
}

type Answering = Pin<Box<dyn Future<Output = Result<Response<AnswerBody>, Infallible>>>>;

async fn answer(
    shard: Rc<Shard>,
    state: Rc<ConnectionState>,
    request: Request<Incoming>,
) -> Result<Response<AnswerBody>, Infallible> {
    Ok(pipeline::handle(shard, state, request).await)
}

/// Ends a socket's own side. A client that still sends would be reset before it reads its answer, so its bytes are read for a while.
async fn close(mut stream: TcpStream, unread: bool) -> Option<TcpStream> {
    stream.shutdown().await.ok()?;
    if !unread {
        return Some(stream);
    }
    let _ = tokio::time::timeout(LINGER, async {
        let mut scratch = vec![0; 16 * 1024];
        let mut left = LINGER_BYTES;
        while left > 0 {
            match stream.read(&mut scratch).await {
                Ok(0) | Err(_) => break,
                Ok(n) => left = left.saturating_sub(n),
            }
        }
    })
    .await;
    Some(stream)
}

/// Waits until the client has all that was written. What the kernel still holds of an answer goes with the pod's network when the process
/// ends, and the client would wait for it in vain.
async fn settle(stream: TcpStream) {
    if SockRef::from(&stream).set_linger(Some(WRITE_STALL)).is_err() {
        return;
    }
    let Ok(stream) = stream.into_std() else { return };
    // To close it is what waits, and it blocks.
    let _ = tokio::task::spawn_blocking(move || drop(stream)).await;
}

/// The socket, which tells the connection's state of what goes in and out.
struct Socket {
    stream: TcpStream,
    state: Rc<ConnectionState>,
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.state.read_some();
        }
        result
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.state.write_blocks(result.is_pending());
        result
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.state.write_blocks(result.is_pending());
        result
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Tells the connection that its answer is over, however it ends.
pub struct Finish(Rc<ConnectionState>);

impl Finish {
    /// For the body of one answer.
    pub fn new(state: &Rc<ConnectionState>) -> Self {
        Self(state.clone())
    }
}

impl Drop for Finish {
    fn drop(&mut self) {
        self.0.finish();
    }
}
