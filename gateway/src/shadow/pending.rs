//! What is kept of a request that may be copied, from before it is sent until it was answered.

use std::rc::Rc;
use std::time::Duration;

use bifrost_wire::Usage;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use super::choose::{Skip, is_chosen, skip_at_once};
use super::run::run;
use crate::front::route::Endpoint;
use crate::http::Inflate;
use crate::memory::Charge;
use crate::pipeline::choose::Choice;
use crate::pipeline::decode::RequestBody;
use crate::pipeline::{Inbound, Reason};
use crate::server::Shard;
use crate::snapshot::Snapshot;
use crate::telemetry::Arm;

/// Most bytes of an answer that are kept for the comparison.
pub(super) const KEPT: usize = 256 * 1024;
/// Room for the headers and what else is kept.
const REST: usize = 16 * 1024;
/// With the same key a vendor would give the first answer again, or refuse.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The request, to be sent once more.
pub(super) struct Kept {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) query: Option<String>,
    /// As they came, but for what a copy must say otherwise.
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) endpoint: Endpoint,
    pub(super) reason: Reason,
    pub(super) hash: u64,
    /// Of the traffic table that decided the request.
    pub(super) epoch: u64,
    /// The arm of the copy.
    pub(super) to: Arm,
}

/// The answer that the client got.
#[derive(Debug, Clone, Copy)]
pub struct First {
    /// Status.
    pub status: StatusCode,
    /// Whether it was a stream.
    pub stream: bool,
    /// Whether it came to its regular end, without an error in it.
    pub whole: bool,
    /// From the request's last byte to the answer's last.
    pub time: Duration,
    /// Tokens, as far as the vendor named them.
    pub usage: Option<Usage>,
}

/// A request that may be copied once it was answered. Dropped before that, it is not.
pub struct Pending {
    pub(super) shard: Rc<Shard>,
    kept: Option<Kept>,
    answer: Vec<u8>,
    is_readable: bool,
    charge: Option<Charge>,
}

impl Pending {
    /// Chooses. What is kept is charged to the spare half of the byte budget; without room nothing is.
    pub fn of(
        shard: &Rc<Shard>,
        inbound: &Inbound<'_>,
        choice: &Choice<'_>,
        body: &RequestBody,
        method: &Method,
        snapshot: &Snapshot,
    ) -> Option<Box<Self>> {
        let shadow = snapshot.traffic().shadow.as_ref()?;
        let endpoint = is_chosen(shadow, choice, inbound.route.kind, fastrand::u32(..))?;
        let book = shard.shared.gatherer.shadow();
        let charge = skip_at_once(shadow, &inbound.head, body).and_then(|()| {
            let bytes = body.bytes_in_memory() + 2 * KEPT + REST;
            shard.shared.budget.try_charge_spare(bytes as u64).ok_or(Skip::Memory)
        });
        let charge = match charge {
            Ok(charge) => charge,
            Err(skip) => {
                book.skip(skip);
                return None;
            }
        };
        let RequestBody::Whole(body) = body else { return None };
        let mut headers = inbound.head.lines_of_all();
        headers.remove(IDEMPOTENCY_KEY);
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let kept = Kept {
            method: method.clone(),
            path: format!("/{}{}", inbound.route.front.name(), inbound.route.rest),
            query: inbound.query.map(str::to_owned),
            headers,
            body: body.clone(),
            endpoint,
            reason: choice.reason,
            hash: choice.hash,
            epoch: snapshot.traffic().epoch,
            to: super::choose::other_arm(shadow.of),
        };
        Some(Box::new(Self {
            shard: shard.clone(),
            kept: Some(kept),
            answer: Vec::new(),
            is_readable: true,
            charge: Some(charge),
        }))
    }

    /// Takes note of bytes of the answer.
    pub fn watch(&mut self, bytes: &[u8]) {
        if self.is_readable && self.answer.len() + bytes.len() <= KEPT {
            self.answer.extend_from_slice(bytes);
        } else {
            self.give_up();
        }
    }

    /// The same of what was inflated, if it was.
    pub fn watch_inflated(&mut self, bytes: &[u8], inflate: Option<&Inflate>) {
        match inflate {
            Some(inflate) if inflate.has_given_up() => self.give_up(),
            _ => self.watch(bytes),
        }
    }

    /// The answer cannot be read.
    pub fn give_up(&mut self) {
        self.is_readable = false;
        self.answer = Vec::new();
    }

    /// The answer is over: now the copy may begin.
    pub fn begin(mut self: Box<Self>, first: First) {
        if !first.status.is_success() || !first.whole {
            return;
        }
        let Some(kept) = self.kept.take() else { return };
        if !self.is_readable || self.answer.is_empty() {
            return self.shard.shared.gatherer.shadow().skip(Skip::Answer);
        }
        let (shard, answer, charge) = (self.shard.clone(), std::mem::take(&mut self.answer), self.charge.take());
        // A task of its own: the client's is not held up, and a panic there is the copy's end only.
        tokio::task::spawn_local(async move {
            run(shard, kept, first, answer).await;
            drop(charge);
        });
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if self.kept.is_some() {
            self.shard.shared.gatherer.shadow().skip(Skip::Unanswered);
        }
    }
}
