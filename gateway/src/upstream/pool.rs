//! Connections to the providers, kept by each runtime for itself: no lock, the warmest first.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tokio::task::AbortHandle;

use super::connect::{ConnectError, Connector, Destination};
use crate::http::OnwardBody;
use crate::snapshot::Endpoint;

/// A connection that was not used for this long is closed: a little before load balancers, which commonly wait a minute.
const MAX_IDLE: Duration = Duration::from_secs(55);
/// A connection that rested this long may have been closed by the other side without this runtime having looked.
const RESTED: Duration = Duration::from_secs(1);
/// A connection is not used again after this long, so that a vendor's new addresses are found.
const MAX_AGE: Duration = Duration::from_secs(600);

/// The idle connections of one runtime.
pub struct Pool {
    /// By the endpoint's id.
    idle: RefCell<Vec<Vec<Idle>>>,
    connector: Connector,
}

/// The task of a connection. It ends with whoever holds this: left alone, it would wait for a provider that neither reads nor closes.
struct Running(AbortHandle);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Idle {
    sender: SendRequest<OnwardBody>,
    task: Running,
    /// Also keeps the TLS configuration that the endpoint's id stands for.
    endpoint: Arc<Endpoint>,
    born: Instant,
    since: Instant,
}

/// A connection in use. Give it back once its answer was read to the end; dropped, it closes.
pub struct Lease {
    sender: SendRequest<OnwardBody>,
    task: Running,
    endpoint: Arc<Endpoint>,
    born: Instant,
}

/// Why a request got no answer.
pub enum SendError {
    /// It was not sent at all and can be sent again.
    NotSent(Box<Request<OnwardBody>>),
    /// It was sent, perhaps in part, and the answer did not come.
    Lost(hyper::Error),
}

impl Pool {
    /// An empty pool.
    pub fn new(connector: Connector) -> Rc<Self> {
        Rc::new(Self { idle: RefCell::default(), connector })
    }

    /// The connection that was used last, if one is idle and alive.
    pub fn checkout(&self, endpoint: &Arc<Endpoint>) -> Option<Lease> {
        let mut idle = self.idle.borrow_mut();
        let connections = idle.get_mut(endpoint.id)?;
        let mut at = connections.len();
        while at > 0 {
            at -= 1;
            let candidate = &connections[at];
            if candidate.sender.is_closed()
                || candidate.since.elapsed() > MAX_IDLE
                || candidate.born.elapsed() > MAX_AGE
            {
                connections.remove(at);
            } else if candidate.sender.is_ready() {
                let Idle { sender, task, endpoint, born, .. } = connections.remove(at);
                return Some(Lease { sender, task, endpoint, born });
            }
            // Else its task has not yet seen the end of the last answer: the next one is tried.
        }
        None
    }

    /// Whether the connection that [`Pool::checkout`] would give rested so long that the runtime should look at its socket first.
    pub fn has_rested(&self, endpoint: &Endpoint) -> bool {
        let idle = self.idle.borrow();
        idle.get(endpoint.id)
            .and_then(|connections| connections.last())
            .is_some_and(|last| last.since.elapsed() > RESTED)
    }

    /// Makes a connection.
    pub async fn connect(&self, endpoint: &Arc<Endpoint>, timeout: Duration) -> Result<Lease, ConnectError> {
        let base = &endpoint.base;
        let to = Destination { host: &base.host, port: base.port, tls: endpoint.tls.as_ref() };
        let stream = self.connector.connect(to, timeout).await?;
        if let Some(limit) = endpoint.unacknowledged {
            // Without it the system waits longer, as it does for every other connection.
            let _ = SockRef::from(stream.tcp()).set_tcp_user_timeout(Some(limit));
        }
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| ConnectError::Io {
            host: base.host.as_str().into(),
            port: base.port,
            source: std::io::Error::other(error),
        })?;
        let task = tokio::task::spawn_local(async move {
            // Its faults reach the request that is on it; an idle connection's end is no fault.
            let _ = connection.await;
        });
        Ok(Lease { sender, task: Running(task.abort_handle()), endpoint: endpoint.clone(), born: Instant::now() })
    }

    /// Takes a connection back for the next request.
    pub fn give_back(&self, lease: Lease) {
        if lease.sender.is_closed() {
            return;
        }
        let mut idle = self.idle.borrow_mut();
        let Lease { sender, task, endpoint, born } = lease;
        let id = endpoint.id;
        if idle.len() <= id {
            idle.resize_with(id + 1, Vec::new);
        }
        idle[id].push(Idle { sender, task, endpoint, born, since: Instant::now() });
    }

    /// Closes what is too old, of providers that are gone too. Called now and then.
    pub fn sweep(&self) {
        for connections in self.idle.borrow_mut().iter_mut() {
            connections
                .retain(|c| !c.sender.is_closed() && c.since.elapsed() <= MAX_IDLE && c.born.elapsed() <= MAX_AGE);
        }
    }
}

impl Lease {
    /// Sends a request and waits for the answer's head. Dropped while waiting, it closes the connection.
    pub async fn send(&mut self, request: Request<OnwardBody>) -> Result<Response<Incoming>, SendError> {
        self.sender.try_send_request(request).await.map_err(|mut error| match error.take_message() {
            Some(request) => SendError::NotSent(Box::new(request)),
            None => SendError::Lost(error.into_error()),
        })
    }
}
