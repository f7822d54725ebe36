//! TLS towards the providers: which authorities are trusted, and one client configuration per set of them.
//!
//! Trusted are the roots compiled in, those of `SSL_CERT_FILE` (read once at the start) and the bundle of the configuration. A
//! rustls configuration holds the sessions it can resume, so it is kept over changes that leave the bundle as it is.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::Resumption;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// Configurations kept: stable and candidate, and the last of each before, so that going back resumes sessions.
const KEPT: usize = 4;

/// Servers whose sessions are remembered, times the eight tickets kept for each.
const SESSIONS: usize = 64 * 8;

/// Problems that one message lists.
const LISTED: usize = 5;

/// Why a set of roots cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file that `SSL_CERT_FILE` names cannot be read.
    #[error("SSL_CERT_FILE {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// There is text, but no certificate in it.
    #[error("{origin} holds no PEM certificate")]
    Empty {
        /// The bundle's name in messages.
        origin: &'static str,
    },
    /// Certificates that cannot be used.
    #[error("{origin}: {}", .problems.join("; "))]
    Certificates {
        /// The bundle's name in messages.
        origin: &'static str,
        /// One text per certificate, with its place in the bundle.
        problems: Vec<String>,
    },
    /// The TLS library refuses its own settings.
    #[error("TLS cannot be set up: {0}")]
    Setup(#[from] rustls::Error),
}

/// A bundle and the configuration made with it.
type Made = (Option<Box<str>>, Arc<ClientConfig>);

/// The roots every connection trusts, and the client configurations made from them. One per process.
pub struct TlsRoots {
    base: RootCertStore,
    /// By bundle, the latest last. Asked when a snapshot is built, not per request.
    made: Mutex<Vec<Made>>,
}

impl TlsRoots {
    /// The roots compiled in and those of the file that the environment variable `SSL_CERT_FILE` names.
    pub fn from_environment() -> Result<Self, TlsError> {
        let file = std::env::var_os("SSL_CERT_FILE").filter(|name| !name.is_empty());
        Self::with_file(file.as_deref().map(Path::new))
    }

    /// The roots compiled in and those of a PEM file.
    pub fn with_file(file: Option<&Path>) -> Result<Self, TlsError> {
        let mut base = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        if let Some(path) = file {
            let pem = std::fs::read(path).map_err(|source| TlsError::Unreadable { path: path.to_owned(), source })?;
            // What a system's bundle holds is not the user's doing: one odd certificate must not keep the gateway from starting.
            let problems = add(&mut base, &pem, "SSL_CERT_FILE")?;
            if !problems.is_empty() {
                tracing::warn!(file = %path.display(), problems = problems.join("; "), "certificates left out");
            }
        }
        Ok(Self { base, made: Mutex::default() })
    }

    /// The client configuration that also trusts `bundle` (PEM), the same one as long as the bundle's text is the same. Every
    /// certificate of the bundle must be usable; other PEM sections are passed over.
    pub fn client_config(&self, bundle: Option<&str>) -> Result<Arc<ClientConfig>, TlsError> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = made.iter().position(|(known, _)| known.as_deref() == bundle) {
            let entry = made.remove(at);
            let config = Arc::clone(&entry.1);
            made.push(entry);
            return Ok(config);
        }
        let config = Arc::new(self.build(bundle)?);
        if made.len() == KEPT {
            made.remove(0);
        }
        made.push((bundle.map(Box::from), Arc::clone(&config)));
        Ok(config)
    }

    /// The client configuration for `bundle`, or, where the bundle cannot be used, the one that was used last, and why. What comes
    /// with a bad bundle may be a rollback: it must not wait for better certificates.
    pub fn usable_config(&self, bundle: Option<&str>) -> Result<(Arc<ClientConfig>, Option<String>), TlsError> {
        let error = match self.client_config(bundle) {
            Ok(config) => return Ok((config, None)),
            Err(error) => error,
        };
        let last = self.made.lock().unwrap_or_else(PoisonError::into_inner).last().cloned();
        match last {
            Some((Some(_), config)) => Ok((config, Some(format!("{error}; the last certificates stay in use")))),
            Some((None, _)) | None => {
                Ok((self.client_config(None)?, Some(format!("{error}; only the built-in roots are trusted"))))
            }
        }
    }

    fn build(&self, bundle: Option<&str>) -> Result<ClientConfig, TlsError> {
        let mut roots = self.base.clone();
        if let Some(pem) = bundle {
            let origin = "the CA bundle";
            let problems = add(&mut roots, pem.as_bytes(), origin)?;
            if !problems.is_empty() {
                return Err(TlsError::Certificates { origin, problems });
            }
        }
        // Named rather than the process's default: the choice is this crate's and cannot be missing.
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
        Ok(config)
    }
}

