//! Forward: hands a request to the candidate's own pods, which serve it as if it had come to them, and takes it back where they do
//! not. And the other end: what such a pod takes.

use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bifrost_wire::Peek;
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Method, Uri, header};
use hyper::body::{Body, Incoming};
use hyper::{Request, Response};

use super::attempt::{Answer, Failure, Raced, exchange, race, say_no_body, shutting_down, upload_error};
use super::decode::{Reading, RequestBody, Whose};
use super::record::Ledger;
use super::respond::{ERROR_CODE, OVERHEAD, REVISION};
use super::{Inbound, admit};
use crate::front::error::{Fault, GatewayError};
use crate::front::route::{Endpoint, Kind};
use crate::http::{Head, OnwardBody, UploadFault, UploadWatch};
use crate::memory::Charge;
use crate::server::shard::LocalSnapshot;
use crate::server::{Door, Shard};
use crate::snapshot::{Forward, Snapshot};

/// Header by which a pod asks another for a revision. What clients send of that name has no meaning and goes nowhere.
pub const ROLLOUT_HEADER: HeaderName = HeaderName::from_static("x-bf-rollout");
/// Its pods are in the same cluster: longer than this there is none. A first packet that is lost is sent again after a second.
const CONNECT: Duration = Duration::from_secs(2);
/// Longest time until a pod begins to read a body that it collects. It does so at once: one that takes longer hangs, although its node still
/// takes connections and bytes for it.
const BEGIN: Duration = Duration::from_secs(5);
/// Bodies up to this are kept for the case that nobody takes them, however little memory there is.
const SMALL: usize = 64 << 10;

/// The configuration of a request that another pod forwarded: only the revision that it asks for, and only where this pod is of it.
pub fn configuration(shard: &Shard, head: &Head) -> Result<LocalSnapshot, GatewayError> {
    let own = shard.shared.candidate.as_ref().map(|own| own.as_bytes());
    let is_asked_for = own.is_some() && head.get(ROLLOUT_HEADER.as_str()) == own;
    let snapshot = admit::configuration(shard).ok();
    // Where the candidate was replaced or taken back, pods that have not heard of it yet still forward, and their bodies may be sent
    // only once: what was served last is served on.
    let held = snapshot.filter(|snapshot| own == Some(snapshot.revision.as_bytes()));
    let held = is_asked_for.then(|| shard.as_candidate(held)).flatten();
    held.ok_or_else(|| {
        GatewayError::new(
            Fault::WrongRevision,
            format!(
                "this pod does not serve the revision that {ROLLOUT_HEADER} names: only pods of this gateway call this port, call the one for applications"
            ),
        )
    })
}

/// What became of a request that was to be forwarded.
pub enum Forwarded {
    /// It was answered.
    Answered(Box<Answer>),
    /// Nobody took it: it can still be served here.
    Untaken(RequestBody),
}

