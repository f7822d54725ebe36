//! Respond: the answer's head, and its body relayed as it comes.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bifrost_config::catalog::Front;
use bifrost_wire::{Piece, StreamObserver, has_output, invalid_tool_call, usage_from_tail};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use hyper::Response;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::Arm;
use super::admit::OwnPage;
use super::attempt::Answer;
use super::caller::ARM_HEADER;
use super::decode::{Reading, Whose};
use super::record::Ledger;
use super::watch::Watch;
use crate::deadline::Deadline;
use crate::front::error::{Fault, GatewayError};
use crate::http::{Head, Inflate};
use crate::memory::Charge;
use crate::server::connection::{ConnectionState, Finish};
use crate::server::drain::Stage;
use crate::server::{Door, Shard};
use crate::shadow::pending::Pending;
use crate::upstream::pool::Lease;

const ARM_REASON: HeaderName = HeaderName::from_static("x-bf-arm-reason");
pub(super) const REVISION: HeaderName = HeaderName::from_static("x-bf-revision");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-bf-request-id");
/// Anthropic's error shape has no place for a code, so every refusal carries it here too.
pub(super) const ERROR_CODE: HeaderName = HeaderName::from_static("x-bf-error-code");
/// How long the candidate's pod had a request before it called the provider, in microseconds: for the pod that forwarded it, not for clients.
pub(super) const OVERHEAD: HeaderName = HeaderName::from_static("x-bf-overhead");
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Makes the answer of one request.
pub struct Answering {
    /// The runtime that serves it.
    pub shard: Rc<Shard>,
    connection: Rc<ConnectionState>,
}

impl Answering {
    /// For one request of a connection.
    pub fn new(shard: Rc<Shard>, connection: Rc<ConnectionState>) -> Self {
        Self { shard, connection }
    }

    /// A page of the gateway's own.
    pub fn own_page(&self, page: OwnPage, mut ledger: Ledger) -> Response<AnswerBody> {
        ledger.own_page(page.path);
        ledger.sent_bytes(page.body.len());
        ledger.status(page.status, false);
        ledger.complete();
        let mut response = Response::new(AnswerBody::whole(page.body, Finish::new(&self.connection)));
        *response.status_mut() = page.status;
        response.headers_mut().insert(header::CONTENT_TYPE, page.content_type);
        if let Some(revision) = ledger.revision() {
            response.headers_mut().insert(REVISION, revision);
        }
        self.last_on_connection(response.headers_mut(), ledger.began());
        response
    }

