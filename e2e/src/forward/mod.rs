//! Ports of the cluster on 127.0.0.1 of the machine, so that a user's own kubectl, curl, browser and SDKs reach it.
//!
//! A listener belongs to the network namespace it was opened in, whichever thread uses it. So listeners are opened
//! first, then the thread moves into the cluster's namespace for good, and every connection it opens from there on is
//! opened inside.

mod services;

use std::{
    fmt, io,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    str::FromStr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpStream};

use self::services::ServiceAddress;
use crate::cluster::{netns::Namespace, network};

/// How long one try to connect may take: inside one machine it takes less than a millisecond.
const ATTEMPT_LIMIT: Duration = Duration::from_millis(300);
/// How long a connection into the cluster may take, all tries together.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// Buffer for each direction of a connection, in bytes.
const BUFFER: usize = 64 * 1024;

/// What a forwarded port leads to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Destination {
    /// The API server.
    ApiServer,
    /// A port of a Service. It may come later, go, and come back with another address.
    Service {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// The Service's port.
        port: u16,
    },
}

impl Destination {
    /// A Service's port.
    pub fn service(namespace: &str, name: &str, port: u16) -> Self {
        Self::Service { namespace: namespace.into(), name: name.into(), port }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ApiServer => f.write_str("api"),
            Self::Service { namespace, name, port } => write!(f, "{namespace}/{name}:{port}"),
        }
    }
}

impl FromStr for Destination {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        if text == "api" {
            return Ok(Self::ApiServer);
        }
        let parse = || {
            let (namespace, rest) = text.split_once('/')?;
            let (name, port) = rest.split_once(':')?;
            let given = !namespace.is_empty() && !name.is_empty();
            given.then_some(Self::service(namespace, name, port.parse().ok()?))
        };
        parse().with_context(|| format!("{text:?} is neither `api` nor `namespace/service:port`"))
    }
}

impl From<Destination> for String {
    fn from(destination: Destination) -> Self {
        destination.to_string()
    }
}

impl TryFrom<String> for Destination {
    type Error = anyhow::Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

/// A port of 127.0.0.1 and where it leads; port 0 means any free one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forward {
    /// The port on 127.0.0.1.
    pub port: u16,
    /// Where it leads.
    pub to: Destination,
}

impl FromStr for Forward {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (port, to) = text.split_once('=').with_context(|| format!("{text:?} is not `port=destination`"))?;
        Ok(Self { port: port.parse().with_context(|| format!("{port:?} is no port"))?, to: to.parse()? })
    }
}

impl fmt::Display for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.port, self.to)
    }
}

/// Open listeners outside that were not yet served.
#[derive(Debug)]
pub struct Listeners {
    listeners: Vec<(std::net::TcpListener, Destination)>,
}

impl Listeners {
    /// Opens the ports, where this thread is: outside.
    pub fn open(forwards: &[Forward]) -> Result<Self> {
        let open = |forward: &Forward| {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, forward.port));
            let listener = std::net::TcpListener::bind(address)
                .with_context(|| format!("cannot listen on {address} for {}; is it in use?", forward.to))?;
            listener.set_nonblocking(true).context("cannot make the listener non-blocking")?;
            Ok((listener, forward.to.clone()))
        };
        Ok(Self { listeners: forwards.iter().map(open).collect::<Result<_>>()? })
    }

    /// The ports that were opened.
    pub fn forwards(&self) -> Result<Vec<Forward>> {
        let forward = |(listener, to): &(std::net::TcpListener, Destination)| {
            let address = listener.local_addr().context("a listener without an address")?;
            Ok(Forward { port: address.port(), to: to.clone() })
        };
        self.listeners.iter().map(forward).collect()
    }

    /// Moves this thread into the namespace and serves until `stop` is ready.
    pub fn serve(self, namespace: &Namespace, kubeconfig: PathBuf, stop: impl Future<Output = ()>) -> Result<()> {
        namespace.enter()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.context("cannot start a runtime")?;
        runtime.block_on(async {
            for (listener, to) in self.listeners {
                let listener = TcpListener::from_std(listener).context("cannot use the listener")?;
                let upstream = Upstream::follow(to, kubeconfig.clone());
                tokio::spawn(accept(listener, upstream));
            }
            stop.await;
            Ok(())
        })
    }
}

/// Forwards that end when this is dropped.
#[derive(Debug)]
pub struct Serving {
    address: SocketAddr,
    _stop: tokio::sync::oneshot::Sender<()>,
}