/// Sends a request to the candidate's pods.
pub async fn forward(
    shard: &Rc<Shard>,
    inbound: &Inbound<'_>,
    body: RequestBody,
    asked: Asked,
    to: &Forward,
    snapshot: &Snapshot,
    ledger: &mut Ledger,
) -> Result<Forwarded, GatewayError> {
    let Onward { body, mut spare, upload, _kept } = Onward::of(body, shard, to, ledger);
    let is_collected = upload.is_none() && !body.is_end_stream();
    let mut request = outbound(inbound, ledger.method(), body, to)?;
    let begun = is_collected.then(|| expect_begin(&mut request));
    let deadline = shard.deadlines.arm(if is_collected { BEGIN } else { to.whole });
    let sent = Instant::now();
    ledger.forwarding();
    let mut exchange = pin!(exchange(&shard.pool, &to.endpoint, CONNECT, request));
    let mut raced = race(shard, &deadline, exchange.as_mut()).await;
    let hangs = begun.as_ref().is_some_and(|begun| !begun.load(Ordering::Relaxed));
    if is_collected && !hangs && matches!(raced, Raced::Late) {
        deadline.extend(to.whole.saturating_sub(BEGIN));
        raced = race(shard, &deadline, exchange).await;
    }
    let problem = match raced {
        Raced::Done(Ok((mut response, lease))) if is_taken(&response, to, asked.repeatable) => {
            let refusal = response.headers().get(ERROR_CODE).map(|code| fault_of(code.as_bytes()));
            ledger.forwarded(refusal, response.headers_mut().remove(OVERHEAD).as_ref().and_then(overhead));
            let due = if asked.stream { Instant::now() } else { sent } + to.whole;
            let reading = asked.reading;
            let answer = Answer { response, lease, deadline, due, stream_idle: to.idle, reading, shadow: None };
            return Ok(Forwarded::Answered(Box::new(answer)));
        }
        Raced::Done(Ok((response, _))) => {
            let code = response.headers().get(ERROR_CODE).and_then(|code| code.to_str().ok());
            format!("it was refused: {}", code.unwrap_or("something between the pods answered"))
        }
        Raced::Done(Err(failure)) => {
            if let Some(fault) = upload.and_then(|fault| fault.get()) {
                return Err(upload_error(fault, snapshot));
            }
            if matches!(failure, Failure::Lost(_)) && !asked.repeatable {
                return Err(not_again(ledger));
            }
            let problem = failure.to_string();
            spare = spare.or_else(|| failure.unsent_stream().map(RequestBody::Stream));
            problem
        }
        // It may still go on with it.
        Raced::Late if hangs && !asked.repeatable => return Err(not_again(ledger)),
        Raced::Late if hangs => format!("it did not begin with it within {} s", BEGIN.as_secs()),
        Raced::Late => {
            let message = format!("the candidate sent no answer within {} s", to.whole.as_secs_f64());
            return Err(GatewayError::new(Fault::UpstreamTimeout, message));
        }
        Raced::Cutoff => return Err(shutting_down()),
    };
    if shard.may_complain(ROLLOUT_HEADER.as_str()) {
        tracing::warn!(candidate = ?to.revision, problem, "a request could not be forwarded");
    }
    ledger.candidate_failed();
    // Who looks at the preview must not take the stable revision for the candidate.
    let spare = spare.filter(|_| inbound.door != Door::Preview);
    spare.map(Forwarded::Untaken).ok_or_else(|| {
        let message = "the pods of the gateway's new revision did not take this request: send it again";
        GatewayError::new(Fault::CandidateFailed, message)
    })
}

/// Lets the pod say when it begins to read the body, which is when an HTTP server answers what this header asks.
fn expect_begin(request: &mut Request<OnwardBody>) -> Arc<AtomicBool> {
    let begun = Arc::new(AtomicBool::new(false));
    request.headers_mut().insert(header::EXPECT, HeaderValue::from_static("100-continue"));
    hyper::ext::on_informational(request, {
        let begun = begun.clone();
        move |_| begun.store(true, Ordering::Relaxed)
    });
    begun
}

/// It may have been carried out, and once more would be twice.
fn not_again(ledger: &mut Ledger) -> GatewayError {
    ledger.candidate_failed();
    let message =
        "a pod of the gateway's new revision ended or hangs with this request, which may have been carried out";
    GatewayError::new(Fault::UpstreamBroken, message)
}

/// What a request asks for, as far as its answer is looked at while it passes.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    stream: bool,
    /// Whether it may be carried out twice: it asks for an answer and leaves nothing behind.
    repeatable: bool,
    reading: Reading,
}

impl Asked {
    /// Reads it from the request.
    pub fn of(inbound: &Inbound<'_>, method: &Method, peek: Option<&Peek<'_>>, snapshot: &Snapshot) -> Self {
        let repeatable = match inbound.route.kind {
            Kind::Json(Endpoint::Responses) => peek.is_some_and(|peek| !peek.holds_vendor_state()),
            Kind::Json(_) | Kind::Models => true,
            Kind::Raw | Kind::Account => matches!(*method, Method::GET | Method::HEAD),
        };
        Self {
            stream: peek.is_some_and(Peek::is_stream),
            repeatable,
            reading: Reading::of(inbound.route.kind, peek, Whose::Candidate, snapshot),
        }
    }
}