    /// A fault, in the front's shape.
    pub fn refuse(&self, error: GatewayError, front: Option<Front>, mut ledger: Ledger) -> Response<AnswerBody> {
        let id = request_id();
        ledger.status(error.fault.status(), false);
        ledger.fault(error.fault);
        ledger.complete();
        let body = error.body(front.unwrap_or(Front::OpenAI), id.to_str().unwrap_or_default());
        ledger.sent_bytes(body.len());
        let mut response = Response::new(AnswerBody::whole(body.into(), Finish::new(&self.connection)));
        *response.status_mut() = error.fault.status();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ERROR_CODE, HeaderValue::from_static(error.fault.code()));
        if let Some(retry) = error.fault.should_retry() {
            headers.insert(SHOULD_RETRY, HeaderValue::from_static(if retry { "true" } else { "false" }));
        }
        if let Some(after) = error.retry_after() {
            headers.insert(header::RETRY_AFTER, after);
        }
        mark(headers, &ledger, id);
        if ledger.leaves_body_unread() {
            // The rest of the body is not read, so the connection cannot go on.
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            self.connection.leave_body_unread();
        }
        self.last_on_connection(response.headers_mut(), ledger.began());
        response
    }

    /// A provider's answer.
    pub fn relay(self, answer: Answer, front: Front, mut ledger: Ledger) -> Response<AnswerBody> {
        let (parts, body) = answer.response.into_parts();
        let reading = answer.reading;
        let id = request_id();
        let mut head = Head::new(parts.headers);
        let stream = head.is_event_stream();
        let framed = head.is_framed();
        let (watch, tee) = Watch::new(&reading, stream, &head, &self.shard);
        if reading.whose != Whose::Candidate {
            ledger.upstream_answered();
        }
        ledger.status(parts.status, stream);
        ledger.watched(matches!(watch, Watch::Events(_) | Watch::Tap(..)));
        head.towards_client(reading.whose);
        let mut headers = head.into_map();
        if watch.changes_length() {
            headers.remove(header::CONTENT_LENGTH);
        }
        if stream {
            headers.insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
        }
        let error_id = id.clone();
        // The candidate's pod has said all that itself.
        if reading.whose != Whose::Candidate {
            mark(&mut headers, &ledger, id);
            if let Some(overhead) = ledger.overhead().filter(|_| self.connection.door() == Door::Forwarded) {
                headers.insert(OVERHEAD, HeaderValue::from(overhead.as_micros().min(u64::MAX.into()) as u64));
            }
        }
        self.last_on_connection(&mut headers, ledger.began());
        let idle = stream.then_some(answer.stream_idle);
        answer.deadline.extend(idle.unwrap_or_else(|| answer.due.saturating_duration_since(Instant::now())));
        // As the candidate's pod would have ended it: on the baseline arm a stream is cut as the provider cut it.
        let is_bifrost = headers.get(ARM_HEADER).is_some_and(|arm| arm == Arm::Bifrost.as_str());
        let ends_with_event = reading.whose == Whose::Candidate && is_bifrost;
        let mut relay = Relay {
            body,
            lease: Some(answer.lease),
            shard: self.shard,
            deadline: answer.deadline,
            idle,
            watch,
            reading,
            shadow: answer.shadow,
            ends_with_event,
            front,
            request_id: error_id,
            framed,
            ledger,
            over: false,
            _tee: tee,
            _finish: Finish::new(&self.connection),
        };
        if relay.body.is_end_stream() {
            // No body at all: nobody will ask for one.
            relay.finish();
        }
        let mut response = Response::new(AnswerBody::Relay(Box::new(relay)));
        *response.status_mut() = parts.status;
        *response.headers_mut() = headers;
        response
    }

    /// Says so where no further request should come on this connection.
    fn last_on_connection(&self, headers: &mut HeaderMap, now: Instant) {
        if self.shard.shared.drain.has_begun() || self.connection.is_retiring(now) {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
    }
}

/// Says which arm served, why, under which configuration, and under which id.
fn mark(headers: &mut HeaderMap, ledger: &Ledger, id: HeaderValue) {
    let (arm, reason) = ledger.arm();
    headers.insert(ARM_HEADER, HeaderValue::from_static(Arm::label(arm)));
    if let Some(reason) = reason {
        headers.insert(ARM_REASON, HeaderValue::from_static(reason.as_str()));
    }
    if let Some(revision) = ledger.revision() {
        headers.insert(REVISION, revision);
    }
    headers.insert(REQUEST_ID, id);
}

fn request_id() -> HeaderValue {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let random = fastrand::u128(..);
    let text: [u8; 32] = std::array::from_fn(|at| DIGITS[(random >> (at * 4)) as usize & 15]);
    HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}

/// The body of an answer.
pub enum AnswerBody {
    /// The gateway's own.
    Whole(Option<Bytes>, Finish),
    /// A provider's.
    Relay(Box<Relay>),
}

impl AnswerBody {
    fn whole(bytes: Bytes, finish: Finish) -> Self {
        Self::Whole(Some(bytes), finish)
    }
}

/// The end of an event, for a last one that misses it.
const MISSING_END: &[u8] = b"\n\n";

/// Whether a stream has said that it is over.
fn has_ended(stream: &StreamObserver) -> bool {
    let seen = stream.seen();
    seen.end || seen.error
}

/// A provider's body on its way to the client.
pub struct Relay {
    body: Incoming,
    lease: Option<Lease>,
    shard: Rc<Shard>,
    deadline: Deadline,
    idle: Option<Duration>,
    watch: Watch,
    reading: Reading,
    /// What is kept for a copy on the other arm.
    shadow: Option<Box<Pending>>,
    /// Whether a candidate's stream that breaks off gets an error event.
    ends_with_event: bool,
    front: Front,
    request_id: HeaderValue,
    /// Whether the head said how the end is known; else the end of the connection is the end.
    framed: bool,
    ledger: Ledger,
    over: bool,
    _tee: Option<Charge>,
    _finish: Finish,
}

/// The next bytes for the client, or the end.
type Step = Option<Result<Frame<Bytes>, io::Error>>;

