//! Opens connections to providers: name → addresses → the first that answers → TLS.

mod race;
mod stream;

use std::cell::Cell;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::address::{AddressRule, allowed};
use super::resolve::{ResolveError, Resolver};
pub use stream::Stream;

/// Where to connect to.
#[derive(Clone, Copy)]
pub struct Destination<'a> {
    /// Lower-case name or literal address (IPv6 without brackets); with TLS also the name that the certificate must be for.
    pub host: &'a str,
    /// TCP port.
    pub port: u16,
    /// Speak TLS, trusting these roots.
    pub tls: Option<&'a Arc<ClientConfig>>,
}

/// How far an attempt had come when its time was over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Looking the name up.
    Resolve,
    /// Waiting for the provider to accept a TCP connection.
    Tcp,
    /// In the TLS handshake.
    Tls,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Resolve => "looking the name up",
            Self::Tcp => "opening the TCP connection",
            Self::Tls => "in the TLS handshake",
        })
    }
}

/// What a failed attempt means to the caller. One table maps it to status, code and label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConnectClass {
    /// The name has no address.
    Resolve,
    /// Nobody accepts connections there.
    Unreachable,
    /// No connection in time: 504, the rest is 502.
    Timeout,
    /// The handshake failed, or the certificate is not trusted.
    Tls,
    /// The configuration names a place where no provider may be.
    NotAllowed,
}

/// Why there is no connection. The messages name host and port and hold no secret: they may be shown to clients.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The name has no address.
    #[error("cannot resolve {0}")]
    Resolve(#[from] ResolveError),
    /// All addresses of the name are refused by the [`AddressRule`].
    #[error("{host}:{port} leads to {address}: loopback and link-local addresses are not allowed for a provider")]
    AddressNotAllowed {
        /// The provider's host.
        host: Box<str>,
        /// The provider's port.
        port: u16,
        /// The first address refused.
        address: IpAddr,
    },
    /// No address accepts connections; the source is of the first that failed.
    #[error("cannot connect to {host}:{port}: {source}")]
    Io {
        /// The provider's host.
        host: Box<str>,
        /// The provider's port.
        port: u16,
        /// The system's error.
        source: io::Error,
    },
    /// The time for the whole of it was over.
    #[error("no connection to {host}:{port} within {} s: still {stage}", .limit.as_secs_f64())]
    Timeout {
        /// The provider's host.
        host: Box<str>,
        /// The provider's port.
        port: u16,
        /// The time it had.
        limit: Duration,
        /// How far it came.
        stage: Stage,
    },
    /// The handshake failed.
    #[error("TLS with {host}:{port} failed: {reason}")]
    Tls {
        /// The provider's host.
        host: Box<str>,
        /// The provider's port.
        port: u16,
        /// What is wrong, with what to do where that is known.
        reason: Box<str>,
    },
}

impl ConnectError {
    /// What it means to the caller.
    pub fn class(&self) -> ConnectClass {
        match self {
            Self::Resolve(_) => ConnectClass::Resolve,
            Self::AddressNotAllowed { .. } => ConnectClass::NotAllowed,
            Self::Io { source, .. } if source.kind() == io::ErrorKind::TimedOut => ConnectClass::Timeout,
            Self::Io { .. } => ConnectClass::Unreachable,
            Self::Timeout { .. } => ConnectClass::Timeout,
            Self::Tls { .. } => ConnectClass::Tls,
        }
    }
}

/// Opens connections. Clones share the resolver's cache.
#[derive(Clone)]
pub struct Connector {
    resolver: Resolver,
    addresses: AddressRule,
}

impl Connector {
    /// A connector that keeps to `addresses`.
    pub fn new(resolver: Resolver, addresses: AddressRule) -> Self {
        Self { resolver, addresses }
    }

    /// A connection ready for the first request, within `limit` for look-up, TCP and TLS together.
    pub async fn connect(&self, to: Destination<'_>, limit: Duration) -> Result<Stream, ConnectError> {
        let stage = Cell::new(Stage::Resolve);
        // Boxed: a handshake's state is large, and every request would carry room for it.
        match timeout(limit, Box::pin(self.attempt(to, &stage))).await {
            Ok(outcome) => outcome,
            Err(_) => Err(ConnectError::Timeout { host: to.host.into(), port: to.port, limit, stage: stage.get() }),
        }
    }

    /// A TCP connection alone, without a limit; also for tasks that go from thread to thread.
    pub async fn connect_tcp(&self, to: Destination<'_>) -> Result<TcpStream, ConnectError> {
        open(to, &self.allowed_addresses(to).await?).await
    }

    async fn attempt(&self, to: Destination<'_>, stage: &Cell<Stage>) -> Result<Stream, ConnectError> {
        let addresses = self.allowed_addresses(to).await?;
        stage.set(Stage::Tcp);
        let tcp = open(to, &addresses).await?;
        let Some(config) = to.tls else { return Ok(Stream::Plain(tcp)) };
        stage.set(Stage::Tls);
        handshake(tcp, to, config).await
    }

    /// The addresses in the order in which they are tried; those that are refused are left out.
    async fn allowed_addresses(&self, to: Destination<'_>) -> Result<Vec<SocketAddr>, ConnectError> {
        let found = self.resolver.resolve(to.host).await?;
        let passed: Vec<IpAddr> = found.iter().copied().filter(|address| allowed(*address, self.addresses)).collect();
        match (passed.is_empty(), found.first()) {
            (true, Some(first)) => {
                Err(ConnectError::AddressNotAllowed { host: to.host.into(), port: to.port, address: *first })
            }
            _ => Ok(race::order(&passed, to.port, fastrand::usize(..))),
        }
    }
}

async fn open(to: Destination<'_>, addresses: &[SocketAddr]) -> Result<TcpStream, ConnectError> {
    let failed = |source| ConnectError::Io { host: to.host.into(), port: to.port, source };
    race::connect(addresses).await.map_err(failed)
}

async fn handshake(tcp: TcpStream, to: Destination<'_>, config: &Arc<ClientConfig>) -> Result<Stream, ConnectError> {
    let failed = |reason: String| ConnectError::Tls { host: to.host.into(), port: to.port, reason: reason.into() };
    let name = ServerName::try_from(to.host.trim_end_matches('.').to_owned())
        .map_err(|_| failed("the host is no name that a certificate can be for".to_owned()))?;
    let stream =
        TlsConnector::from(Arc::clone(config)).connect(name, tcp).await.map_err(|error| failed(explain(&error)))?;
    Ok(Stream::Tls(Box::new(stream)))
}

/// The library's words, with what to do for the mistakes that people make.
fn explain(error: &io::Error) -> String {
    use rustls::{CertificateError, Error};
    let cause = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match cause {
        Some(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            "its certificate is signed by an authority that is not trusted here (a private one is added with a CA bundle or \
             SSL_CERT_FILE)"
                .to_owned()
        }
        Some(Error::InvalidCertificate(reason)) => format!("its certificate is refused: {reason}"),
        Some(Error::InvalidMessage(_)) => format!("the answer is no TLS (should the base URL begin with http://?): {error}"),
        _ if error.kind() == io::ErrorKind::UnexpectedEof => "it closed the connection in the handshake".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests;
