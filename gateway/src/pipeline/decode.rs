//! Decode: the request's body in memory or as a stream, what is in it, and the body that goes to the vendor.

use bifrost_wire::{Part, Peek, PeekError, Splice, StreamFormat};
use bytes::Bytes;
use hyper::body::{Body, Incoming};
use smallvec::SmallVec;

use super::admit::too_large;
use super::choose::Choice;
use super::{Arm, Inbound};
use crate::deadline::Deadline;
use crate::front::error::{Fault, GatewayError};
use crate::front::route::{Endpoint, Kind};
use crate::http::{BodyError, collect};
use crate::server::Shard;
use crate::snapshot::{NoKey, Snapshot, Upstream};

/// A larger body is peeked at on another thread: on this one it would hold up all others for more than a millisecond.
const LARGE: usize = 1 << 20;

/// A request's body.
pub enum RequestBody {
    /// In memory.
    Whole(Bytes),
    /// Not read yet.
    Stream(Incoming),
}

/// How a request is carried out.
pub struct Plan {
    /// Index of the provider.
    pub upstream: usize,
    /// The arm.
    pub arm: Arm,
    /// Index of the pool's key among the provider's.
    pub key: Option<usize>,
    /// The parts of the body where it is not the client's own.
    pub rewritten: Option<SmallVec<[Bytes; 1]>>,
    /// Whether the client asked for a stream.
    pub stream: bool,
    /// How its answer is read.
    pub reading: Reading,
}

/// How an answer is looked at while it passes.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    /// Whose answer it is.
    pub whose: Whose,
    /// Whether the usage chunk was asked for by the gateway, and so must not reach the client.
    pub drop_usage_chunk: bool,
    /// Whether the tool calls in it are looked at: the request names tools, and somebody asks for it.
    pub tool_calls: bool,
    /// Whether it is looked at for being empty: somebody asks for it.
    pub emptiness: bool,
    /// The form of the stream's events.
    pub format: Option<StreamFormat>,
}

/// Whose answer it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// A provider's, on an arm.
    Provider(Arm),
    /// That of a pod of the candidate, to which the request was forwarded.
    Candidate,
}

impl Reading {
    /// Of the answer to a request of this kind with this body.
    pub fn of(kind: Kind, peek: Option<&Peek<'_>>, whose: Whose, snapshot: &Snapshot) -> Self {
        let format = match kind {
            Kind::Json(endpoint) => stream_format(endpoint),
            _ => None,
        };
        let traffic = snapshot.traffic();
        let tool_calls = traffic.tool_calls && peek.is_some_and(|peek| peek.names_tools);
        Self { whose, drop_usage_chunk: false, tool_calls, emptiness: traffic.empty_answers, format }
    }

    /// Whether the bytes pass as they came, encoded or not.
    pub fn is_raw(&self) -> bool {
        self.whose != Whose::Provider(Arm::Bifrost)
    }
}

impl RequestBody {
    /// How many bytes are in memory.
    pub fn bytes_in_memory(&self) -> usize {
        match self {
            Self::Whole(bytes) => bytes.len(),
            Self::Stream(_) => 0,
        }
    }

    /// What is in it, if it is in memory.
    pub async fn peek(&self) -> Option<Result<Peek<'_>, PeekError>> {
        match self {
            Self::Whole(bytes) if bytes.len() > LARGE => {
                let bytes = bytes.clone();
                let peeked = tokio::task::spawn_blocking(move || bifrost_wire::peek(&bytes).map(Peek::into_owned));
                Some(peeked.await.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic())))
            }
            Self::Whole(bytes) if !bytes.is_empty() => Some(bifrost_wire::peek(bytes)),
            Self::Whole(_) => Some(Err(PeekError::Empty)),
            Self::Stream(_) => None,
        }
    }
}

