//! Record: what is known of a request is gathered as it goes and counted once, when the ledger is dropped, however it ended.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bifrost_config::catalog::Front;
use bifrost_wire::Usage;
use http::{Method, StatusCode};

use super::choose::{Arm, Choice, Reason};
use crate::front::error::Fault;
use crate::front::route::{Endpoint, Kind, Route};
use crate::server::Shard;
use crate::server::shard::OpenRequest;
use crate::snapshot::Snapshot;
use crate::telemetry::Outcome;

/// Bytes kept of a model's name.
const MODEL_KEPT: usize = 160;

/// One request's account.
pub struct Ledger {
    shard: Rc<Shard>,
    _open: OpenRequest,
    began: Instant,
    method: Method,
    front: Option<Front>,
    kind: Option<Kind>,
    path: &'static str,
    snapshot: Option<Arc<Snapshot>>,
    upstream: usize,
    model: Box<str>,
    arm: Arm,
    reason: Option<Reason>,
    key: Option<Arc<str>>,
    unread_body: bool,
    received: Instant,
    sent: Option<Instant>,
    first_output: Option<Duration>,
    answered: bool,
    status: Option<StatusCode>,
    fault: Option<Fault>,
    stream: bool,
    request_bytes: u64,
    response_bytes: u64,
    usage: Usage,
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
            upstream: 0,
            model: "".into(),
            arm: Arm::Bifrost,
            reason: None,
            key: None,
            unread_body: false,
            received: now,
            sent: None,
            first_output: None,
            answered: false,
            status: None,
            fault: None,
            stream: false,
            request_bytes: 0,
            response_bytes: 0,
            usage: Usage::default(),
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

    /// Its body was read.
    pub fn received(&mut self, bytes: usize) {
        self.unread_body &= bytes == 0;
        self.request_bytes = bytes as u64;
        self.received = Instant::now();
    }

    /// Provider and arm were chosen.
    pub fn chose(&mut self, choice: &Choice<'_>, snapshot: &Arc<Snapshot>) {
        self.snapshot = Some(snapshot.clone());
        self.upstream = choice.upstream;
        // As much as tells that it is too long for a label: a caller may send a name of megabytes.
        let model = choice.model.unwrap_or_default();
        self.model = model[..model.floor_char_boundary(MODEL_KEPT)].into();
        self.arm = choice.arm;
        self.reason = Some(choice.reason);
    }

    /// Arm and reason, once chosen.
    pub fn arm(&self) -> Option<(Arm, Reason)> {
        self.reason.map(|reason| (self.arm, reason))
    }

    /// The revision of the configuration in use, once known.
    pub fn revision(&self) -> Option<http::HeaderValue> {
        self.snapshot.as_ref().map(|snapshot| snapshot.revision.clone())
    }

    /// A key of the pool was chosen.
    pub fn key(&mut self, name: Option<Arc<str>>) {
        self.key = name;
    }

    /// The provider is called now.
    pub fn sending(&mut self) -> Instant {
        let now = Instant::now();
        self.sent = Some(now);
        now
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

    /// The gateway's own fault.
    pub fn fault(&mut self, fault: Fault) {
        self.fault = Some(fault);
    }

    /// Bytes went to the client.
    pub fn sent_bytes(&mut self, bytes: usize) {
        self.response_bytes += bytes as u64;
    }

    /// The first event with output came.
    pub fn output(&mut self) {
        if self.first_output.is_none() {
            self.first_output = Some(self.received.elapsed());
        }
    }

    /// The provider named its tokens.
    pub fn usage(&mut self, usage: Usage) {
        self.usage = usage;
    }

    /// The answer went out to its end.
    pub fn complete(&mut self) {
        self.complete = true;
    }

    fn endpoint(&self) -> &'static str {
        match self.kind {
            Some(Kind::Json(endpoint)) => {
                let (plain, streamed) = Endpoint::method_labels(endpoint);
                if self.stream { streamed } else { plain }
            }
            Some(Kind::Models) => "list_models",
            Some(Kind::Raw) => "other",
            Some(Kind::Account) => "account",
            None => "",
        }
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        let now = Instant::now();
        let upstream = self.snapshot.as_ref().map(|snapshot| &snapshot.upstreams[self.upstream]);
        let answered = self.answered;
        self.shard.recorder.record(&Outcome {
            front: self.front.map_or("", Front::name),
            endpoint: self.endpoint(),
            path: self.path,
            http_method: self.method.as_str(),
            provider: upstream.map_or("", |upstream| &upstream.name),
            model: &self.model,
            arm: self.arm,
            reason: self.reason.map_or("", Reason::as_str),
            eligible: self.reason.is_some_and(Reason::is_eligible),
            epoch: self.snapshot.as_ref().map_or(0, |snapshot| snapshot.traffic().epoch),
            status: self.status.map_or(0, |status| status.as_u16()),
            error_code: self.fault.map(Fault::code),
            key_name: self.key.as_deref().unwrap_or_default(),
            stream: self.stream,
            total: now - self.began,
            upstream_latency: self.sent.filter(|_| answered).map(|sent| now - sent),
            first_output: self.first_output,
            request_bytes: self.request_bytes,
            response_bytes: self.response_bytes,
            input_tokens: self.usage.input_tokens,
            output_tokens: self.usage.output_tokens,
            client_gone: !self.complete && self.fault.is_none(),
        });
    }
}
