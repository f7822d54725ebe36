//! Clients that send into connections which lay idle for seconds. Plain sockets: an SDK's own pool would replace a lost connection
//! before anyone saw that it was lost.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use futures::future::join_all;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
};

/// How long an answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// What a client does before it sends into a connection that was idle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Habit {
    /// Nothing: only a server that keeps the connection, or announced its end, loses no request.
    Blind,
    /// It looks whether the server has closed, as the pools of the SDKs do.
    Looks,
}

/// One client with one connection.
#[derive(Debug, Clone)]
pub(super) struct Client {
    pub(super) habit: Habit,
    /// Between an answer and the next request.
    pub(super) silence: Duration,
    /// How long after a request the same connection takes another one of a client that is blind, at the latest.
    pub(super) latest: Duration,
    pub(super) server: SocketAddr,
    /// A whole request.
    pub(super) request: Vec<u8>,
}

/// What clients saw.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// Requests sent.
    pub(super) requests: u64,
    /// Of them into a connection that was idle.
    pub(super) into_idle: u64,
    /// Answers that said `connection: close`.
    pub(super) announced: u64,
    /// Connections found closed by a client that looked.
    pub(super) found_closed: u64,
    /// Requests without a good answer, each with its reason.
    pub(super) failures: Vec<String>,
}

impl Seen {
    fn add(mut self, other: Self) -> Self {
        self.requests += other.requests;
        self.into_idle += other.into_idle;
        self.announced += other.announced;
        self.found_closed += other.found_closed;
        self.failures.extend(other.failures);
        self
    }

    /// Fails unless every request was answered.
    pub(super) fn all_served(&self) -> Result<()> {
        let Some(first) = self.failures.first() else { return Ok(()) };
        bail!("{} of {} requests on kept connections failed; the first: {first}", self.failures.len(), self.requests)
    }
}

/// Runs clients in the network of the calling thread until `stop` is true or its sender is gone.
pub(super) fn run(clients: Vec<Client>, stop: &watch::Receiver<bool>) -> Result<Seen> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let all = clients.into_iter().map(|client| client.run(stop.clone()));
    Ok(runtime.block_on(join_all(all)).into_iter().fold(Seen::default(), Seen::add))
}

/// An answer, and the connection if it can be used again.
struct Answered {
    kept: Option<TcpStream>,
}

impl Client {
    async fn run(self, mut stop: watch::Receiver<bool>) -> Seen {
        let mut seen = Seen::default();
        let mut kept: Option<TcpStream> = None;
        let mut idle_since = Instant::now();
        let mut sent = idle_since;
        loop {
            // What a busy machine kept from coming back in time says nothing of the server, for which the silence began with the request.
            if self.habit == Habit::Blind && sent.elapsed() > self.latest {
                kept = None;
            }
            if self.habit == Habit::Looks && kept.as_ref().is_some_and(was_closed) {
                kept = None;
                seen.found_closed += 1;
            }
            seen.requests += 1;
            seen.into_idle += u64::from(kept.is_some());
            let was = kept.as_ref().map_or_else(String::new, |_| idle_for(idle_since));
            sent = Instant::now();
            match tokio::time::timeout(ANSWER_LIMIT, self.exchange(kept.take())).await {
                Ok(Ok(answered)) => {
                    seen.announced += u64::from(answered.kept.is_none());
                    kept = answered.kept;
                }
                Ok(Err(error)) => seen.failures.push(format!("{error:#}{was}")),
                Err(_) => seen.failures.push(format!("no answer within {} s{was}", ANSWER_LIMIT.as_secs())),
            }
            idle_since = Instant::now();
            tokio::select! {
                () = tokio::time::sleep(self.silence) => {}
                _ = stop.wait_for(|stop| *stop) => return seen,
            }
        }
    }

    async fn exchange(&self, kept: Option<TcpStream>) -> Result<Answered> {
        let mut stream = match kept {
            Some(stream) => stream,
            None => TcpStream::connect(self.server).await.context("cannot connect")?,
        };
        stream.write_all(&self.request).await.context("cannot send")?;
        let closes = read_answer(&mut stream).await?;
        Ok(Answered { kept: (!closes).then_some(stream) })
    }
}

fn idle_for(since: Instant) -> String {
    format!(" (on a connection that was idle for {:.1} s)", since.elapsed().as_secs_f64())
}

/// Whether the server has ended the connection, or broken it.
fn was_closed(stream: &TcpStream) -> bool {
    match stream.try_read(&mut [0; 1]) {
        Ok(_) => true,
        Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
    }
}

/// Reads one answer to its end and says whether it announced the end of the connection.
async fn read_answer(stream: &mut TcpStream) -> Result<bool> {
    let mut bytes = Vec::new();
    loop {
        if let Some((head, body)) = split(&bytes) {
            let head = Head::parse(head)?;
            if body.len() >= head.length {
                ensure!(head.status == 200, "status {}: {}", head.status, String::from_utf8_lossy(body));
                return Ok(head.closes);
            }
        }
        let read = stream.read_buf(&mut bytes).await.context("the connection broke")?;
        ensure!(read > 0, "the connection was closed after {} bytes of the answer", bytes.len());
    }
}

fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    Some((&bytes[..at], &bytes[at + 4..]))
}

/// What counts of an answer's head.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    length: usize,
    closes: bool,
}

impl Head {
    fn parse(head: &[u8]) -> Result<Self> {
        let text = std::str::from_utf8(head).context("the answer's head is no text")?;
        let header = |name: &str| {
            let line = text.lines().find_map(|line| line.split_once(':').filter(|(n, _)| n.eq_ignore_ascii_case(name)));
            line.map(|(_, value)| value.trim())
        };
        let status = text.split_whitespace().nth(1).and_then(|status| status.parse().ok());
        let length = header("content-length").and_then(|length| length.parse().ok());
        Ok(Self {
            status: status.with_context(|| format!("no status in {text:?}"))?,
            length: length.with_context(|| format!("no content-length in {text:?}"))?,
            closes: header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn a_head_is_read() {
        let head = Head::parse(b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\nconnection: close").unwrap();
        assert_eq!(head, Head { status: 200, length: 12, closes: true });
        assert!(Head::parse(b"HTTP/1.1 200 OK\r\nx: y").is_err());
    }

    /// A server that answers the first request of a connection and ends it without a word. It counts connections.
    fn rude_server() -> (SocketAddr, watch::Receiver<u32>) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (count, accepted) = watch::channel(0);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let _ = stream.read(&mut [0; 64]).unwrap();
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
                count.send_modify(|count| *count += 1);
            }
        });
        (address, accepted)
    }

    #[tokio::test]
    async fn a_connection_that_ends_unannounced_costs_a_client_that_does_not_look_its_request() {
        for (habit, lost) in [(Habit::Blind, true), (Habit::Looks, false)] {
            let (server, mut accepted) = rude_server();
            let (stop, stopped) = watch::channel(false);
            // Longer than the server takes from an answer to the end of its connection, also on a busy machine.
            let silence = Duration::from_millis(500);
            let request = b"GET / HTTP/1.1\r\n\r\n".to_vec();
            let client = Client { habit, silence, latest: Duration::MAX, server, request };
            let running = tokio::spawn(client.run(stopped));
            accepted.wait_for(|connections| *connections == 2).await.unwrap();
            stop.send_replace(true);
            let seen = running.await.unwrap();
            assert_eq!((seen.all_served().is_err(), seen.found_closed == 0), (lost, lost), "{seen:?}");
        }
    }
}