/// Reads a body whose content decides; leaves the others to be streamed. Nothing may wait before it: a pod of a candidate that does not
/// begin to read within seconds passes for one that hangs ([`super::forward`]).
pub async fn read(
    shard: &Shard,
    inbound: &Inbound<'_>,
    body: Incoming,
    snapshot: &Snapshot,
    deadline: &Deadline,
) -> Result<RequestBody, GatewayError> {
    // An encoded body cannot be peeked at; the baseline arm does not mind, the other says so.
    if !matches!(inbound.route.kind, Kind::Json(_)) || inbound.head.is_encoded() || body.is_end_stream() {
        return Ok(RequestBody::Stream(body));
    }
    match collect(body, snapshot.most_request_body(), &shard.shared.budget, deadline).await {
        Ok(bytes) => Ok(RequestBody::Whole(bytes)),
        Err(BodyError::TooLarge) => Err(too_large(snapshot)),
        Err(BodyError::OverMemory(total)) => Err(GatewayError::new(
            Fault::BodyTooLarge,
            format!(
                "the request's body is larger than the {total} bytes that this gateway pod may hold of all bodies: give it a higher memory limit"
            ),
        )),
        Err(BodyError::NoMemory) => Err(GatewayError::new(
            Fault::Overloaded,
            "this gateway pod holds as many request bytes as it may: send the request again in a second",
        )),
        Err(BodyError::Stalled) => {
            Err(GatewayError::new(Fault::BodyStalled, "no byte of the request's body came for 60 seconds"))
        }
        Err(BodyError::Broken) => Err(GatewayError::new(Fault::BodyBroken, "the request's body ended early")),
    }
}

/// Plans the attempt: key, renamed model, stream options. On the baseline arm nothing is changed and nothing is refused.
pub fn plan(
    inbound: &Inbound<'_>,
    choice: &Choice<'_>,
    body: &RequestBody,
    peeked: Option<&Result<Peek<'_>, PeekError>>,
    snapshot: &Snapshot,
) -> Result<Plan, GatewayError> {
    let endpoint = match inbound.route.kind {
        Kind::Json(endpoint) => Some(endpoint),
        _ => None,
    };
    let peek = peeked.and_then(|peeked| peeked.as_ref().ok());
    let mut plan = Plan {
        upstream: choice.upstream,
        arm: choice.arm,
        key: None,
        rewritten: None,
        stream: peek.is_some_and(Peek::is_stream),
        reading: Reading::of(inbound.route.kind, peek, Whose::Provider(choice.arm), snapshot),
    };
    if choice.arm == Arm::Baseline {
        return Ok(plan);
    }
    let upstream = &snapshot.upstreams[choice.upstream];
    if let Some(endpoint) = endpoint {
        understood(inbound, endpoint, choice, peeked)?;
    }
    let chance = fastrand::u64(..);
    let key = match (inbound.route.kind, choice.model) {
        (Kind::Models, _) => upstream.choose_key(None, chance),
        (_, Some(model)) => upstream.choose_key(Some(model), chance),
        (_, None) => upstream.choose_unrestricted_key(chance),
    };
    plan.key = Some(key.map_err(|no_key| key_fault(no_key, choice.model, upstream, snapshot))?);
    if let (RequestBody::Whole(bytes), Some(peek)) = (body, peek) {
        rewrite(&mut plan, bytes, peek, choice, upstream);
    }
    Ok(plan)
}

fn rewrite(plan: &mut Plan, bytes: &Bytes, peek: &Peek<'_>, choice: &Choice<'_>, upstream: &Upstream) {
    let asks_for_usage = plan.stream
        && upstream.vendor.stream_usage_on_request
        && plan.reading.format == Some(StreamFormat::OpenAiChat)
        && !peek.asks_for_usage();
    let mut splice = Splice::new(bytes);
    // The gateway's own member: a vendor would refuse it.
    if let Some(fallbacks) = &peek.fallbacks {
        splice.remove(&fallbacks.span);
    }
    if choice.renamed
        && let Some(model) = choice.model
    {
        splice.rename_model(peek, model);
    }
    plan.reading.drop_usage_chunk = asks_for_usage && splice.request_usage(peek);
    // Most bodies go on as they are.
    if !splice.is_unchanged() {
        let bytes = |part| match part {
            Part::Kept(range) => bytes.slice(range),
            Part::New(new) => Bytes::copy_from_slice(new),
        };
        plan.rewritten = Some(splice.parts().into_iter().map(bytes).collect());
    }
}

