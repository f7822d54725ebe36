//! The requests to a pod's admin port.

use std::future::Future;
use std::time::Duration;

use bifrost_analysis::WindowReport;
use bifrost_config::Axis;
use bifrost_config::SecretValue;
use bifrost_config::report::{ADMIN_PORT, ANALYSIS_PATH, PATH, REFRESH_PATH, ROLLOUT_ANALYSIS_PATH, StateReport};
use serde::de::DeserializeOwned;

use super::Pod;

/// A pod in the same cluster answers in milliseconds; one that does not is asked again.
const TIMEOUT: Duration = Duration::from_secs(1);
/// A report is small; more than this is none.
const MAX_REPORT: usize = 1 << 20;
/// The counts of all strata, arms and groups of users.
const MAX_WINDOW: usize = 8 << 20;

/// Why a pod said nothing. The texts become part of conditions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PodError {
    /// No connection, or no answer in time.
    #[error("does not answer on port {ADMIN_PORT}")]
    Unreachable,
    /// The token is not known to the pod (yet).
    #[error("has not loaded this gateway's token yet")]
    Refused,
    /// Any other status, or something that is no report.
    #[error("gives no report of its state")]
    NoReport,
}

/// Asks pods. The tests play the pods.
pub trait PodClient: Clone + Send + Sync + 'static {
    /// The pod's report.
    fn state(&self, pod: &Pod, token: &SecretValue) -> impl Future<Output = Result<StateReport, PodError>> + Send;
    /// Makes the pod read its ConfigMap and Secret anew.
    fn refresh(&self, pod: &Pod, token: &SecretValue) -> impl Future<Output = Result<(), PodError>> + Send;
    /// What the pod counted for the analysis.
    fn window(&self, pod: &Pod, token: &SecretValue) -> impl Future<Output = Result<WindowReport, PodError>> + Send;
}

/// Pods over HTTP.
#[derive(Debug, Clone)]
pub struct HttpPods {
    client: reqwest::Client,
    windows: &'static str,
}

impl HttpPods {
    /// A client that goes straight to the pods, whatever proxies the environment names.
    pub fn new(tls: rustls::ClientConfig) -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder()
            // Pods speak plain HTTP, but a client that is left to itself reads the system's roots, and the image has none.
            .tls_backend_preconfigured(tls)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(TIMEOUT)
            .timeout(TIMEOUT)
            .pool_idle_timeout(Duration::from_secs(30))
            .build()?;
        Ok(Self { client, windows: ANALYSIS_PATH })
    }

    /// The same, asking for what was counted of this.
    #[must_use]
    pub fn counting(self, axis: Axis) -> Self {
        let windows = match axis {
            Axis::Migration => ANALYSIS_PATH,
            Axis::Rollout => ROLLOUT_ANALYSIS_PATH,
        };
        Self { windows, ..self }
    }
}

impl PodClient for HttpPods {
    async fn state(&self, pod: &Pod, token: &SecretValue) -> Result<StateReport, PodError> {
        let request = self.client.get(url(pod, PATH)).bearer_auth(token.expose());
        read(checked(request.send().await)?, MAX_REPORT).await
    }

    async fn refresh(&self, pod: &Pod, token: &SecretValue) -> Result<(), PodError> {
        let request = self.client.post(url(pod, REFRESH_PATH)).bearer_auth(token.expose());
        checked(request.send().await).map(drop)
    }

    async fn window(&self, pod: &Pod, token: &SecretValue) -> Result<WindowReport, PodError> {
        let request = self.client.get(url(pod, self.windows)).bearer_auth(token.expose());
        read(checked(request.send().await)?, MAX_WINDOW).await
    }
}

/// Reads a body that is JSON, as far as it may go.
async fn read<T: DeserializeOwned>(mut response: reqwest::Response, most: usize) -> Result<T, PodError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|_| PodError::Unreachable)? {
        if body.len() + chunk.len() > most {
            return Err(PodError::NoReport);
        }
        body.extend_from_slice(&chunk);
    }
    serde_json::from_slice(&body).map_err(|_| PodError::NoReport)
}

fn checked(response: Result<reqwest::Response, reqwest::Error>) -> Result<reqwest::Response, PodError> {
    let response = response.map_err(|_| PodError::Unreachable)?;
    match response.status().as_u16() {
        200..=299 => Ok(response),
        401 | 403 => Err(PodError::Refused),
        _ => Err(PodError::NoReport),
    }
}

fn url(pod: &Pod, path: &str) -> String {
    match pod.ip.contains(':') {
        true => format!("http://[{}]:{ADMIN_PORT}{path}", pod.ip),
        false => format!("http://{}:{ADMIN_PORT}{path}", pod.ip),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_both_families_make_urls() {
        let pod = |ip: &str| Pod { uid: "u".into(), name: "p".into(), ip: ip.into(), ready: true, of_candidate: false };
        assert_eq!(url(&pod("10.1.2.3"), PATH), "http://10.1.2.3:9090/state");
        assert_eq!(url(&pod("fd00::1"), PATH), "http://[fd00::1]:9090/state");
    }
}
