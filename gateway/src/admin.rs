//! The admin port: health, metrics, the pod's own state. Never on the applications' Service.
//!
//! Health and metrics hold no secret and are open; state, refresh and analysis ask for the gateway's admin token, which only the operator
//! has.

pub mod reach;

use std::fmt;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use bifrost_config::SecretValue;
use bifrost_config::report::{ANALYSIS_PATH, PATH as STATE_PATH, REFRESH_PATH, ROLLOUT_ANALYSIS_PATH};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use self::reach::Reach;
use crate::source::Store;
use crate::source::kubernetes::ClusterHandle;
use crate::telemetry::{CONTENT_TYPE, Comparison, Gatherer, Heartbeats, Metrics};

/// Where [`HEALTH`] is.
pub const HEALTH_PATH: &str = "/health";
/// The body of `/health`, here and on the applications' port, in the form of the guide's product.
pub const HEALTH: &str = r#"{"status":"ok","components":{}}"#;

/// Most connections at one time. Probes, scrapers and the operator need a handful; the rest is room, so that some that hang do
/// not keep a probe out.
const MAX_CONNECTIONS: usize = 256;
/// From the end of one request, or the start, to the end of the next one's head.
const IDLE: Duration = Duration::from_secs(20);
/// Bytes of a request's head.
const MAX_HEAD: usize = 16 * 1024;
/// Headers of a request.
const MAX_HEADERS: usize = 64;
/// A whole connection: none needs to be older, and one whose client reads nothing ends.
const MAX_AGE: Duration = Duration::from_secs(3600);

/// What the admin port shows.
pub struct Admin {
    /// The configuration in use.
    pub store: Arc<Store>,
    /// The counters.
    pub gatherer: Arc<Gatherer>,
    /// What `/metrics` shows.
    pub metrics: Arc<Metrics>,
    /// Signs of life of the runtimes.
    pub heartbeats: Arc<Heartbeats>,
    /// Whether the pod is on its way out.
    pub is_draining: Box<dyn Fn() -> bool + Send + Sync>,
    /// Whether the candidate's own pods are reached.
    pub reach: Reach,
    /// The cluster's source; none when standalone.
    pub cluster: Option<ClusterHandle>,
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").field("standalone", &self.cluster.is_none()).finish_non_exhaustive()
    }
}

/// The routes.
pub fn router(admin: Arc<Admin>) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route(HEALTH_PATH, get(|| async { ([(header::CONTENT_TYPE, "application/json")], HEALTH) }))
        .route("/metrics", get(metrics))
        .route(STATE_PATH, get(state))
        .route(REFRESH_PATH, post(refresh))
        .route(ANALYSIS_PATH, get(async |admin, headers| analysis(Comparison::Arms, admin, headers).await))
        .route(ROLLOUT_ANALYSIS_PATH, get(async |admin, headers| analysis(Comparison::Revisions, admin, headers).await))
        .with_state(admin)
}

/// Serves the admin port for as long as it is polled.
pub async fn serve(listener: TcpListener, admin: Arc<Admin>) {
    let router = router(admin);
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(permit) = connections.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let router = router.clone();
                tokio::spawn(async move {
                    // A connection that breaks is its client's affair; one that is too old is cut.
                    let _ = tokio::time::timeout(MAX_AGE, connection(stream, router)).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection to the admin port could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, router: Router) -> hyper::Result<()> {
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .max_header_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .await
}

/// Whether the process works: each runtime has shown a sign of life lately.
async fn livez(State(admin): State<Arc<Admin>>) -> (StatusCode, String) {
    match admin.heartbeats.silent() {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some((runtime, silence)) => {
            let text = format!("runtime {runtime} has been silent for {} s\n", silence.as_secs());
            (StatusCode::SERVICE_UNAVAILABLE, text)
        }
    }
}

/// Whether requests should come here.
async fn readyz(State(admin): State<Arc<Admin>>) -> (StatusCode, String) {
    if (admin.is_draining)() {
        return (StatusCode::SERVICE_UNAVAILABLE, "draining\n".to_owned());
    }
    if admin.store.is_ready() {
        return (StatusCode::OK, "ok\n".to_owned());
    }
    let problem = admin.store.problem().map(|problem| format!(": {problem}")).unwrap_or_default();
    (StatusCode::SERVICE_UNAVAILABLE, format!("no configuration yet{problem}\n"))
}

async fn metrics(State(admin): State<Arc<Admin>>) -> Response {
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], admin.metrics.render().await).into_response()
}

async fn state(State(admin): State<Arc<Admin>>, headers: HeaderMap) -> Result<Response, Refusal> {
    authorize(&admin, &headers)?;
    Ok(report(&admin).await)
}

/// Reads the ConfigMap and the Secret anew and answers with the state after that.
async fn refresh(State(admin): State<Arc<Admin>>, headers: HeaderMap) -> Result<Response, Refusal> {
    authorize(&admin, &headers)?;
    let cluster = admin.cluster.as_ref().ok_or(Refusal::Standalone)?;
    match cluster.refresh().await {
        Ok(()) => Ok(report(&admin).await),
        Err(error) => Ok((StatusCode::BAD_GATEWAY, format!("{error}\n")).into_response()),
    }
}

/// What the requests say of the arms since the split last changed, or of a rollout's revisions since the candidate got its share.
async fn analysis(
    comparison: Comparison,
    State(admin): State<Arc<Admin>>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    authorize(&admin, &headers)?;
    let report = admin.gatherer.window(comparison).await;
    // Elsewhere: it may be a megabyte, and this thread accepts connections.
    let written = tokio::task::spawn_blocking(move || Json(report).into_response()).await;
    Ok(written.unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response()))
}

async fn report(admin: &Admin) -> Response {
    let eligible = admin.gatherer.eligible().await;
    let reached = admin.reach.reached(admin.store.snapshot().as_deref()).await;
    Json(admin.store.report(eligible, reached)).into_response()
}

/// Why the guarded part stays closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    Standalone,
    NoTokenYet,
    WrongToken,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let text = match self {
            Self::Standalone => "there is no cluster: this gateway is configured by a file\n",
            Self::NoTokenYet => "the gateway's Secret has not brought an admin token yet\n",
            Self::WrongToken => {
                let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
                let text = "needs the gateway's admin token: Authorization: Bearer <token>\n";
                return (StatusCode::UNAUTHORIZED, challenge, text).into_response();
            }
        };
        (StatusCode::FORBIDDEN, text).into_response()
    }
}

fn authorize(admin: &Admin, headers: &HeaderMap) -> Result<(), Refusal> {
    if admin.cluster.is_none() {
        return Err(Refusal::Standalone);
    }
    let token = admin.store.admin_token().ok_or(Refusal::NoTokenYet)?;
    if is_authorized(headers, &token) { Ok(()) } else { Err(Refusal::WrongToken) }
}

fn is_authorized(headers: &HeaderMap, token: &SecretValue) -> bool {
    let shown = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '));
    shown.is_some_and(|(scheme, shown)| {
        scheme.eq_ignore_ascii_case("bearer") && equal(shown.trim().as_bytes(), token.expose().as_bytes())
    })
}

/// Compares in a time that depends on the lengths only.
fn equal(one: &[u8], other: &[u8]) -> bool {
    let difference = one.iter().zip(other).fold(0, |difference, (a, b)| black_box(difference | (a ^ b)));
    one.len() == other.len() && difference == 0
}

#[cfg(test)]
mod tests;
