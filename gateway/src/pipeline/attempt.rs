//! Attempt: one call of the provider, on a kept or a new connection, within its time limits.

use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use http::uri::PathAndQuery;
use http::{HeaderValue, Method, StatusCode, Uri, header};
use hyper::body::{Body, Incoming};
use hyper::{Request, Response};

use super::admit::too_large;
use super::decode::{Plan, Reading, RequestBody};
use super::record::Ledger;
use super::{Arm, Inbound};
use crate::deadline::Deadline;
use crate::front::error::{Fault, GatewayError};
use crate::http::{Head, LastBytes, OnwardBody, StreamFault, UploadFault, UploadWatch, without_key};
use crate::server::Shard;
use crate::server::drain::Stage;
use crate::server::shard::LocalSnapshot;
use crate::shadow::pending::Pending;
use crate::snapshot::{Endpoint, Snapshot, Upstream};
use crate::upstream::connect::{ConnectClass, ConnectError};
use crate::upstream::pool::{Lease, Pool, SendError};

/// How often a request that was not sent is sent again: kept connections may all have died at once.
const MAX_DIALS: u32 = 3;

/// A provider's answer, its body not read yet.
pub struct Answer {
    /// Head and body.
    pub response: Response<Incoming>,
    /// The connection it comes on.
    pub lease: Lease,
    /// The deadline of what follows.
    pub deadline: Deadline,
    /// When a plain answer must be over.
    pub due: Instant,
    /// Silence that ends a stream.
    pub stream_idle: Duration,
    /// How it is read while it passes.
    pub reading: Reading,
    /// What is kept for a copy on the other arm.
    pub shadow: Option<Box<Pending>>,
}

/// Calls the provider.
pub async fn attempt(
    shard: &Rc<Shard>,
    inbound: Inbound<'_>,
    body: RequestBody,
    mut plan: Plan,
    snapshot: LocalSnapshot,
    deadline: Deadline,
    ledger: &mut Ledger,
) -> Result<Answer, GatewayError> {
    let upstream = &snapshot.upstreams[plan.upstream];
    let (request, upload) = outbound(shard, inbound, body, &mut plan, &snapshot, ledger.method(), || ledger.uploads())?;
    ledger.key(plan.key);
    ledger.adds_usage(plan.reading.drop_usage_chunk);
    let network = &upstream.network;
    let whole = Duration::from_millis(network.request_timeout_ms);
    let first_byte = Duration::from_millis(network.first_byte_timeout_ms);
    let wait = match (plan.stream, upload.is_some()) {
        (true, _) => first_byte,
        (false, true) => whole,
        (false, false) => first_byte.min(whole),
    };
    let sent = ledger.sending();
    deadline.extend(wait);
    let exchange = exchange(&shard.pool, &upstream.endpoint, upstream.network.connect_timeout(), request);
    let (response, lease) = match race(shard, &deadline, exchange).await {
        Raced::Done(Ok(done)) => done,
        Raced::Done(Err(failure)) => {
            return Err(failure.into_error(upstream, &snapshot, upload.and_then(|fault| fault.get())));
        }
        Raced::Late => {
            return Err(GatewayError::new(
                Fault::UpstreamTimeout,
                format!("provider {:?} sent no answer within {} s", &*upstream.name, wait.as_secs_f64()),
            ));
        }
        Raced::Cutoff => return Err(shutting_down()),
    };
    if let Some(key) = plan.key
        && is_verdict_on_the_key(response.status())
    {
        ledger.upstream_answered();
        return Err(rejected(shard, upstream, &upstream.keys[key].name, &response));
    }
    let stream_idle = Duration::from_millis(network.stream_idle_timeout_ms);
    // A streaming request may have waited longer than a plain call may take; an answer that is no stream has its own time then.
    let due = if plan.stream { Instant::now() } else { sent } + whole;
    Ok(Answer { response, lease, deadline, due, stream_idle, reading: plan.reading, shadow: None })
}

/// Whether a status says something of the pool's key, which is no affair of the caller's.
fn is_verdict_on_the_key(status: StatusCode) -> bool {
    matches!(status, StatusCode::UNAUTHORIZED | StatusCode::PAYMENT_REQUIRED | StatusCode::FORBIDDEN)
}

