//! The TLS side of the HTTPS listener: any server name, HTTP/1.1 only.

use std::sync::Arc;

use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

use super::StartError;
use crate::config::TlsFiles;

pub(super) fn server_config(files: &TlsFiles) -> Result<Arc<ServerConfig>, StartError> {
    let failed =
        |what: &dyn std::fmt::Display, path: &std::path::Path| StartError::Tls(format!("{}: {what}", path.display()));
    let chain = CertificateDer::pem_file_iter(&files.cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|e| failed(&e, &files.cert))?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|e| failed(&e, &files.key))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|e| failed(&e, &files.cert))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
