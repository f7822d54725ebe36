//! Admit: the gateway's own pages, and what no later phase could serve.

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode};
use hyper::body::{Body, Incoming};

use super::Inbound;
use crate::admin::{HEALTH, HEALTH_PATH};
use crate::front::error::{Fault, GatewayError};
use crate::front::route::NoRoute;
use crate::server::drain::Stage;
use crate::server::shard::LocalSnapshot;
use crate::server::{Door, Shard};
use crate::snapshot::Snapshot;

/// A page of the gateway's own.
pub struct OwnPage {
    /// Status.
    pub status: StatusCode,
    /// `content-type`
    pub content_type: HeaderValue,
    /// The body.
    pub body: Bytes,
    /// The path, as metrics name it.
    pub path: &'static str,
}

/// `/health`, and `/metrics` where applications may see it.
pub async fn own_page(shard: &Shard, door: Door, method: &Method, path: &str) -> Option<OwnPage> {
    // Every page of a front lies deeper, so that requests of applications pay one comparison.
    if path.len() > 8 || door == Door::Forwarded || (method != Method::GET && method != Method::HEAD) {
        return None;
    }
    match path {
        HEALTH_PATH => Some(health()),
        "/metrics" if door == Door::Main => {
            let metrics = shard.shared.metrics_for_apps.clone()?;
            Some(OwnPage {
                status: StatusCode::OK,
                content_type: HeaderValue::from_static(crate::telemetry::CONTENT_TYPE),
                body: metrics.render().await.into(),
                path: "/metrics",
            })
        }
        _ => None,
    }
}

/// The page at [`HEALTH_PATH`].
pub fn health() -> OwnPage {
    OwnPage {
        status: StatusCode::OK,
        content_type: HeaderValue::from_static("application/json"),
        body: Bytes::from_static(HEALTH.as_bytes()),
        path: HEALTH_PATH,
    }
}

/// The answer to a path that leads nowhere.
pub fn no_route(no_route: NoRoute, path: &str) -> GatewayError {
    match no_route {
        NoRoute::UnknownFront => GatewayError::new(
            Fault::UnknownPath,
            format!("nothing is served at {}: base URLs of this gateway end in /openai or /anthropic", shorten(path)),
        ),
        NoRoute::Unsafe => GatewayError::new(
            Fault::UnsafePath,
            "the path has empty, relative or encoded segments: send it spelled out",
        ),
    }
}

/// The configuration that a request will see to its end.
pub fn configuration(shard: &Shard) -> Result<LocalSnapshot, GatewayError> {
    if shard.shared.drain.stage() == Stage::Cutoff {
        return Err(GatewayError::new(
            Fault::ShuttingDown,
            "this gateway pod is shutting down: send the request again",
        ));
    }
    shard.snapshot().ok_or_else(|| {
        GatewayError::new(
            Fault::NotReady,
            "this gateway pod has not loaded its configuration yet: send the request again",
        )
    })
}

/// Lets a request in.
pub fn admit(inbound: &Inbound<'_>, body: &Incoming, snapshot: &Snapshot) -> Result<(), GatewayError> {
    if inbound.head.get("upgrade").is_some_and(|value| value.eq_ignore_ascii_case(b"websocket")) {
        return Err(GatewayError::new(
            Fault::UpgradeNotServed,
            "WebSocket upgrades are not served yet: use HTTP with server-sent events",
        ));
    }
    if body.size_hint().lower() > snapshot.most_request_body() {
        return Err(too_large(snapshot));
    }
    Ok(())
}

/// Whether a body of so many bytes, as far as that is known, may go to the revision that serves it: it was read under the larger limit
/// of two.
pub fn fits(bytes: u64, snapshot: &Snapshot) -> Result<(), GatewayError> {
    if bytes > snapshot.max_request_body() { Err(too_large(snapshot)) } else { Ok(()) }
}

/// The answer to a body over the limit.
pub fn too_large(snapshot: &Snapshot) -> GatewayError {
    let limit = snapshot.max_request_body();
    let place = match &snapshot.parts.file {
        Some(file) => format!("client.max_request_body_size_mb in {file}"),
        None => "spec.config.client.maxRequestBody of the BifrostGateway".to_owned(),
    };
    GatewayError::new(
        Fault::BodyTooLarge,
        format!("the request's body is larger than {limit} bytes, the limit set by {place}"),
    )
}

/// A path for a message: its start.
fn shorten(path: &str) -> String {
    path.chars().take(80).collect()
}
