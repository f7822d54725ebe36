//! HTTP calls to a gateway, through a port-forward or at an address, and to a vendor: the same client for all, so that their times
//! can be compared.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bifrost_config::{BaseUrl, Scheme};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::failure::{Failure, causes};

/// Port of the applications on a gateway's pods.
pub(crate) const APP_PORT: u16 = 8080;
/// Port of health and metrics.
pub(crate) const ADMIN_PORT: u16 = bifrost_config::report::ADMIN_PORT;
/// Longest time until a connection stands.
const CONNECT: Duration = Duration::from_secs(10);
/// Longest time of a call.
const CALL: Duration = Duration::from_secs(120);

/// How a server is reached.
#[derive(Clone)]
pub(crate) enum Way {
    /// Through the API server to a port of a pod.
    Pod(Box<Api<Pod>>, String, u16),
    /// At an address.
    Url(BaseUrl),
}

/// An open connection.
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    host: String,
}

/// A call.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) path: String,
    /// Not `Debug` safe where it holds a credential: it is never printed.
    pub(crate) headers: Vec<(&'static str, String)>,
    /// Empty: none.
    pub(crate) body: String,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) took: Duration,
}

impl Reply {
    /// A header's text; empty if it is not there.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

impl Way {
    /// What precedes the paths of a dialect's own server.
    pub(crate) fn prefix(&self) -> &str {
        match self {
            Self::Pod(..) => "",
            Self::Url(url) => &url.path,
        }
    }

    /// Opens a connection.
    pub(crate) async fn open(&self) -> Result<Connection, String> {
        let opening = async {
            match self {
                Self::Pod(pods, name, port) => {
                    let forward = pods.portforward(name, &[*port]).await;
                    let mut forward =
                        forward.map_err(|error| format!("no port-forward to pod {name}: {}", Failure::from(error)))?;
                    let stream = forward.take_stream(*port).ok_or("the port-forward has no stream")?;
                    connect(stream, "localhost".to_owned()).await
                }
                Self::Url(url) => dial(url).await,
            }
        };
        timeout(CONNECT, opening).await.map_err(|_| "no connection within 10s".to_owned())?
    }
}

async fn dial(url: &BaseUrl) -> Result<Connection, String> {
    let tcp = TcpStream::connect((url.host.as_str(), url.port)).await;
    let tcp = tcp.map_err(|error| format!("no connection to {}: {error}", url.authority()))?;
    // A request is small and complete: waiting for more of it only adds to its time.
    tcp.set_nodelay(true).map_err(|error| error.to_string())?;
    match url.scheme {
        Scheme::Http => connect(tcp, url.authority()).await,
        Scheme::Https => {
            let name = ServerName::try_from(url.host.clone()).map_err(|error| error.to_string())?;
            let tls = TlsConnector::from(Arc::new(tls()?)).connect(name, tcp).await;
            connect(tls.map_err(|error| format!("no TLS with {}: {error}", url.authority()))?, url.authority()).await
        }
    }
}

fn tls() -> Result<ClientConfig, String> {
    let file = std::env::var_os("SSL_CERT_FILE").filter(|name| !name.is_empty());
    let roots = roots(file.as_deref().map(Path::new))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    Ok(versions.map_err(|error| error.to_string())?.with_root_certificates(roots).with_no_client_auth())
}

/// The roots compiled in and, as in a gateway, those of the file that `SSL_CERT_FILE` names.
fn roots(file: Option<&Path>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(path) = file {
        let fault = |why: &dyn std::fmt::Display| format!("SSL_CERT_FILE {}: {why}", path.display());
        let certificates = CertificateDer::pem_file_iter(path).map_err(|error| fault(&error))?;
        // One odd certificate among a system's many is not the user's doing.
        if roots.add_parsable_certificates(certificates.filter_map(Result::ok)).0 == 0 {
            return Err(fault(&"holds no certificate that can be used"));
        }
    }
    Ok(roots)
}

async fn connect<S>(stream: S, host: String) -> Result<Connection, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    tokio::spawn(async move {
        // What ends the connection shows in the call that it ends.
        let _ = connection.await;
    });
    Ok(Connection { sender, host })
}

impl Connection {
    /// Sends a call and reads the answer to its end.
    pub(crate) async fn send(&mut self, call: &Call) -> Result<Reply, String> {
        timeout(CALL, self.exchange(call)).await.map_err(|_| "no answer within 2m".to_owned())?
    }

    async fn exchange(&mut self, call: &Call) -> Result<Reply, String> {
        let mut request = Request::builder().method(call.method.clone()).uri(&call.path);
        request = request.header("host", &self.host).header("user-agent", "kubectl-bifrost");
        for (name, value) in &call.headers {
            request = request.header(*name, value);
        }
        let request = request.body(Full::new(Bytes::from(call.body.clone())));
        // The error would show the header, and so the credential.
        let request = request.map_err(|_| "the path or a header holds what HTTP does not allow".to_owned())?;
        let began = Instant::now();
        self.sender.ready().await.map_err(|error| causes(&error))?;
        let answer = self.sender.send_request(request).await.map_err(|error| causes(&error))?;
        let (head, body) = answer.into_parts();
        let body = body.collect().await.map_err(|error| format!("the answer broke off: {}", causes(&error)))?;
        Ok(Reply { status: head.status, headers: head.headers, body: body.to_bytes(), took: began.elapsed() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_certificates_that_cannot_be_used_is_named() {
        assert_eq!(roots(None).unwrap().len(), webpki_roots::TLS_SERVER_ROOTS.len());
        for path in ["/nowhere/ca.pem", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")] {
            let error = roots(Some(Path::new(path))).unwrap_err();
            assert!(error.starts_with(&format!("SSL_CERT_FILE {path}: ")), "{error}");
        }
    }
}
