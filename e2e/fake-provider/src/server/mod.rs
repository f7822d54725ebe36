//! Listeners and their life: start, accept, drain.

mod conn;
mod tls;

use std::{io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

pub(crate) use conn::Conn;
use conn::ConnIo;

use crate::{config::Config, control, handle::handle, shared::Shared};

const HANDSHAKE: Duration = Duration::from_secs(10);

/// Why the fake provider did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A port is taken or not allowed.
    #[error("cannot listen on {addr}: {source}")]
    Listen {
        /// Where.
        addr: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Certificate or key cannot be used.
    #[error("cannot use the certificate: {0}")]
    Tls(String),
    /// An HTTPS port without certificate files.
    #[error("an HTTPS port needs a certificate and a key")]
    NoCertificate,
    /// Neither an HTTPS nor an HTTP port.
    #[error("no port to serve the vendors on")]
    NoPort,
}

/// A fake provider that serves; [`Running::stop`] ends it, dropping it too, but at once.
#[derive(Debug)]
pub struct Running {
    /// Where HTTPS vendor traffic is served.
    pub https: Option<SocketAddr>,
    /// Where plain vendor traffic is served.
    pub http: Option<SocketAddr>,
    /// Where the control API is served.
    pub control: SocketAddr,
    stop: watch::Sender<bool>,
    /// Ends when the last connection has.
    ended: mpsc::Receiver<()>,
    tasks: Vec<JoinHandle<()>>,
    drain: Duration,
}

impl Running {
    /// Stops accepting, lets open requests end within the drain time, and returns.
    pub async fn stop(mut self) {
        let _ = self.stop.send(true);
        let _ = tokio::time::timeout(self.drain, self.ended.recv()).await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Starts all listeners on the current runtime; when this returns, they accept.
pub async fn start(config: Config) -> Result<Running, StartError> {
    let shared = Arc::new(Shared::new(&config));
    let (stop, stopped) = watch::channel(false);
    let (alive, ended) = mpsc::channel(1);
    let server = Server { shared: Arc::clone(&shared), stopped, _alive: alive };

    let tls = match (&config.tls, config.https_port) {
        (Some(files), Some(_)) => Some(TlsAcceptor::from(tls::server_config(files)?)),
        (None, Some(_)) => return Err(StartError::NoCertificate),
        (_, None) => None,
    };
    if config.https_port.is_none() && config.http_port.is_none() {
        return Err(StartError::NoPort);
    }
    let listen = async |port: Option<u16>| match port {
        Some(port) => bind(SocketAddr::new(config.bind, port)).await.map(Some),
        None => Ok(None),
    };
    let (https, http) = (listen(config.https_port).await?, listen(config.http_port).await?);
    let control = bind(SocketAddr::new(config.bind, config.control_port)).await?;

    let addrs =
        (addr(https.as_ref()), addr(http.as_ref()), addr(Some(&control)).unwrap_or_else(|| unspecified(&config)));
    let mut tasks = vec![tokio::spawn(control::serve(control, shared, server.stopped.clone()))];
    tasks.extend(https.map(|l| tokio::spawn(server.clone().accept(l, tls))));
    tasks.extend(http.map(|l| tokio::spawn(server.accept(l, None))));
    Ok(Running { https: addrs.0, http: addrs.1, control: addrs.2, stop, ended, tasks, drain: config.drain })
}

fn addr(listener: Option<&TcpListener>) -> Option<SocketAddr> {
    listener.and_then(|l| l.local_addr().ok())
}

fn unspecified(config: &Config) -> SocketAddr {
    SocketAddr::new(config.bind, config.control_port)
}

async fn bind(addr: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(addr).await.map_err(|source| StartError::Listen { addr, source })
}

#[derive(Clone)]
struct Server {
    shared: Arc<Shared>,
    stopped: watch::Receiver<bool>,
    /// Held by every connection.
    _alive: mpsc::Sender<()>,
}

impl Server {
    async fn accept(mut self, listener: TcpListener, tls: Option<TlsAcceptor>) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = self.stopped.wait_for(|stop| *stop) => return,
            };
            match accepted {
                Ok((tcp, _)) => drop(tokio::spawn(self.clone().connection(tcp, tls.clone()))),
                // Out of file descriptors; some will be given back.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    async fn connection(self, tcp: TcpStream, tls: Option<TlsAcceptor>) {
        // Without it small events wait for the acknowledgement of the one before.
        let _ = tcp.set_nodelay(true);
        let conn = Conn::new();
        let io = ConnIo::new(tcp, Arc::clone(&conn));
        let Some(tls) = tls else { return self.serve(io, conn).await };
        let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, tls.accept(io)).await else { return };
        conn.set_sni(stream.get_ref().1.server_name());
        self.serve(stream, conn).await;
    }

    async fn serve(mut self, io: impl AsyncRead + AsyncWrite + Unpin, conn: Arc<Conn>) {
        let shared = Arc::clone(&self.shared);
        let service = service_fn(move |request| handle(Arc::clone(&shared), Arc::clone(&conn), request));
        let connection = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(io), service);
        let mut connection = pin!(connection);
        // How a connection ends is the client's business or was scripted.
        tokio::select! {
            _ = connection.as_mut() => return,
            _ = self.stopped.wait_for(|stop| *stop) => connection.as_mut().graceful_shutdown(),
        }
        let _ = connection.await;
    }
}
