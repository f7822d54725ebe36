//! Happy eyeballs (RFC 8305): addresses of both families in turn, the next one started after a head start or a failure.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::sleep;

/// How long an address is tried alone before the next joins it.
const HEAD_START: Duration = Duration::from_millis(250);

/// Silence after which a connection is probed, and the time between probes: found dead after a minute, and kept alive in the
/// tables of load balancers and NAT on the way.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBES: u32 = 3;

/// The addresses in turn by family, beginning with the family that the resolver put first.
///
/// IPv4 addresses are rotated by `seed`, so that a name with many does not send every connection to one. IPv6 addresses keep the
/// resolver's order, which puts those without a route last.
pub(super) fn order(addresses: &[IpAddr], port: u16, seed: usize) -> Vec<SocketAddr> {
    let (mut v4, v6): (Vec<IpAddr>, Vec<IpAddr>) = addresses.iter().partition(|address| address.is_ipv4());
    if !v4.is_empty() {
        let by = seed % v4.len();
        v4.rotate_left(by);
    }
    let v6_first = addresses.first().is_some_and(IpAddr::is_ipv6);
    let (first, second) = if v6_first { (v6, v4) } else { (v4, v6) };
    let mut ordered = Vec::with_capacity(addresses.len());
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    loop {
        let pair = [first.next(), second.next()];
        if pair == [None, None] {
            return ordered;
        }
        ordered.extend(pair.into_iter().flatten().map(|ip| SocketAddr::new(ip, port)));
    }
}

/// The first connection that opens; the error of the first address that failed when none does.
pub(super) async fn connect(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut rest = addresses.iter().copied();
    let mut attempts = FuturesUnordered::new();
    let mut first_error = None;
    attempts.extend(rest.next().map(connect_one));
    loop {
        let head_start = async {
            if rest.len() == 0 {
                std::future::pending::<()>().await;
            }
            sleep(HEAD_START).await;
        };
        let outcome = tokio::select! {
            biased;
            outcome = attempts.next() => outcome,
            () = head_start => {
                attempts.extend(rest.next().map(connect_one));
                continue;
            }
        };
        match outcome {
            Some(Ok(stream)) => return Ok(stream),
            Some(Err(error)) => {
                first_error.get_or_insert(error);
                attempts.extend(rest.next().map(connect_one));
            }
            // Nothing under way and, as every failure starts the next, nothing left.
            None => {
                return Err(first_error.unwrap_or_else(|| io::Error::from(io::ErrorKind::AddrNotAvailable)));
            }
        }
    }
}

async fn connect_one(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_nodelay(true)?;
    let keepalive =
        TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL).with_retries(KEEPALIVE_PROBES);
    SockRef::from(&socket).set_tcp_keepalive(&keepalive)?;
    socket.connect(address).await
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;
    use tokio::time::Instant;

    use super::*;

    fn ordered(addresses: &[&str], seed: usize) -> Vec<String> {
        let addresses: Vec<IpAddr> = addresses.iter().map(|text| text.parse().unwrap()).collect();
        order(&addresses, 1, seed).iter().map(|address| address.ip().to_string()).collect()
    }

    #[test]
    fn families_take_turns_from_the_one_the_resolver_prefers() {
        let addresses = ["fd00::1", "fd00::2", "fd00::3", "10.0.0.1"];
        assert_eq!(ordered(&addresses, 0), ["fd00::1", "10.0.0.1", "fd00::2", "fd00::3"]);
        let addresses = ["10.0.0.1", "fd00::1", "fd00::2"];
        assert_eq!(ordered(&addresses, 7), ["10.0.0.1", "fd00::1", "fd00::2"]);
        assert!(ordered(&[], 3).is_empty());
    }

    #[test]
    fn ipv4_addresses_are_spread_and_ipv6_keep_their_order() {
        let addresses = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "fd00::1", "fd00::2"];
        assert_eq!(ordered(&addresses, 4), ["10.0.0.2", "fd00::1", "10.0.0.3", "fd00::2", "10.0.0.1"]);
    }

    /// A port of 127.0.0.1 that is open and closed everywhere else.
    async fn listener() -> (TcpListener, u16) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, port)
    }

    #[tokio::test]
    async fn a_closed_address_is_followed_by_the_next_at_once() {
        let (_listener, port) = listener().await;
        let mut addresses = vec![SocketAddr::new("::1".parse().unwrap(), port)];
        addresses.extend((0..20).rev().map(|last| SocketAddr::new([127, 0, 0, last + 1].into(), port)));
        let start = Instant::now();
        let stream = connect(&addresses).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), addresses[20]);
        assert!(start.elapsed() < HEAD_START * 10, "twenty head starts were not waited for");
    }

    #[tokio::test]
    async fn connections_have_nodelay_and_keepalive() {
        let (_listener, port) = listener().await;
        let stream = connect(&[SocketAddr::new("127.0.0.1".parse().unwrap(), port)]).await.unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE_IDLE);
    }

    #[tokio::test]
    async fn without_any_open_address_the_first_error_is_told() {
        let (listener, port) = listener().await;
        drop(listener);
        let addresses = ["127.0.0.1", "127.0.0.2"].map(|ip| SocketAddr::new(ip.parse().unwrap(), port));
        assert_eq!(connect(&addresses).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(connect(&[]).await.unwrap_err().kind(), io::ErrorKind::AddrNotAvailable);
    }

    /// A listener with a queue of one that is full: the next connection gets no answer, as behind a firewall that drops.
    async fn silent() -> (TcpListener, Vec<TcpStream>, SocketAddr) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let mut fill = Vec::new();
        while let Ok(Ok(stream)) = tokio::time::timeout(Duration::from_millis(100), TcpStream::connect(address)).await {
            fill.push(stream);
        }
        (listener, fill, address)
    }

    #[tokio::test]
    async fn a_silent_address_is_joined_by_the_next_after_the_head_start() {
        let (_full, _fill, silent) = silent().await;
        let (_listener, port) = listener().await;
        let open = SocketAddr::new("127.0.0.1".parse().unwrap(), port);
        let start = Instant::now();
        let stream = connect(&[silent, open]).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), open);
        assert!(start.elapsed() >= HEAD_START);
    }
}
