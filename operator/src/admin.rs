//! Health and metrics over HTTP: `/livez`, `/readyz`, `/metrics`.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::watch;

use crate::metrics::Metrics;

/// What the handlers look at.
#[derive(Clone)]
pub struct Admin {
    /// The metrics to show.
    pub metrics: Arc<Metrics>,
    /// Whether the process can do its work, or take over when its turn comes.
    pub ready: Arc<dyn Fn() -> bool + Send + Sync>,
}

/// Serves until `stop` turns true.
pub async fn serve(address: SocketAddr, admin: Admin, mut stop: watch::Receiver<bool>) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::bind(address).await?;
    let stopped = async move {
        // An error means that the sender is gone: the process ends as well.
        let _ = stop.wait_for(|stop| *stop).await;
    };
    axum::serve(listener, router(admin)).with_graceful_shutdown(stopped).await
}

fn router(admin: Admin) -> Router {
    Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(admin)
}

async fn readyz(State(admin): State<Admin>) -> (StatusCode, &'static str) {
    match (admin.ready)() {
        true => (StatusCode::OK, "ok\n"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "waiting for the API server\n"),
    }
}

async fn metrics(State(admin): State<Admin>) -> Response {
    match admin.metrics.render() {
        Ok(text) => ([(CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