/// Refuses on the bifrost arm what vendor and gateway could read differently, and what names no model where one is needed.
fn understood(
    inbound: &Inbound<'_>,
    endpoint: Endpoint,
    choice: &Choice<'_>,
    peeked: Option<&Result<Peek<'_>, PeekError>>,
) -> Result<(), GatewayError> {
    match peeked {
        None if inbound.head.is_encoded() => {
            return Err(GatewayError::new(
                Fault::EncodedBody,
                "the request's body has a content-encoding: send it as plain JSON",
            ));
        }
        None => return Err(GatewayError::new(Fault::InvalidBody, "the request has no body: send a JSON object")),
        Some(Err(error)) => {
            let fault = if error.is_no_object() { Fault::InvalidBody } else { Fault::DisputedBody };
            return Err(GatewayError::new(fault, format!("the request's body cannot be used: {error}")));
        }
        Some(Ok(_)) => {}
    }
    let optional = matches!(endpoint, Endpoint::OtherJson | Endpoint::Responses);
    if choice.model.is_none_or(str::is_empty) && !optional {
        return Err(GatewayError::new(Fault::ModelMissing, "the member \"model\" is missing: name the model to call"));
    }
    Ok(())
}

pub(crate) fn stream_format(endpoint: Endpoint) -> Option<StreamFormat> {
    match endpoint {
        Endpoint::ChatCompletions | Endpoint::Completions => Some(StreamFormat::OpenAiChat),
        Endpoint::Responses => Some(StreamFormat::OpenAiResponses),
        Endpoint::Messages => Some(StreamFormat::AnthropicMessages),
        Endpoint::Embeddings | Endpoint::CountTokens | Endpoint::OtherJson => None,
    }
}

fn key_fault(no_key: NoKey, model: Option<&str>, upstream: &Upstream, snapshot: &Snapshot) -> GatewayError {
    let provider = &*upstream.name;
    let file = snapshot.parts.file.as_deref();
    // Its start tells which: a caller may send a name of megabytes.
    let model = model.map(|model| &model[..model.floor_char_boundary(200)]);
    match (no_key, model, file) {
        (NoKey::ModelNotListed, Some(model), Some(file)) => GatewayError::new(
            Fault::ModelNotFound,
            format!(
                "model {model:?} is not served: no key of provider {provider:?} lists it. Add it to \"models\" of a key in {file}"
            ),
        ),
        (NoKey::ModelNotListed, Some(model), None) => GatewayError::new(
            Fault::ModelNotFound,
            format!("model {model:?} is not served: no ProviderKey of provider {provider:?} lists it in spec.models"),
        ),
        (NoKey::ModelNotListed, None, _) => GatewayError::new(
            Fault::ModelUnseen,
            format!(
                "every key of provider {provider:?} is for listed models only, and the model of this request cannot be seen: name it in a JSON member \"model\", or add a key without a list"
            ),
        ),
        (NoKey::NoneConfigured, _, Some(file)) => GatewayError::new(
            Fault::NoKey,
            format!("provider {provider:?} has no enabled key: add one to its \"keys\" in {file}"),
        ),
        (NoKey::NoneConfigured, _, None) => GatewayError::new(
            Fault::NoKey,
            format!(
                "provider {provider:?} has no key in use: its ProviderKeys are missing, disabled or without a value, `kubectl get providerkeys` says which"
            ),
        ),
        (NoKey::ValueMissing, ..) => GatewayError::new(
            Fault::NoKey,
            format!(
                "the keys of provider {provider:?} have no value yet: the conditions of its ProviderKeys say which Secret is missing"
            ),
        ),
    }
}
