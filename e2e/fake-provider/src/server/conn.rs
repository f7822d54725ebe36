//! A connection that can be ended rudely: reset, or closed in the middle.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use crate::script::Cut;

static CONNECTIONS: AtomicU64 = AtomicU64::new(0);

/// What requests know of their connection.
#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) id: u64,
    requests: AtomicU32,
    sni: OnceLock<String>,
    /// Reads say that the client has left.
    closed: AtomicBool,
    reset: AtomicBool,
}

impl Conn {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            id: CONNECTIONS.fetch_add(1, Ordering::Relaxed) + 1,
            requests: AtomicU32::new(0),
            sni: OnceLock::new(),
            closed: AtomicBool::new(false),
            reset: AtomicBool::new(false),
        })
    }

    pub(crate) fn set_sni(&self, name: Option<&str>) {
        if let Some(name) = name {
            let _ = self.sni.set(name.to_owned());
        }
    }

    pub(crate) fn sni(&self) -> Option<String> {
        self.sni.get().cloned()
    }

    /// Counts a request; the first one is 1.
    pub(crate) fn next_request(&self) -> u32 {
        self.requests.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Ends the connection: no further request is read, and with `Reset` the socket is reset when it is dropped.
    pub(crate) fn end(&self, how: Cut) {
        self.closed.store(true, Ordering::Relaxed);
        self.reset.store(how == Cut::Reset, Ordering::Relaxed);
    }
}

/// The socket of a connection, below TLS.
pub(super) struct ConnIo {
    tcp: TcpStream,
    conn: Arc<Conn>,
}

impl ConnIo {
    pub(super) fn new(tcp: TcpStream, conn: Arc<Conn>) -> Self {
        Self { tcp, conn }
    }
}

impl Drop for ConnIo {
    fn drop(&mut self) {
        if self.conn.reset.load(Ordering::Relaxed) {
            // Closing with a linger time of zero sends a reset.
            let _ = self.tcp.set_zero_linger();
        }
    }
}

impl AsyncRead for ConnIo {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.conn.closed.load(Ordering::Relaxed) {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.tcp).poll_read(cx, buf)
    }
}

impl AsyncWrite for ConnIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}