impl Relay {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        if self.over {
            return Poll::Ready(None);
        }
        loop {
            let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else {
                return self.poll_fault(cx);
            };
            let data = match frame {
                None => return Poll::Ready(self.end()),
                Some(Err(error)) => {
                    tracing::debug!(provider = self.provider(), %error, "an answer broke off");
                    return Poll::Ready(self.broken());
                }
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => data,
                    Err(_trailers) => continue,
                },
            };
            let now = Instant::now();
            if let Some(idle) = self.idle {
                self.deadline.move_to(now + idle);
            }
            let mut out = self.pass(data, now);
            // The server stops asking once it has the declared length, so this may be the last time.
            if self.body.is_end_stream() {
                let held = self.finish();
                if !held.is_empty() {
                    out = [&out[..], &held[..]].concat().into();
                }
            }
            if !out.is_empty() {
                self.ledger.sent_bytes(out.len());
                return Poll::Ready(Some(Ok(Frame::data(out))));
            }
        }
    }

    fn poll_fault(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        if self.shard.shared.drain.stage() == Stage::Cutoff {
            let error = GatewayError::new(
                Fault::ShuttingDown,
                "this gateway pod is shutting down and cannot wait longer for the rest of this answer",
            );
            return Poll::Ready(self.break_off(error));
        }
        ready!(self.deadline.poll_expired(cx));
        let message = match self.idle {
            Some(idle) => {
                format!("{} sent nothing for {} s in the middle of its answer", self.who(), idle.as_secs_f64())
            }
            None => format!("{} did not finish its answer in time", self.who()),
        };
        Poll::Ready(self.break_off(GatewayError::new(Fault::UpstreamTimeout, message)))
    }

    /// Looks at bytes and says which of them go on.
    fn pass(&mut self, data: Bytes, now: Instant) -> Bytes {
        match &mut self.watch {
            Watch::Blind => {
                if let Some(shadow) = &mut self.shadow {
                    shadow.give_up();
                }
                data
            }
            Watch::Plain(tail, _, inflate) => {
                let inflated = inflate.as_mut().map(|inflate| inflate.feed(&data));
                let seen = inflated.as_deref().unwrap_or(&data);
                tail.push(seen);
                if let Some(shadow) = &mut self.shadow {
                    shadow.watch_inflated(seen, inflate.as_ref());
                }
                data
            }
            Watch::Tap(tap, inflate) => {
                let inflated = inflate.as_mut().map(|inflate| inflate.feed(&data));
                let read = inflated.as_deref().unwrap_or(&data);
                if let Some(shadow) = &mut self.shadow {
                    shadow.watch_inflated(read, inflate.as_ref());
                }
                let seen = tap.feed(read);
                self.ledger.watched(inflate.as_ref().is_none_or(|inflate| !inflate.has_given_up()));
                self.ledger.events(seen, now);
                // Now, as the client may not wait for the answer's end.
                if let Some(usage) = tap.usage().filter(|_| seen.end) {
                    self.ledger.usage(usage);
                }
                data
            }
            Watch::Events(relay) => {
                if let Some(shadow) = &mut self.shadow {
                    shadow.watch(&data);
                }
                let mut out = Bytes::new();
                let mut joined: Option<BytesMut> = None;
                let seen = relay.feed(&data, |piece| {
                    let bytes = match piece {
                        Piece::Held(held) => Bytes::copy_from_slice(held),
                        Piece::Chunk(range) => data.slice(range),
                    };
                    // Nearly always one piece, which is the chunk itself: nothing is copied then.
                    match &mut joined {
                        Some(joined) => joined.extend_from_slice(&bytes),
                        None if out.is_empty() => out = bytes,
                        None => {
                            let mut both = BytesMut::from(&out[..]);
                            both.extend_from_slice(&bytes);
                            joined = Some(both);
                        }
                    }
                });
                self.ledger.events(seen, now);
                if let Some(usage) = relay.usage().filter(|_| seen.end) {
                    self.ledger.usage(usage);
                }
                joined.map_or(out, BytesMut::freeze)
            }
        }
    }

    fn end(&mut self) -> Step {
        match &mut self.watch {
            Watch::Events(_) if !self.framed => return self.end_by_the_connections(),
            // The bytes pass as they are, but what it was is told as on the other arm.
            Watch::Tap(tap, inflate) if !self.framed && !inflate.as_ref().is_some_and(Inflate::has_given_up) => {
                self.ledger.events(tap.feed(MISSING_END), Instant::now());
                if !has_ended(tap.observer()) {
                    self.ledger.fault(Fault::StreamBroken);
                }
            }
            _ => {}
        }
        let held = self.finish();
        (!held.is_empty()).then(|| Ok(Frame::data(held.into())))
    }

    /// The regular end: the connection can be used again. Returns bytes that still wait for the end of their event.
    fn finish(&mut self) -> Vec<u8> {
        self.over = true;
        if let Some(lease) = self.lease.take() {
            self.shard.pool.give_back(lease);
        }
        let (usage, invalid_tool_call) = match &self.watch {
            Watch::Plain(tail, format, _) => {
                let whole = format.zip(tail.whole());
                let usage = usage_from_tail(tail.bytes());
                if self.reading.emptiness && self.ledger.is_success() {
                    let output = whole.and_then(|(format, answer)| has_output(answer, format));
                    // Of what is too long to be looked at, the tokens tell.
                    self.ledger.output(output.or_else(|| Some(usage?.output_tokens > 0)));
                }
                let called = whole.filter(|_| self.reading.tool_calls);
                (usage, called.and_then(|(format, answer)| invalid_tool_call(answer, format)))
            }
            Watch::Events(relay) => (relay.usage(), relay.observer().invalid_tool_call()),
            Watch::Tap(tap, _) => (tap.usage(), tap.observer().invalid_tool_call()),
            Watch::Blind => (None, None),
        };
        if let Some(usage) = usage {
            self.ledger.usage(usage);
        }
        self.ledger.tool_calls(invalid_tool_call);
        self.ledger.complete();
        if let Some((shadow, first)) = self.shadow.take().zip(self.ledger.first_answer()) {
            shadow.begin(first);
        }
        match &mut self.watch {
            Watch::Events(relay) => relay.take_held(),
            _ => Vec::new(),
        }
    }

    /// The end of a stream that only the end of the connection tells: whole with its last event, or an error's, if it misses a blank line
    /// too.
    fn end_by_the_connections(&mut self) -> Step {
        let last = self.pass(Bytes::from_static(MISSING_END), Instant::now());
        let Watch::Events(relay) = &self.watch else { return None };
        if !has_ended(relay.observer()) {
            return self.broken();
        }
        self.finish();
        (!last.is_empty()).then(|| Ok(Frame::data(last)))
    }

    /// The provider broke off.
    fn broken(&mut self) -> Step {
        let who = self.who();
        let message = format!("{who} broke off in the middle of its answer");
        self.break_off(GatewayError::new(Fault::StreamBroken, message))
    }

    /// Whose answer it is, in a sentence.
    fn who(&self) -> String {
        match self.provider() {
            "" => "the pod of the gateway's new revision".to_owned(),
            provider => format!("provider {provider:?}"),
        }
    }

    fn provider(&self) -> &str {
        self.ledger.provider().map_or("", |provider| &provider.name)
    }

    /// The end before the end. A stream of events on the bifrost arm gets an error event, between whole events; everything else is cut
    /// as the provider cut it, so that no client takes it for complete.
    fn break_off(&mut self, error: GatewayError) -> Step {
        self.over = true;
        self.lease = None;
        self.ledger.fault(error.fault);
        let between_events = match &self.watch {
            Watch::Events(relay) => relay.is_between_events(),
            // Nothing fits behind a declared length.
            Watch::Tap(tap, None) => {
                let is_ours = error.fault == Fault::ShuttingDown || self.ends_with_event;
                is_ours && tap.is_between_events() && self.body.size_hint().exact().is_none()
            }
            Watch::Tap(..) | Watch::Plain(..) | Watch::Blind => false,
        };
        if between_events {
            let event = error.event(self.front, self.request_id.to_str().unwrap_or_default());
            return Some(Ok(Frame::data(event.into())));
        }
        Some(Err(io::Error::other(error.message)))
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Step> {
        match self.get_mut() {
            Self::Whole(bytes, _) => {
                Poll::Ready(bytes.take().filter(|b| !b.is_empty()).map(|bytes| Ok(Frame::data(bytes))))
            }
            Self::Relay(relay) => relay.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes, _) => bytes.as_ref().is_none_or(Bytes::is_empty),
            // A body that is over must still be polled to its end: only there is the connection given back.
            Self::Relay(relay) => relay.over,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes, _) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::Relay(relay) if relay.watch.changes_length() => SizeHint::default(),
            Self::Relay(relay) => relay.body.size_hint(),
        }
    }
}