/// Adds the certificates of a PEM text and returns what is wrong with the rest.
fn add(roots: &mut RootCertStore, pem: &[u8], origin: &'static str) -> Result<Vec<String>, TlsError> {
    let mut problems = Vec::new();
    let mut found = 0;
    for item in CertificateDer::pem_slice_iter(pem) {
        found += 1;
        let added = item.map_err(|error| error.to_string()).and_then(|der| {
            // The library's words for a bad certificate here are about a peer's: these are about the bundle.
            roots.add(der).map_err(|error| match error {
                rustls::Error::InvalidCertificate(reason) => format!("not a usable certificate ({reason})"),
                other => other.to_string(),
            })
        });
        if let Err(reason) = added {
            problems.push(format!("certificate {found}: {reason}"));
        }
    }
    if found == 0 {
        return Err(TlsError::Empty { origin });
    }
    if problems.len() > LISTED {
        let more = problems.len() - LISTED;
        problems.truncate(LISTED);
        problems.push(format!("and {more} more"));
    }
    Ok(problems)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn authority() -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.self_signed(&key).unwrap().pem()
    }

    #[test]
    fn a_configuration_is_kept_as_long_as_its_bundle_is_the_same() {
        let roots = TlsRoots::with_file(None).unwrap();
        let (first, second) = (authority(), authority());
        let plain = roots.client_config(None).unwrap();
        let with_first = roots.client_config(Some(&first)).unwrap();
        let with_second = roots.client_config(Some(&second)).unwrap();
        assert!(Arc::ptr_eq(&plain, &roots.client_config(None).unwrap()));
        assert!(Arc::ptr_eq(&with_first, &roots.client_config(Some(&first)).unwrap()));
        assert!(!Arc::ptr_eq(&with_first, &with_second));
        for _ in 0..KEPT {
            roots.client_config(Some(&authority())).unwrap();
        }
        assert!(!Arc::ptr_eq(&plain, &roots.client_config(None).unwrap()), "the number kept is bounded");
    }

    #[test]
    fn faults_of_a_bundle_are_listed_by_place() {
        let roots = TlsRoots::with_file(None).unwrap();
        let error = roots.client_config(Some("no certificate here")).unwrap_err();
        assert_eq!(error.to_string(), "the CA bundle holds no PEM certificate");
        let bad = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let error = roots.client_config(Some(&format!("{}{bad}{}", authority(), authority()))).unwrap_err().to_string();
        assert!(error.starts_with("the CA bundle: certificate 2: "), "{error}");
        let error = roots.client_config(Some(&bad.repeat(9))).unwrap_err().to_string();
        assert!(error.contains("certificate 5") && error.ends_with("and 4 more"), "{error}");
    }

    #[test]
    fn a_bad_bundle_leaves_the_last_roots_in_use() {
        let roots = TlsRoots::with_file(None).unwrap();
        let (builtin, problem) = roots.usable_config(Some("nothing")).unwrap();
        assert_eq!(
            problem.as_deref(),
            Some("the CA bundle holds no PEM certificate; only the built-in roots are trusted")
        );
        assert!(Arc::ptr_eq(&builtin, &roots.client_config(None).unwrap()));
        let (good, problem) = roots.usable_config(Some(&authority())).unwrap();
        assert_eq!(problem, None);
        let (kept, problem) = roots.usable_config(Some("nothing")).unwrap();
        assert!(Arc::ptr_eq(&good, &kept));
        assert!(problem.unwrap().ends_with("the last certificates stay in use"));
    }

    #[test]
    fn a_file_adds_to_the_roots_and_a_missing_one_is_an_error() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(authority().as_bytes()).unwrap();
        let roots = TlsRoots::with_file(Some(file.path())).unwrap();
        assert_eq!(roots.base.len(), webpki_roots::TLS_SERVER_ROOTS.len() + 1);
        let error = TlsRoots::with_file(Some(Path::new("/nowhere/ca.pem"))).err().unwrap().to_string();
        assert!(error.starts_with("SSL_CERT_FILE /nowhere/ca.pem: "), "{error}");
    }
}