/// A body on its way to the candidate's pods.
struct Onward {
    body: OnwardBody,
    /// It once more, where it is in memory.
    spare: Option<RequestBody>,
    /// Where the fault of one that is streamed is noted.
    upload: Option<UploadFault>,
    /// The memory of the spare one, which stays until an answer comes: none where there is little left.
    _kept: Option<Charge>,
}

impl Onward {
    fn of(body: RequestBody, shard: &Shard, to: &Forward, ledger: &mut Ledger) -> Self {
        match body {
            RequestBody::Whole(bytes) => {
                let kept = shard.shared.budget.try_charge_spare(bytes.len() as u64);
                let is_kept = kept.is_some() || bytes.len() <= SMALL;
                let spare = is_kept.then(|| RequestBody::Whole(bytes.clone()));
                let parts = Some(bytes).filter(|bytes| !bytes.is_empty());
                let body = OnwardBody::whole(parts.into_iter().collect());
                Self { body, spare, upload: None, _kept: kept }
            }
            RequestBody::Stream(body) if body.is_end_stream() => {
                let spare = Some(RequestBody::Stream(body));
                Self { body: OnwardBody::whole(Default::default()), spare, upload: None, _kept: None }
            }
            RequestBody::Stream(body) => {
                let fault = UploadFault::default();
                let stall = shard.deadlines.idle();
                let watch = UploadWatch { fault: fault.clone(), stall, last_bytes: ledger.uploads() };
                let body = OnwardBody::stream(body, to.max_request_body, watch);
                Self { body, spare: None, upload: Some(fault), _kept: None }
            }
        }
    }
}

/// The request as its client sent it, but for what belongs to the connection.
fn outbound(
    inbound: &Inbound<'_>,
    method: Method,
    body: OnwardBody,
    to: &Forward,
) -> Result<Request<OnwardBody>, GatewayError> {
    let mut head = Head::new(inbound.head.lines_of_all());
    head.towards_candidate(&to.endpoint.authority);
    head.set(ROLLOUT_HEADER, to.revision.clone());
    say_no_body(&mut head, &method, &body);
    let path = match inbound.query {
        Some(query) => PathAndQuery::try_from(format!("{}?{query}", inbound.path)),
        None => PathAndQuery::try_from(inbound.path),
    };
    let path = path.map_err(|_| GatewayError::new(Fault::UnsafePath, "the path cannot be passed on"))?;
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = Uri::from(path);
    *request.headers_mut() = head.into_map();
    Ok(request)
}

/// Whether a pod of the candidate took the request, to its end or to a refusal that the stable revision would not better.
pub(crate) fn is_taken(response: &Response<Incoming>, to: &Forward, repeatable: bool) -> bool {
    let Some(code) = response.headers().get(ERROR_CODE) else {
        // What names no revision is of something between the pods.
        return response.headers().get(REVISION) == Some(&to.revision);
    };
    let is = |fault: Fault| code.as_bytes() == fault.code().as_bytes();
    // Nothing was carried out; of one that ends, perhaps.
    let nothing_done = [Fault::WrongRevision, Fault::NotReady, Fault::Overloaded].into_iter().any(is);
    let untaken = nothing_done || (repeatable && is(Fault::ShuttingDown));
    !untaken
}

/// What a pod of the candidate says of its time.
fn overhead(micros: &HeaderValue) -> Option<Duration> {
    micros.to_str().ok()?.parse().ok().map(Duration::from_micros)
}

/// The fault behind a refusal of the candidate's, as far as the comparison tells faults apart.
fn fault_of(code: &[u8]) -> Fault {
    let told_apart = [
        Fault::InvalidBody,
        Fault::ModelMissing,
        Fault::BodyTooLarge,
        Fault::BodyStalled,
        Fault::BodyBroken,
        Fault::UpstreamTimeout,
        Fault::UpstreamUnreachable,
        Fault::UpstreamBroken,
    ];
    told_apart.into_iter().find(|fault| fault.code().as_bytes() == code).unwrap_or(Fault::CandidateFailed)
}