impl Serving {
    /// Forwards one free port of 127.0.0.1, from a thread of its own.
    pub fn start(to: Destination, namespace: Namespace, kubeconfig: PathBuf) -> Result<Self> {
        let listeners = Listeners::open(&[Forward { port: 0, to }])?;
        let port = listeners.forwards()?.first().map(|forward| forward.port).context("no listener")?;
        let (stop, stopped) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let stopped = async { drop(stopped.await) };
            if let Err(error) = listeners.serve(&namespace, kubeconfig, stopped) {
                crate::progress::line(&format!("a forwarded port ended: {error:#}"));
            }
        });
        Ok(Self { address: (Ipv4Addr::LOCALHOST, port).into(), _stop: stop })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Finds the address of a destination at the moment of a connection.
struct Upstream {
    to: Destination,
    address: Address,
}

enum Address {
    Fixed(SocketAddr),
    Service { address: ServiceAddress, port: u16 },
}

impl Upstream {
    fn follow(to: Destination, kubeconfig: PathBuf) -> Self {
        let address = match &to {
            Destination::ApiServer => Address::Fixed((Ipv4Addr::LOCALHOST, network::API_PORT).into()),
            Destination::Service { namespace, name, port } => {
                let address = ServiceAddress::follow(kubeconfig, namespace.clone(), name.clone());
                Address::Service { address, port: *port }
            }
        };
        Self { to, address }
    }

    /// Connects, again and again while there is no way to the address: a Service that was just created is known before
    /// kube-proxy has its rules. A refusal is an answer: the Service has no pods that are ready.
    async fn connect(&self) -> Result<TcpStream> {
        let started = Instant::now();
        loop {
            let attempt = tokio::time::timeout(ATTEMPT_LIMIT, TcpStream::connect(self.address().await?)).await;
            let error = match attempt {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) if error.kind() != io::ErrorKind::HostUnreachable => return Err(error.into()),
                Ok(Err(error)) => error,
                Err(elapsed) => elapsed.into(),
            };
            if started.elapsed() > CONNECT_LIMIT {
                return Err(error.into());
            }
        }
    }

    async fn address(&self) -> Result<SocketAddr> {
        match &self.address {
            Address::Fixed(address) => Ok(*address),
            Address::Service { address, port } => {
                let address = tokio::time::timeout(CONNECT_LIMIT, address.get()).await;
                Ok((address.context("there is no such Service")??, *port).into())
            }
        }
    }
}

async fn accept(listener: TcpListener, upstream: Upstream) {
    let upstream = std::sync::Arc::new(upstream);
    loop {
        match listener.accept().await {
            Ok((client, _)) => {
                let upstream = std::sync::Arc::clone(&upstream);
                tokio::spawn(async move {
                    if let Err(error) = relay(client, &upstream).await {
                        crate::progress::line(&format!("a forwarded connection failed: {error:#}"));
                    }
                });
            }
            Err(error) => {
                // Out of file descriptors, most likely: connections that end free some.
                crate::progress::line(&format!("cannot accept a connection: {error}"));
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn relay(mut client: TcpStream, upstream: &Upstream) -> Result<()> {
    let mut server = upstream.connect().await.with_context(|| format!("cannot connect to {}", upstream.to))?;
    client.set_nodelay(true).context("cannot set TCP_NODELAY")?;
    server.set_nodelay(true).context("cannot set TCP_NODELAY")?;
    // How a connection ends is between its two ends.
    let _ = tokio::io::copy_bidirectional_with_sizes(&mut client, &mut server, BUFFER, BUFFER).await;
    Ok(())
}

/// Refuses forwards that name one port twice.
pub fn check(forwards: &[Forward]) -> Result<()> {
    for (index, forward) in forwards.iter().enumerate() {
        if forward.port != 0 && forwards[..index].iter().any(|other| other.port == forward.port) {
            bail!("port {} is forwarded twice", forward.port);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_read_as_they_are_written() {
        for text in ["api", "llm/ai:8080"] {
            assert_eq!(text.parse::<Destination>().unwrap().to_string(), text);
        }
        for text in ["", "ai", "llm/ai", "llm/ai:x", "/ai:1", "llm/:1"] {
            assert!(text.parse::<Destination>().is_err(), "{text}");
        }
        let forward: Forward = "18080=llm/ai:8080".parse().unwrap();
        assert_eq!(forward, Forward { port: 18080, to: Destination::service("llm", "ai", 8080) });
    }

    #[test]
    fn a_free_port_is_chosen_and_reported() {
        let listeners = Listeners::open(&[Forward { port: 0, to: Destination::ApiServer }]).unwrap();
        assert_ne!(listeners.forwards().unwrap()[0].port, 0);
    }
}
