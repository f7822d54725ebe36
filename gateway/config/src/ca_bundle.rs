//! What makes a CA bundle usable. Checked as the pods' TLS library takes it, so that nothing is published that no pod can load.

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

/// Problems that one message lists.
const LISTED: usize = 5;

/// Checks every certificate of a PEM text; other sections are passed over. The error says what is wrong, by place in the bundle.
pub fn check_ca_bundle(pem: &str) -> Result<(), String> {
    let mut found = 0;
    let mut problems = Vec::new();
    for item in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        found += 1;
        let anchor = item.map_err(|error| error.to_string()).and_then(|der| {
            webpki::anchor_from_trusted_cert(&der)
                .map(drop)
                .map_err(|error| format!("not a usable certificate ({error})"))
        });
        problems.extend(anchor.err().map(|reason| format!("certificate {found}: {reason}")));
    }
    if found == 0 {
        return Err("holds no PEM certificate".to_owned());
    }
    if problems.len() > LISTED {
        let more = problems.len() - LISTED;
        problems.truncate(LISTED);
        problems.push(format!("and {more} more"));
    }
    if problems.is_empty() { Ok(()) } else { Err(problems.join("; ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = include_str!("../testdata/ca.pem");
    const BAD: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";

    #[test]
    fn certificates_are_parsed_and_other_sections_passed_over() {
        let other = "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n";
        assert_eq!(check_ca_bundle(&format!("# corporate\n{GOOD}{other}{GOOD}")), Ok(()));
    }

    #[test]
    fn faults_are_named_by_place() {
        assert_eq!(check_ca_bundle("nothing here"), Err("holds no PEM certificate".into()));
        let error = check_ca_bundle(&format!("{GOOD}{BAD}{GOOD}")).unwrap_err();
        assert!(error.starts_with("certificate 2: not a usable certificate"), "{error}");
        assert!(check_ca_bundle("-----BEGIN CERTIFICATE-----\n").is_err(), "the end is missing");
        assert!(check_ca_bundle(&BAD.repeat(9)).unwrap_err().ends_with("and 4 more"));
    }
}
