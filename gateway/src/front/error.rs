//! Errors that the gateway itself answers with: one table from fault to status, code and words, in each front's own shape.

use bifrost_config::catalog::Front;
use http::{HeaderValue, StatusCode};

/// A fault with everything a client needs to act on it.
#[derive(Debug, Clone)]
pub struct GatewayError {
    /// The class; decides status, code and the vendor's word for it.
    pub fault: Fault,
    /// One sentence for the application's developer, with the way out. Never holds key material.
    pub message: String,
}

/// The classes of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The body is no JSON object: the provider would refuse it as well.
    InvalidBody,
    /// The body is JSON, but not what every parser would read the same way.
    DisputedBody,
    /// `model` is missing.
    ModelMissing,
    /// The model cannot be seen, and every key is for some models only.
    ModelUnseen,
    /// The model is not served.
    ModelNotFound,
    /// Several providers could be meant.
    AmbiguousProvider,
    /// No provider of the front's type.
    ProviderNotConfigured,
    /// The provider speaks another format than the front.
    FormatNotServed,
    /// WebSocket upgrades.
    UpgradeNotServed,
    /// The header that asks for an arm names none.
    InvalidArm,
    /// The preview's port, and no preview.
    NoPreview,
    /// The preview's port, and only the active colour could serve it.
    NotInPreview,
    /// The path leads nowhere.
    UnknownPath,
    /// The path is spelled so that readers disagree about it.
    UnsafePath,
    /// An account's path without the caller's own credential.
    CredentialRequired,
    /// The request's body is encoded.
    EncodedBody,
    /// Over `maxRequestBody`.
    BodyTooLarge,
    /// The client stopped sending.
    BodyStalled,
    /// The client's body broke off.
    BodyBroken,
    /// The pool has no key for this.
    NoKey,
    /// The vendor refused the pool's key.
    CredentialsRejected,
    /// No connection to the provider.
    UpstreamUnreachable,
    /// The connection to the provider broke before its answer.
    UpstreamBroken,
    /// The provider broke off in mid-stream.
    StreamBroken,
    /// The provider did not answer in time.
    UpstreamTimeout,
    /// The candidate's pods did not take a request that cannot be sent twice, or refused it.
    CandidateFailed,
    /// A pod was asked for a revision that it does not serve.
    WrongRevision,
    /// The byte budget is used up.
    Overloaded,
    /// No configuration yet.
    NotReady,
    /// The pod is going away.
    ShuttingDown,
}

/// One row of the table.
struct Row {
    status: StatusCode,
    code: &'static str,
    openai: &'static str,
    anthropic: &'static str,
}

const fn row(status: StatusCode, code: &'static str, openai: &'static str, anthropic: &'static str) -> Row {
    Row { status, code, openai, anthropic }
}

const BAD: &str = "invalid_request_error";
const SERVER: &str = "server_error";
const API: &str = "api_error";

