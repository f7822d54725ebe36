//! Where a provider is reached: `https://api.openai.com`, with an optional port and path.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::address::is_local_host;

/// How the connection to a provider is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Plain HTTP: providers inside a cluster, and tests.
    Http,
    /// HTTP over TLS.
    Https,
}

/// A provider's base URL, taken apart and lower-cased once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BaseUrl {
    /// Plain or TLS.
    pub scheme: Scheme,
    /// Lower-case host name, or an address (IPv6 without its brackets).
    pub host: String,
    /// The port as written, or the scheme's own.
    pub port: u16,
    /// Path before the vendor's own (`""` or `/v1`), without a trailing slash.
    pub path: String,
}

/// Why a text is no base URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BaseUrlError {
    /// Neither `http://` nor `https://` in front.
    #[error("must begin with https:// or http://")]
    Scheme,
    /// `user:password@` before the host.
    #[error("must not hold a user name or password: provider keys belong in a Secret")]
    UserInfo,
    /// `?` or `#`.
    #[error("must end with the host, the port or a path: no query, no fragment")]
    QueryOrFragment,
    /// No host, or characters that no host has.
    #[error("has no valid host name")]
    Host,
    /// Not between 1 and 65535.
    #[error("has a port that is not between 1 and 65535")]
    Port,
    /// White space, control characters or `..` in the path.
    #[error("has a path with characters that a path cannot have")]
    Path,
}

impl BaseUrl {
    /// Takes a URL apart.
    pub fn parse(text: &str) -> Result<Self, BaseUrlError> {
        let (scheme, rest) = if let Some(rest) = text.strip_prefix("https://") {
            (Scheme::Https, rest)
        } else if let Some(rest) = text.strip_prefix("http://") {
            (Scheme::Http, rest)
        } else {
            return Err(BaseUrlError::Scheme);
        };
        if rest.contains(['?', '#']) {
            return Err(BaseUrlError::QueryOrFragment);
        }
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err(BaseUrlError::UserInfo);
        }
        let (host, port) = split_port(authority)?;
        let port = match port {
            None if scheme == Scheme::Https => 443,
            None => 80,
            Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or(BaseUrlError::Port)?,
        };
        let path = path.trim_end_matches('/');
        let visible = path.bytes().all(|b| (0x21..=0x7e).contains(&b) && b != b'\\');
        if !visible || path.split('/').any(|segment| segment == ".." || segment == ".") {
            return Err(BaseUrlError::Path);
        }
        Ok(Self { scheme, host: host.to_ascii_lowercase(), port, path: path.to_owned() })
    }

    /// The value of the `Host` header: the host, with the port where it is not the scheme's own.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        match (self.scheme, self.port) {
            (Scheme::Https, 443) | (Scheme::Http, 80) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }

    /// Whether the path has a version of its own, so that none is added: its last segment is one (`/v1`, `/api/paas/v4`), or it is the
    /// form that Google has for this dialect (`/v1beta/openai`).
    pub fn has_version(&self) -> bool {
        let path = self.path.strip_suffix("/openai").filter(|path| path.ends_with("beta")).unwrap_or(&self.path);
        let Some(number) = path.rsplit('/').next().and_then(|last| last.strip_prefix('v')) else { return false };
        let rest = number.trim_start_matches(|digit: char| digit.is_ascii_digit());
        rest.len() < number.len() && (rest.is_empty() || rest.starts_with("alpha") || rest.starts_with("beta"))
    }

    /// Whether the host is an address (or `localhost`) that leads back into the pod or to its node: a resource must not name one.
    pub fn is_local(&self) -> bool {
        is_local_host(&self.host)
    }
}

fn split_port(authority: &str) -> Result<(&str, Option<&str>), BaseUrlError> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, after) = rest.split_once(']').ok_or(BaseUrlError::Host)?;
        host.parse::<std::net::Ipv6Addr>().map_err(|_| BaseUrlError::Host)?;
        return match after {
            "" => Ok((host, None)),
            after => after.strip_prefix(':').map(|port| (host, Some(port))).ok_or(BaseUrlError::Host),
        };
    }
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    };
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if host.len() > 253 || !host.trim_end_matches('.').split('.').all(label) {
        return Err(BaseUrlError::Host);
    }
    Ok((host, port))
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.scheme == Scheme::Https { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.path)
    }
}

impl TryFrom<String> for BaseUrl {
    type Error = BaseUrlError;

    fn try_from(text: String) -> Result<Self, BaseUrlError> {
        Self::parse(&text)
    }
}

impl From<BaseUrl> for String {
    fn from(url: BaseUrl) -> Self {
        url.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_the_last_segment_or_googles_form() {
        let has = |path: &str| BaseUrl::parse(&format!("https://a.example{path}")).unwrap().has_version();
        for path in ["/v1", "/api/paas/v4", "/v1beta/openai", "/v1beta", "/v2alpha1"] {
            assert!(has(path), "{path}");
        }
        for path in ["", "/", "/v1/account/gateway/anthropic", "/v2/openai", "/v8engine", "/v", "/version"] {
            assert!(!has(path), "{path}");
        }
    }

    #[test]
    fn a_url_is_taken_apart_and_written_the_same() {
        let url = BaseUrl::parse("https://API.openai.com").unwrap();
        assert_eq!((url.host.as_str(), url.port, url.path.as_str()), ("api.openai.com", 443, ""));
        assert_eq!(url.to_string(), "https://api.openai.com");
        let url = BaseUrl::parse("http://[2001:db8::1]:8080/openai/v1/").unwrap();
        assert_eq!((url.host.as_str(), url.port, url.path.as_str()), ("2001:db8::1", 8080, "/openai/v1"));
        assert_eq!(url.to_string(), "http://[2001:db8::1]:8080/openai/v1");
    }

    #[test]
    fn faults_are_named() {
        let cases = [
            ("api.openai.com", BaseUrlError::Scheme),
            ("https://a:b@api.openai.com", BaseUrlError::UserInfo),
            ("https://api.openai.com?x=1", BaseUrlError::QueryOrFragment),
            ("https://", BaseUrlError::Host),
            ("https://a b", BaseUrlError::Host),
            ("https://a:0", BaseUrlError::Port),
            ("https://a:70000", BaseUrlError::Port),
            ("https://a/../b", BaseUrlError::Path),
        ];
        for (text, error) in cases {
            assert_eq!(BaseUrl::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn local_addresses_are_known_in_every_spelling() {
        for text in [
            "http://127.0.0.1",
            "http://localhost:1",
            "http://[::1]",
            "http://169.254.169.254",
            "http://[fe80::1]",
            "http://0.0.0.0",
            "http://[::ffff:127.0.0.1]",
            "http://localhost.",
            "http://127.1:8080",
        ] {
            assert!(BaseUrl::parse(text).unwrap().is_local(), "{text}");
        }
        for text in ["http://10.0.0.1", "https://ollama.ai.svc", "https://api.openai.com"] {
            assert!(!BaseUrl::parse(text).unwrap().is_local(), "{text}");
        }
    }
}