/// What the caller is told in place of the vendor's text, which may show of the key or its account.
fn rejected(shard: &Shard, upstream: &Upstream, key: &str, response: &Response<Incoming>) -> GatewayError {
    let (provider, status) = (&*upstream.name, response.status().as_u16());
    if shard.may_complain(key) {
        tracing::warn!(provider, key, status, "the provider refused a pool key");
    }
    let id = ["x-request-id", "request-id"].into_iter().find_map(|name| response.headers().get(name)?.to_str().ok());
    let id = id.map(|id| format!(" (its request id: {})", &id[..id.floor_char_boundary(100)])).unwrap_or_default();
    let message = format!(
        "provider {provider:?} refused the gateway's key {key:?} with status {status}{id}: the key must be mended or replaced"
    );
    GatewayError::new(Fault::CredentialsRejected, message)
}

/// Builds the request to the vendor. With a body that is streamed comes where its fault will be noted; `uploads` gives where it is
/// noted when its last bytes came.
pub(crate) fn outbound(
    shard: &Shard,
    inbound: Inbound<'_>,
    body: RequestBody,
    plan: &mut Plan,
    snapshot: &Snapshot,
    method: Method,
    uploads: impl FnOnce() -> LastBytes,
) -> Result<(Request<OnwardBody>, Option<UploadFault>), GatewayError> {
    let Inbound { route, query, mut head, .. } = inbound;
    let upstream = &snapshot.upstreams[plan.upstream];
    let uri = uri(upstream, route.rest, query, plan.arm)?;
    head.towards_vendor(plan.arm, upstream.vendor);
    head.set(header::HOST, upstream.endpoint.authority.clone());
    if let Some(key) = plan.key {
        let (name, value) = &upstream.keys[key].header;
        head.set(name.clone(), value.clone());
    }
    let mut upload = None;
    let body = match body {
        RequestBody::Whole(bytes) => OnwardBody::whole(plan.rewritten.take().unwrap_or_else(|| {
            let parts = Some(bytes).filter(|bytes| !bytes.is_empty());
            parts.into_iter().collect()
        })),
        RequestBody::Stream(body) => {
            let watch = UploadWatch {
                fault: upload.insert(UploadFault::default()).clone(),
                stall: shard.deadlines.idle(),
                last_bytes: uploads(),
            };
            OnwardBody::stream(body, snapshot.max_request_body(), watch)
        }
    };
    say_no_body(&mut head, &method, &body);
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    *request.headers_mut() = head.into_map();
    Ok((request, upload))
}

/// Says the length of nothing where a method has a body as a rule: some servers insist.
pub(super) fn say_no_body(head: &mut Head, method: &Method, body: &OnwardBody) {
    if body.is_end_stream() && matches!(*method, Method::POST | Method::PUT | Method::PATCH) {
        head.set(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
}

/// The vendor's path: its version in front, the query as it came. On the bifrost arm a credential in it stays here.
fn uri(upstream: &Upstream, rest: &str, query: Option<&str>, arm: Arm) -> Result<Uri, GatewayError> {
    let mut text = String::with_capacity(upstream.path_prefix.len() + rest.len() + query.map_or(0, |q| q.len() + 1));
    text.push_str(&upstream.path_prefix);
    text.push_str(rest);
    if let Some(query) = query {
        let query = if arm == Arm::Bifrost { &without_key(query) } else { query };
        if !query.is_empty() {
            text.push('?');
            text.push_str(query);
        }
    }
    let path = PathAndQuery::try_from(text)
        .map_err(|_| GatewayError::new(Fault::UnsafePath, "the path cannot be passed on"))?;
    Ok(Uri::from(path))
}

/// Why an exchange failed.
pub(crate) enum Failure {
    /// No connection for this request.
    Connect(ConnectError, Box<Request<OnwardBody>>),
    /// It was sent, perhaps in part, and no answer came.
    Lost(hyper::Error),
    /// Every connection was closed before this was sent.
    NeverSent(Box<Request<OnwardBody>>),
}

/// Sends on a kept connection if there is one, else on a new one; a request that was not sent is sent again.
pub(crate) async fn exchange(
    pool: &Pool,
    endpoint: &Arc<Endpoint>,
    connect_timeout: Duration,
    mut request: Request<OnwardBody>,
) -> Result<(Response<Incoming>, Lease), Failure> {
    if pool.has_rested(endpoint) {
        // The runtime looks at its sockets before it comes back here: one that the provider has closed is then known as closed.
        tokio::task::yield_now().await;
    }
    for _ in 0..MAX_DIALS {
        let mut lease = match pool.checkout(endpoint) {
            Some(lease) => lease,
            None => match pool.connect(endpoint, connect_timeout).await {
                Ok(lease) => lease,
                Err(error) => return Err(Failure::Connect(error, Box::new(request))),
            },
        };
        match lease.send(request).await {
            Ok(response) => return Ok((response, lease)),
            Err(SendError::NotSent(back)) => request = *back,
            Err(SendError::Lost(error)) => return Err(Failure::Lost(error)),
        }
    }
    Err(Failure::NeverSent(Box::new(request)))
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(error, _) => error.fmt(f),
            Self::Lost(error) => write!(f, "the connection broke before the answer: {error}"),
            Self::NeverSent(_) => f.write_str("every connection is closed before a request is sent"),
        }
    }
}

