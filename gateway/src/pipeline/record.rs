//! Record: what is known of a request is gathered as it goes and counted once, when the ledger is dropped, however it ended.

use std::rc::Rc;
use std::time::{Duration, Instant};

use bifrost_analysis::{Failure, Sample, group};
use bifrost_config::catalog::Front;
use bifrost_wire::{Peek, Seen, Usage};
use http::{Method, StatusCode};

use super::choose::Choice;
use super::decode::RequestBody;
use super::measure::{self, Ended};
use super::revision::{Given, Noted};
use super::{Arm, Reason};
use crate::front::error::Fault;
use crate::front::route::{Endpoint, Kind, Route};
use crate::http::LastBytes;
use crate::server::Shard;
use crate::server::shard::{LocalSnapshot, OpenRequest};
use crate::shadow::pending::First;
use crate::snapshot::Upstream;
use crate::telemetry::{Compared, Gaps, OfRevision, Outcome};

/// Code in metrics of a stream in which the provider reported an error.
const ERROR_EVENT: &str = "upstream_error_event";
/// Bytes kept of a model's name.
pub(super) const MODEL_KEPT: usize = 160;

/// One request's account.
pub struct Ledger {
    shard: Rc<Shard>,
    _open: OpenRequest,
    began: Instant,
    method: Method,
    front: Option<Front>,
    kind: Option<Kind>,
    path: &'static str,
    snapshot: Option<LocalSnapshot>,
    upstream: Option<usize>,
    model: Box<str>,
    noted: Option<Box<Noted>>,
    apart: bool,
    forwarded: bool,
    arm: Option<Arm>,
    reason: Option<Reason>,
    hash: u64,
    stream_asked: bool,
    key: Option<usize>,
    unread_body: bool,
    received: Instant,
    upload: Option<LastBytes>,
    sent: Option<Instant>,
    overhead_there: Option<Duration>,
    first_output: Option<Duration>,
    last_chunk: Option<Instant>,
    gaps: Option<Box<Gaps>>,
    error_event: bool,
    stream_end: bool,
    answered: bool,
    status: Option<StatusCode>,
    fault: Option<Fault>,
    stream: bool,
    watched: bool,
    request_bytes: u64,
    response_bytes: u64,
    usage: Option<Usage>,
    output: Option<bool>,
    invalid_tool_call: Option<bool>,
    usage_added: bool,
    complete: bool,
}

impl Ledger {
    /// Opens the account of a request whose head was read.
    pub fn open(shard: &Rc<Shard>, method: Method) -> Self {
        let now = Instant::now();
        Self {
            shard: shard.clone(),
            _open: shard.open_request(),
            began: now,
            method,
            front: None,
            kind: None,
            path: "other",
            snapshot: None,
            upstream: None,
            model: "".into(),
            noted: None,
            apart: false,
            forwarded: false,
            arm: None,
            reason: None,
            hash: 0,
            stream_asked: false,
            key: None,
            unread_body: false,
            received: now,
            upload: None,
            sent: None,
            overhead_there: None,
            first_output: None,
            last_chunk: None,
            gaps: None,
            error_event: false,
            stream_end: false,
            answered: false,
            status: None,
            fault: None,
            stream: false,
            watched: false,
            request_bytes: 0,
            response_bytes: 0,
            usage: None,
            output: None,
            invalid_tool_call: None,
            usage_added: false,
            complete: false,
        }
    }

    /// The request's method.
    pub fn method(&self) -> Method {
        self.method.clone()
    }

    /// When the request's head was read.
    pub fn began(&self) -> Instant {
        self.began
    }

    /// Its place was found.
    pub fn placed(&mut self, route: &Route<'_>) {
        self.front = Some(route.front);
        self.kind = Some(route.kind);
        self.path = route.template;
    }

    /// It is a page of the gateway's own.
    pub fn own_page(&mut self, path: &'static str) {
        self.path = path;
    }

    /// It has a body, which nobody has read yet.
    pub fn body_is_to_come(&mut self) {
        self.unread_body = true;
    }

    /// Whether its body was left where it is, or streamed onward, perhaps not to its end.
    pub fn leaves_body_unread(&self) -> bool {
        self.unread_body
    }

    /// It is served under this configuration.
    pub fn admitted(&mut self, snapshot: &LocalSnapshot) {
        self.snapshot = Some(snapshot.clone());
    }

    /// Its body was read, or is to be streamed with this declared length.
    pub fn received(&mut self, body: &RequestBody, declared: Option<u64>) {
        let bytes = body.bytes_in_memory() as u64;
        self.unread_body &= bytes == 0;
        self.request_bytes = if bytes == 0 { declared.unwrap_or(0) } else { bytes };
        self.received = Instant::now();
    }

    /// Bytes of its body, as far as they are known.
    pub fn request_bytes(&self) -> u64 {
        self.request_bytes
    }