impl Fault {
    const fn row(self) -> Row {
        match self {
            Self::InvalidBody | Self::DisputedBody => row(StatusCode::BAD_REQUEST, "invalid_body", BAD, BAD),
            Self::ModelMissing | Self::ModelUnseen => row(StatusCode::BAD_REQUEST, "model_missing", BAD, BAD),
            Self::ModelNotFound => row(StatusCode::NOT_FOUND, "model_not_found", BAD, "not_found_error"),
            Self::AmbiguousProvider => row(StatusCode::BAD_REQUEST, "ambiguous_provider", BAD, BAD),
            Self::ProviderNotConfigured => {
                row(StatusCode::NOT_FOUND, "provider_not_configured", BAD, "not_found_error")
            }
            Self::FormatNotServed => row(StatusCode::NOT_IMPLEMENTED, "format_not_served", BAD, BAD),
            Self::UpgradeNotServed => row(StatusCode::NOT_IMPLEMENTED, "upgrade_not_served", BAD, BAD),
            Self::InvalidArm => row(StatusCode::BAD_REQUEST, "invalid_arm", BAD, BAD),
            Self::NoPreview => row(StatusCode::SERVICE_UNAVAILABLE, "no_preview", SERVER, API),
            Self::NotInPreview => row(StatusCode::BAD_REQUEST, "not_in_preview", BAD, BAD),
            Self::UnknownPath => row(StatusCode::NOT_FOUND, "unknown_path", BAD, "not_found_error"),
            Self::UnsafePath => row(StatusCode::BAD_REQUEST, "unsafe_path", BAD, BAD),
            Self::CredentialRequired => row(StatusCode::FORBIDDEN, "credential_required", BAD, "permission_error"),
            Self::EncodedBody => row(StatusCode::UNSUPPORTED_MEDIA_TYPE, "encoded_body", BAD, BAD),
            Self::BodyTooLarge => row(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", BAD, "request_too_large"),
            Self::BodyStalled => row(StatusCode::REQUEST_TIMEOUT, "body_stalled", BAD, BAD),
            Self::BodyBroken => row(StatusCode::BAD_REQUEST, "body_broken", BAD, BAD),
            Self::NoKey => row(StatusCode::SERVICE_UNAVAILABLE, "no_provider_key", SERVER, API),
            Self::CredentialsRejected => row(StatusCode::BAD_GATEWAY, "upstream_credentials_rejected", SERVER, API),
            Self::UpstreamUnreachable => row(StatusCode::BAD_GATEWAY, "upstream_unreachable", SERVER, API),
            Self::UpstreamBroken => row(StatusCode::BAD_GATEWAY, "upstream_broken", SERVER, API),
            Self::StreamBroken => row(StatusCode::BAD_GATEWAY, "upstream_stream_broken", SERVER, API),
            Self::UpstreamTimeout => row(StatusCode::GATEWAY_TIMEOUT, "upstream_timeout", SERVER, "timeout_error"),
            Self::CandidateFailed => row(StatusCode::SERVICE_UNAVAILABLE, "candidate_failed", SERVER, API),
            Self::WrongRevision => row(StatusCode::MISDIRECTED_REQUEST, "wrong_revision", SERVER, API),
            Self::Overloaded => row(StatusCode::SERVICE_UNAVAILABLE, "overloaded", SERVER, "overloaded_error"),
            Self::NotReady => row(StatusCode::SERVICE_UNAVAILABLE, "not_ready", SERVER, API),
            Self::ShuttingDown => row(StatusCode::SERVICE_UNAVAILABLE, "shutting_down", SERVER, API),
        }
    }

    /// HTTP status.
    pub const fn status(self) -> StatusCode {
        self.row().status
    }

    /// Stable code, also the label in metrics.
    pub const fn code(self) -> &'static str {
        self.row().code
    }

    /// Whether the SDKs' own retry makes sense. What the gateway tried in full must not be multiplied by them.
    pub const fn should_retry(self) -> Option<bool> {
        match self {
            Self::FormatNotServed
            | Self::UpgradeNotServed
            | Self::NoPreview
            | Self::UpstreamTimeout
            | Self::NoKey
            | Self::CredentialsRejected
            | Self::UpstreamUnreachable
            | Self::UpstreamBroken => Some(false),
            Self::CandidateFailed | Self::Overloaded | Self::NotReady | Self::ShuttingDown => Some(true),
            _ => None,
        }
    }
}

impl GatewayError {
    /// A fault and its sentence.
    pub fn new(fault: Fault, message: impl Into<String>) -> Self {
        Self { fault, message: message.into() }
    }

    /// The body in the front's shape.
    pub fn body(&self, front: Front, request_id: &str) -> Vec<u8> {
        let row = self.fault.row();
        bifrost_wire::error_body(wire_front(front), row.word(front), row.code, &self.message, Some(request_id))
    }

    /// The event that ends a stream, in the front's shape.
    pub fn event(&self, front: Front, request_id: &str) -> Vec<u8> {
        let row = self.fault.row();
        bifrost_wire::error_event(wire_front(front), row.word(front), row.code, &self.message, Some(request_id))
    }

    /// How long a client should wait before it tries again.
    pub fn retry_after(&self) -> Option<HeaderValue> {
        matches!(self.fault, Fault::CandidateFailed | Fault::Overloaded | Fault::NotReady | Fault::ShuttingDown)
            .then(|| HeaderValue::from_static("1"))
    }
}

impl Row {
    const fn word(&self, front: Front) -> &'static str {
        match front {
            Front::OpenAI => self.openai,
            Front::Anthropic => self.anthropic,
        }
    }
}

const fn wire_front(front: Front) -> bifrost_wire::Front {
    match front {
        Front::OpenAI => bifrost_wire::Front::OpenAi,
        Front::Anthropic => bifrost_wire::Front::Anthropic,
    }
}