impl Failure {
    /// The body of a request of which nothing was sent, where it is a stream.
    pub(super) fn unsent_stream(self) -> Option<Incoming> {
        match self {
            Self::Connect(_, request) | Self::NeverSent(request) => request.into_body().into_stream(),
            Self::Lost(_) => None,
        }
    }

    fn into_error(self, upstream: &Upstream, snapshot: &Snapshot, fault: Option<StreamFault>) -> GatewayError {
        let provider = &*upstream.name;
        if let Some(fault) = fault {
            return upload_error(fault, snapshot);
        }
        match self {
            Self::Connect(error, _) => {
                let fault = match error.class() {
                    ConnectClass::Timeout => Fault::UpstreamTimeout,
                    _ => Fault::UpstreamUnreachable,
                };
                GatewayError::new(fault, format!("provider {provider:?} cannot be reached: {error}"))
            }
            Self::Lost(error) => {
                tracing::debug!(provider, %error, "the connection to the provider broke before its answer");
                GatewayError::new(
                    Fault::UpstreamBroken,
                    format!("provider {provider:?} closed the connection before it answered"),
                )
            }
            Self::NeverSent(_) => GatewayError::new(
                Fault::UpstreamBroken,
                format!("provider {provider:?} closes every connection before a request is sent"),
            ),
        }
    }
}

/// What the caller is told of a body that it did not send as it must.
pub(super) fn upload_error(fault: StreamFault, snapshot: &Snapshot) -> GatewayError {
    match fault {
        StreamFault::TooLarge => too_large(snapshot),
        StreamFault::Stalled => {
            GatewayError::new(Fault::BodyStalled, "no byte of the request's body came for 60 seconds")
        }
        StreamFault::Broken => GatewayError::new(Fault::BodyBroken, "the request's body ended early"),
    }
}

pub(super) fn shutting_down() -> GatewayError {
    GatewayError::new(Fault::ShuttingDown, "this gateway pod is shutting down: send the request again")
}

/// What came first.
pub(crate) enum Raced<T> {
    /// The future's end.
    Done(T),
    /// Its deadline.
    Late,
    /// The end of the drain.
    Cutoff,
}

/// Waits for a future, its deadline, or the end of the drain. No timer is armed: the runtime's sweep wakes it.
pub(crate) async fn race<F: Future>(shard: &Shard, deadline: &Deadline, future: F) -> Raced<F::Output> {
    let mut future = pin!(future);
    std::future::poll_fn(|cx| {
        if let Poll::Ready(done) = future.as_mut().poll(cx) {
            return Poll::Ready(Raced::Done(done));
        }
        if deadline.poll_expired(cx).is_ready() {
            return Poll::Ready(Raced::Late);
        }
        if shard.shared.drain.stage() == Stage::Cutoff {
            return Poll::Ready(Raced::Cutoff);
        }
        Poll::Pending
    })
    .await
}
