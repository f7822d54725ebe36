//! How the operator speaks TLS with others than the API server: with the roots that are compiled in, as its image has none.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};

/// For clients of HTTP.
pub fn config() -> Result<ClientConfig, rustls::Error> {
    let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
