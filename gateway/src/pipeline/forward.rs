//! Forward: hands a request to the candidate's own pods, which serve it as if it had come to them, and takes it back where they do
//! not. And the other end: what such a pod takes.

use std::rc::Rc;
use std::time::{Duration, Instant};

use bifrost_wire::Peek;
use http::uri::PathAndQuery;
use http::{HeaderName, Method, Uri};
use hyper::body::{Body, Incoming};
use hyper::{Request, Response};

use super::attempt::{Answer, Raced, exchange, race, say_no_body, shutting_down, upload_error};
use super::decode::{Reading, RequestBody, Whose};
use super::record::Ledger;
use super::respond::ERROR_CODE;
use super::{Inbound, admit};
use crate::front::error::{Fault, GatewayError};
use crate::http::{Head, OnwardBody, UploadFault, UploadWatch};
use crate::server::shard::LocalSnapshot;
use crate::server::{Door, Shard};
use crate::snapshot::{Forward, Snapshot};

/// Header by which a pod asks another for a revision. What clients send of that name has no meaning and goes nowhere.
pub const ROLLOUT_HEADER: HeaderName = HeaderName::from_static("x-bf-rollout");
/// Its pods are in the same cluster: longer than this there is none.
const CONNECT: Duration = Duration::from_secs(1);

/// The configuration of a request that another pod forwarded: only the revision that it asks for, and only where this pod is of it.
pub fn configuration(shard: &Shard, head: &Head) -> Result<LocalSnapshot, GatewayError> {
    let own = shard.shared.candidate.as_ref().map(|own| own.as_bytes());
    let asked = head.get(ROLLOUT_HEADER.as_str()).filter(|asked| Some(*asked) == own);
    let snapshot = admit::configuration(shard).ok();
    // Another one is in use where the candidate was replaced or cannot be used: then whoever forwarded serves the request itself.
    snapshot.filter(|snapshot| asked == Some(snapshot.revision.as_bytes())).ok_or_else(|| {
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
    let Onward { body, spare, upload } = Onward::of(body, shard, to, ledger);
    let request = outbound(inbound, ledger.method(), body, to)?;
    let deadline = shard.deadlines.arm(to.whole);
    let sent = Instant::now();
    let (problem, spare) = match race(shard, &deadline, exchange(&shard.pool, &to.endpoint, CONNECT, request)).await {
        Raced::Done(Ok((response, lease))) if !is_wrong_revision(&response) => {
            ledger.forwarded(response.headers().get(ERROR_CODE).map(|code| fault_of(code.as_bytes())));
            let due = if asked.stream { Instant::now() } else { sent } + to.whole;
            let reading = asked.reading;
            let answer = Answer { response, lease, deadline, due, stream_idle: to.idle, reading, shadow: None };
            return Ok(Forwarded::Answered(Box::new(answer)));
        }
        Raced::Done(Ok(_)) => ("the pod that answered does not serve this revision".to_owned(), spare),
        Raced::Done(Err(failure)) => {
            if let Some(fault) = upload.and_then(|fault| fault.get()) {
                return Err(upload_error(fault, snapshot));
            }
            (failure.to_string(), spare.or_else(|| failure.unsent_stream().map(RequestBody::Stream)))
        }
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

/// What a request asks for, as far as its answer is looked at while it passes.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    stream: bool,
    reading: Reading,
}

impl Asked {
    /// Reads it from the request.
    pub fn of(inbound: &Inbound<'_>, peek: Option<&Peek<'_>>) -> Self {
        Self {
            stream: peek.is_some_and(Peek::is_stream),
            reading: Reading::of(inbound.route.kind, peek, Whose::Candidate),
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
}

impl Onward {
    fn of(body: RequestBody, shard: &Shard, to: &Forward, ledger: &mut Ledger) -> Self {
        match body {
            RequestBody::Whole(bytes) => {
                let parts = Some(bytes.clone()).filter(|bytes| !bytes.is_empty());
                let body = OnwardBody::whole(parts.into_iter().collect());
                Self { body, spare: Some(RequestBody::Whole(bytes)), upload: None }
            }
            RequestBody::Stream(body) if body.is_end_stream() => {
                let spare = Some(RequestBody::Stream(body));
                Self { body: OnwardBody::whole(Default::default()), spare, upload: None }
            }
            RequestBody::Stream(body) => {
                let fault = UploadFault::default();
                let stall = shard.deadlines.idle();
                let watch = UploadWatch { fault: fault.clone(), stall, last_bytes: ledger.uploads() };
                let body = OnwardBody::stream(body, to.max_request_body, watch);
                Self { body, spare: None, upload: Some(fault) }
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

/// Whether a pod says that it is not of the revision. A vendor may have such a status too, without the code.
fn is_wrong_revision(response: &Response<Incoming>) -> bool {
    let code = response.headers().get(ERROR_CODE);
    response.status() == Fault::WrongRevision.status()
        && code.is_some_and(|code| code.as_bytes() == Fault::WrongRevision.code().as_bytes())
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
