//! A private CA and a server certificate, as files, for the vendors' names.

use std::{
    io,
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// Why certificates could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CertError {
    /// A name is no DNS name or address, or signing failed.
    #[error("cannot make the certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// A file could not be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The files that [`make_certs`] wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertFiles {
    /// `ca.crt`: what clients must trust.
    pub ca: PathBuf,
    /// `tls.crt`: the server's certificate.
    pub cert: PathBuf,
    /// `tls.key`: its key.
    pub key: PathBuf,
}

/// Writes `ca.crt`, `tls.crt` and `tls.key` (PEM) into the folder `out`, which is made if need be. The CA's own key is
/// thrown away. `hosts` are DNS names or addresses.
pub fn make_certs(out: &Path, hosts: &[String]) -> Result<CertFiles, CertError> {
    let ca_key = KeyPair::generate()?;
    let ca_params = ca_params()?;
    let ca = ca_params.self_signed(&ca_key)?;
    let key = KeyPair::generate()?;
    let leaf = leaf_params(hosts)?.signed_by(&key, &Issuer::from_params(&ca_params, &ca_key))?;

    std::fs::create_dir_all(out).map_err(|source| CertError::Write { path: out.to_owned(), source })?;
    Ok(CertFiles {
        ca: write(out, "ca.crt", &ca.pem())?,
        cert: write(out, "tls.crt", &leaf.pem())?,
        key: write(out, "tls.key", &key.serialize_pem())?,
    })
}

fn ca_params() -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = named("Fake provider CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn leaf_params(hosts: &[String]) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(hosts.to_vec())?;
    params.distinguished_name = named("Fake provider");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn named(name: &str) -> DistinguishedName {
    let mut of = DistinguishedName::new();
    of.push(DnType::CommonName, name);
    of
}

fn write(out: &Path, name: &str, text: &str) -> Result<PathBuf, CertError> {
    let path = out.join(name);
    match std::fs::write(&path, text) {
        Ok(()) => Ok(path),
        Err(source) => Err(CertError::Write { path, source }),
    }
}