    /// A rollout gave it to a revision.
    pub fn given(&mut self, given: Given, peek: Option<&Peek<'_>>) {
        self.apart |= given.candidate;
        self.noted = Some(Box::new(Noted::of(given, peek)));
    }

    /// It says nothing of the arms: a candidate serves it, or should have.
    pub fn set_apart(&mut self) {
        self.apart = true;
    }

    /// Whether it says nothing of the arms.
    pub fn is_apart(&self) -> bool {
        self.apart
    }

    /// The candidate's pods did not take it.
    pub fn candidate_failed(&mut self) {
        self.forwarded = false;
        if let Some(noted) = &mut self.noted {
            noted.failed = true;
        }
    }

    /// It is handed to a pod of the candidate, which counts it.
    pub fn forwarding(&mut self) {
        self.forwarded = true;
    }

    /// A pod of the candidate answered it, with a provider's answer or with a refusal of its own. So long it was there before the
    /// provider was called.
    pub fn forwarded(&mut self, refusal: Option<Fault>, overhead: Option<Duration>) {
        self.answered = refusal.is_none();
        self.fault = refusal;
        self.overhead_there = overhead;
    }

    /// Its body is streamed onward: what is returned is to know when its last bytes came.
    pub fn uploads(&mut self) -> LastBytes {
        self.upload.insert(LastBytes::default()).clone()
    }

    /// When the last of its bytes came.
    fn received_last(&self) -> Instant {
        let upload = self.upload.as_ref().and_then(|last| last.get());
        upload.map_or(self.received, |last| last.max(self.received))
    }

    /// Provider and arm were chosen, for a request that asks for a stream or not.
    pub fn chose(&mut self, choice: &Choice<'_>, stream: bool) {
        self.upstream = Some(choice.upstream);
        // As much as tells that it is too long for a label: a caller may send a name of megabytes.
        let model = choice.model.unwrap_or_default();
        self.model = model[..model.floor_char_boundary(MODEL_KEPT)].into();
        self.arm = Some(choice.arm);
        self.reason = Some(choice.reason);
        self.hash = choice.hash;
        self.stream_asked = stream;
    }

    /// No arm can be chosen, for this reason.
    pub fn refused(&mut self, reason: Option<Reason>) {
        self.reason = reason;
    }

    /// The arm, once chosen, and the reason.
    pub fn arm(&self) -> (Option<Arm>, Option<Reason>) {
        (self.arm, self.reason)
    }

    /// The provider, once chosen.
    pub fn provider(&self) -> Option<&Upstream> {
        self.snapshot.as_ref().zip(self.upstream).map(|(snapshot, upstream)| &snapshot.upstreams[upstream])
    }

    /// The revision of the configuration in use, once known.
    pub fn revision(&self) -> Option<http::HeaderValue> {
        self.snapshot.as_ref().map(|snapshot| snapshot.revision.clone())
    }

    /// A key of the pool was chosen.
    pub fn key(&mut self, key: Option<usize>) {
        self.key = key;
    }

    /// Whether the gateway asks the provider for the usage where the client did not.
    pub fn adds_usage(&mut self, added: bool) {
        self.usage_added = added;
    }

    /// The provider is called now.
    pub fn sending(&mut self) -> Instant {
        let now = Instant::now();
        self.sent = Some(now);
        now
    }

    /// How long it was here before the provider was called.
    pub fn overhead(&self) -> Option<Duration> {
        self.sent.map(|sent| sent - self.received)
    }

    /// The provider's head came.
    pub fn upstream_answered(&mut self) {
        self.answered = true;
    }

    /// The answer's head was decided.
    pub fn status(&mut self, status: StatusCode, stream: bool) {
        self.status = Some(status);
        self.stream = stream;
    }

    /// Whether the answer's status is 2xx.
    pub fn is_success(&self) -> bool {
        self.status.is_some_and(|status| status.is_success())
    }

    /// Whether all that has come of a stream so far was looked at.
    pub fn watched(&mut self, watched: bool) {
        self.watched = watched;
    }

    /// The gateway's own fault.
    pub fn fault(&mut self, fault: Fault) {
        self.fault = Some(fault);
    }

    /// Bytes go to the client.
    pub fn sent_bytes(&mut self, bytes: usize) {
        self.response_bytes += bytes as u64;
    }

    /// Events of a stream came.
    pub fn events(&mut self, seen: Seen, now: Instant) {
        self.error_event |= seen.error;
        self.stream_end |= seen.end;
        match self.last_chunk.replace(now) {
            Some(before) if self.first_output.is_some() => self.gaps.get_or_insert_default().observe(now - before),
            _ => {}
        }
        if seen.output && self.first_output.is_none() {
            self.first_output = Some(now - self.received_last());
        }
    }

    /// The provider named its tokens.
    pub fn usage(&mut self, usage: Usage) {
        self.usage = Some(usage);
    }

    /// Whether a plain answer has output, where somebody can tell.
    pub fn output(&mut self, output: Option<bool>) {
        self.output = output;
    }

    /// What the client got, once it is over.
    pub fn first_answer(&self) -> Option<First> {
        Some(First {
            status: self.status?,
            stream: self.stream,
            whole: self.complete && !self.error_event && (!self.stream || self.stream_end),
            time: self.received.elapsed(),
            usage: self.usage,
        })
    }

    /// The answer called tools: whether with arguments that are no JSON.
    pub fn tool_calls(&mut self, invalid: Option<bool>) {
        self.invalid_tool_call = invalid;
    }

    /// The answer went out to its end.
    pub fn complete(&mut self) {
        self.complete = true;
    }

    /// The kind of request, for a plain answer and a streamed one.
    fn endpoint(&self, stream: bool) -> &'static str {
        match self.kind {
            Some(Kind::Json(endpoint)) => {
                let (plain, streamed) = Endpoint::method_labels(endpoint);
                if stream { streamed } else { plain }
            }
            Some(Kind::Models) => "list_models",
            Some(Kind::Raw) => "other",
            Some(Kind::Account) => "account",
            None => "",
        }
    }

    /// What it says of its arm. It is compared with what asked for the same, whatever came of it.
    fn compared(&self, now: Instant) -> Option<Compared> {
        self.reason.filter(|reason| reason.is_compared() && !self.apart && self.shard.recorder.compares())?;
        let sample = self.sample(self.hash, now)?;
        Some(Compared { kind: self.endpoint(false), stream: self.stream_asked, sample })
    }

    /// What it says of its revision. What the candidate's pods did not take speaks against them, however well it was served here.
    fn of_revision(&self, now: Instant) -> Option<OfRevision<'_>> {
        let Noted { given, model, stream, failed } =
            self.noted.as_deref().filter(|_| self.shard.recorder.compares())?;
        let sample = match failed {
            true => Sample { group: group(given.hash), failure: Some(Failure::Gateway), ..Sample::default() },
            false => self.sample(given.hash, now)?,
        };
        let compared = Compared { kind: self.endpoint(false), stream: *stream, sample };
        Some(OfRevision { candidate: given.candidate, model, compared })
    }

    fn sample(&self, hash: u64, now: Instant) -> Option<Sample> {
        measure::sample(&Ended {
            kind: self.kind?,
            hash,
            fault: self.fault,
            // Then the account is dropped by the unwinding.
            panicked: std::thread::panicking(),
            status: self.status.map_or(0, |status| status.as_u16()),
            answered: self.answered,
            error_event: self.error_event,
            complete: self.complete,
            stream: self.stream,
            watched: self.watched,
            stream_end: self.stream_end,
            latency: now - self.received_last(),
            first_output: self.first_output,
            overhead: self.overhead_there.or(self.overhead()),
            // The other arm's stream would not have named it; a plain answer does unasked.
            usage: self.usage.filter(|_| !(self.usage_added && self.stream)),
            output: self.output,
            invalid_tool_call: self.invalid_tool_call,
        })
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        let now = Instant::now();
        let upstream = self.provider();
        let usage = self.usage.unwrap_or_default();
        let key = upstream.zip(self.key).map(|(upstream, key)| &*upstream.keys[key].name);
        self.shard.recorder.record(&Outcome {
            front: self.front.map_or("", Front::name),
            // What was forwarded is counted there.
            endpoint: if self.forwarded { "" } else { self.endpoint(self.stream) },
            path: self.path,
            http_method: self.method.as_str(),
            provider: upstream.map_or("", |upstream| &upstream.name),
            model: &self.model,
            arm: self.arm,
            reason: self.reason.map_or("", Reason::as_str),
            eligible: !self.apart && self.reason.is_some_and(Reason::is_observed),
            epoch: self.snapshot.as_ref().map_or(0, |snapshot| snapshot.traffic().epoch),
            status: self.status.map_or(0, |status| status.as_u16()),
            error_code: self.fault.map(Fault::code).or_else(|| self.error_event.then_some(ERROR_EVENT)),
            key_name: key.unwrap_or_default(),
            total: now - self.began,
            overhead: self.overhead(),
            upstream_latency: self.sent.map(|sent| now - sent),
            answered: self.answered,
            first_output: self.first_output,
            gaps: self.gaps.as_deref(),
            request_bytes: self.request_bytes,
            response_bytes: self.response_bytes,
            input_tokens: usage.input_tokens,
            output_tokens: usage.output_tokens,
            client_gone: !self.complete && self.fault.is_none() && !std::thread::panicking(),
            compared: self.compared(now),
            of_revision: self.of_revision(now),
        });
    }
}
