//! The headers of a message and the contract about them: which pass, which stay here, on each arm and in each direction.

use bifrost_config::catalog::Vendor;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use smallvec::SmallVec;

use crate::pipeline::Arm;
use crate::pipeline::decode::Whose;

/// The headers of one message. Names are lower-case.
#[derive(Debug, Default)]
pub struct Head {
    map: HeaderMap,
}

/// What a header line is to this gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Belongs to one connection.
    Hop,
    /// Belongs to the way here, or to this gateway.
    Way,
    /// A credential of the caller.
    Credential,
    /// Ties a request to somebody's account: organisation, project, cookies.
    Account,
    /// `accept-encoding`
    AcceptEncoding,
    /// Everything else.
    Plain,
}

fn kind(name: &str) -> Kind {
    match name {
        "connection"
        | "keep-alive"
        | "proxy-authenticate"
        | "proxy-authorization"
        | "proxy-connection"
        | "te"
        | "trailer"
        | "transfer-encoding"
        | "upgrade"
        | "content-length"
        | "expect" => Kind::Hop,
        "host" | "forwarded" | "via" | "alt-svc" | "strict-transport-security" => Kind::Way,
        "authorization" | "x-api-key" | "api-key" | "x-goog-api-key" => Kind::Credential,
        "cookie" | "set-cookie" | "openai-organization" | "openai-project" | "anthropic-organization-id" => {
            Kind::Account
        }
        "accept-encoding" => Kind::AcceptEncoding,
        name if name.starts_with("x-bf-") || name.starts_with("x-forwarded-") || name.starts_with("x-envoy-") => {
            Kind::Way
        }
        _ => Kind::Plain,
    }
}

impl Head {
    /// Takes the headers of a message as they were read.
    pub fn new(map: HeaderMap) -> Self {
        Self { map }
    }

    /// A copy of all.
    pub fn lines_of_all(&self) -> HeaderMap {
        self.map.clone()
    }

    /// Gives them to the message that is written.
    pub fn into_map(self) -> HeaderMap {
        self.map
    }

    /// The first value of a header.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.map.get(name).map(HeaderValue::as_bytes)
    }

    /// The values of all lines of a header.
    pub fn lines(&self, name: &HeaderName) -> impl Iterator<Item = &[u8]> {
        self.map.get_all(name).into_iter().map(HeaderValue::as_bytes)
    }

    /// The first value of a header, if it is visible text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.map.get(name).and_then(|value| value.to_str().ok())
    }

    /// Sets a header in place of all of that name.
    pub fn set(&mut self, name: HeaderName, value: HeaderValue) {
        self.map.insert(name, value);
    }

    /// Whether the body is encoded in a way that cannot be looked into.
    pub fn is_encoded(&self) -> bool {
        self.get("content-encoding").is_some_and(|value| !value.is_empty() && !value.eq_ignore_ascii_case(b"identity"))
    }

    /// Whether the body is a stream of events.
    pub fn is_event_stream(&self) -> bool {
        self.get("content-type")
            .is_some_and(|value| value.len() >= 17 && value[..17].eq_ignore_ascii_case(b"text/event-stream"))
    }

    /// Whether the body is JSON.
    pub fn is_json(&self) -> bool {
        self.get("content-type")
            .is_some_and(|value| value.len() >= 16 && value[..16].eq_ignore_ascii_case(b"application/json"))
    }

    /// Whether the head says how the body's end is known: by its length or by chunks.
    pub fn is_framed(&self) -> bool {
        self.map.contains_key(header::CONTENT_LENGTH) || self.map.contains_key(header::TRANSFER_ENCODING)
    }

    /// The body's length as declared.
    pub fn content_length(&self) -> Option<u64> {
        self.text("content-length").and_then(|text| text.trim().parse().ok())
    }

    /// The caller's credentials of all schemes, without a scheme in front.
    pub fn credentials(&self) -> impl Iterator<Item = &str> {
        ["authorization", "x-api-key", "api-key", "x-goog-api-key"].into_iter().filter_map(|name| {
            let text = self.text(name)?.trim();
            let value = match text.split_once(' ') {
                Some((scheme, value)) if name == "authorization" && !scheme.is_empty() => value.trim(),
                _ => text,
            };
            (!value.is_empty() && !value.eq_ignore_ascii_case("bearer")).then_some(value)
        })
    }

    /// Makes this the head that goes to the vendor on an arm.
    ///
    /// Baseline: all that is not of this connection goes as it came. Bifrost: credentials, cookies and account headers stay here, the
    /// answer is asked for unencoded, and the vendor's default header is set where the client sent none; the pool's key comes after.
    pub fn towards_vendor(&mut self, arm: Arm, vendor: &Vendor) {
        self.drop_lines(|kind| match kind {
            Kind::Hop | Kind::Way => true,
            Kind::Credential | Kind::Account | Kind::AcceptEncoding => arm == Arm::Bifrost,
            Kind::Plain => false,
        });
        if arm == Arm::Bifrost {
            self.map.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
            if let Some((name, value)) = vendor.default_header
                && !self.map.contains_key(name)
            {
                self.map.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
            }
        }
    }

    /// Makes this the head that goes to a pod of the candidate, which is to see what its client sent. `authority` is the `Host` of a
    /// client that names none.
    pub fn towards_candidate(&mut self, authority: &HeaderValue) {
        self.drop_lines(|kind| kind == Kind::Hop);
        self.map.entry(header::HOST).or_insert_with(|| authority.clone());
    }

    /// Makes this the head that goes back to the client: on the bifrost arm without the pool's cookies and organisation; as it is where
    /// a pod of the candidate has made it so already.
    pub fn towards_client(&mut self, whose: Whose) {
        // hyper frames the body by its own size hint, so the declared length may pass where the body is not changed.
        // Beside chunks it means nothing, and would cut them (RFC 9112, 6.3).
        let chunked = self.map.contains_key(header::TRANSFER_ENCODING);
        let length = self.map.get(header::CONTENT_LENGTH).filter(|_| !chunked).cloned();
        self.drop_lines(|kind| match kind {
            Kind::Hop => true,
            Kind::Way => whose != Whose::Candidate,
            Kind::Account => whose == Whose::Provider(Arm::Bifrost),
            _ => false,
        });
        if let Some(length) = length {
            self.map.insert(header::CONTENT_LENGTH, length);
        }
    }

    fn drop_lines(&mut self, drop: impl Fn(Kind) -> bool) {
        // `Connection` may name further headers that belong to the connection; it comes first, as it is itself dropped.
        let mut names: SmallVec<[HeaderName; 12]> = SmallVec::new();
        for value in self.map.get_all(header::CONNECTION) {
            let listed =
                value.to_str().unwrap_or("").split(',').filter_map(|name| HeaderName::try_from(name.trim()).ok());
            names.extend(listed.filter(|name| self.map.contains_key(name)));
        }
        names.extend(self.map.keys().filter(|name| drop(kind(name.as_str()))).cloned());
        for name in &names {
            self.map.remove(name);
        }
    }
}

/// Takes `key=` out of a query: Google's way to carry a credential.
pub(crate) fn without_key(query: &str) -> String {
    query.split('&').filter(|pair| !is_key(pair)).collect::<Vec<_>>().join("&")
}

/// The credential in a query, if there is one.
pub(crate) fn key_in_query(query: &str) -> Option<&str> {
    query
        .split('&')
        .find(|pair| is_key(pair))
        .and_then(|pair| pair.split_once('='))
        .map(|(_, value)| value)
        .filter(|v| !v.is_empty())
}

fn is_key(pair: &str) -> bool {
    let name = pair.split('=').next().unwrap_or_default();
    // However it is spelled: the vendor decodes escapes.
    let escape = |hex: &[u8]| std::str::from_utf8(hex).ok().and_then(|hex| u8::from_str_radix(hex, 16).ok());
    let (mut rest, mut decoded) = (name.as_bytes(), Vec::new());
    while let [first, after @ ..] = rest {
        let byte = after.get(..2).filter(|_| *first == b'%').and_then(escape);
        rest = if byte.is_some() { &after[2..] } else { after };
        decoded.push(byte.unwrap_or(*first));
    }
    decoded.eq_ignore_ascii_case(b"key")
}

#[cfg(test)]
mod tests {
    use super::*;
    use bifrost_config::ProviderType;

    const SENT: &[(&str, &str)] = &[
        ("host", "ai.llm.svc:8080"),
        ("authorization", "Bearer sk-client"),
        ("x-api-key", "sk-other"),
        ("cookie", "a=b"),
        ("openai-organization", "org-1"),
        ("content-type", "application/json"),
        ("accept-encoding", "gzip, br"),
        ("connection", "keep-alive, X-Hop"),
        ("x-hop", "1"),
        ("x-bf-session-id", "s"),
        ("x-forwarded-for", "10.0.0.1"),
        ("x-envoy-attempt-count", "1"),
        ("via", "1.1 a"),
        ("expect", "100-continue"),
        ("x-stainless-lang", "python"),
        ("anthropic-beta", "tools"),
    ];

    fn head(lines: &[(&'static str, &'static str)]) -> Head {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        Head::new(map)
    }

    fn names(head: Head) -> Vec<String> {
        let mut names: Vec<_> = head.into_map().keys().map(ToString::to_string).collect();
        names.sort();
        names
    }

    #[test]
    fn baseline_keeps_all_that_is_the_clients() {
        let mut head = head(SENT);
        head.towards_vendor(Arm::Baseline, ProviderType::OpenAI.vendor());
        assert_eq!(head.text("accept-encoding"), Some("gzip, br"));
        assert_eq!(
            names(head),
            [
                "accept-encoding",
                "anthropic-beta",
                "authorization",
                "content-type",
                "cookie",
                "openai-organization",
                "x-api-key",
                "x-stainless-lang"
            ]
        );
    }

    #[test]
    fn the_bifrost_arm_carries_nothing_of_the_clients_account() {
        let mut head = head(SENT);
        head.towards_vendor(Arm::Bifrost, ProviderType::Anthropic.vendor());
        assert_eq!(head.text("accept-encoding"), Some("identity"));
        assert_eq!(head.text("anthropic-version"), Some("2023-06-01"));
        assert_eq!(
            names(head),
            ["accept-encoding", "anthropic-beta", "anthropic-version", "content-type", "x-stainless-lang"]
        );
    }

    #[test]
    fn a_pod_of_the_candidate_sees_what_the_client_sent() {
        let mut head = head(SENT);
        head.towards_candidate(&HeaderValue::from_static("candidate:8082"));
        assert_eq!(head.text("host"), Some("ai.llm.svc:8080"));
        let gone = ["connection", "expect", "x-hop"];
        let kept = SENT.iter().map(|(name, _)| *name).filter(|name| !gone.contains(name));
        let mut kept: Vec<_> = kept.map(str::to_owned).collect();
        kept.sort();
        assert_eq!(names(head), kept);
        let mut none = Head::default();
        none.towards_candidate(&HeaderValue::from_static("candidate:8082"));
        assert_eq!(none.text("host"), Some("candidate:8082"));
    }

    #[test]
    fn a_version_the_client_sent_stays() {
        let mut head = head(&[("anthropic-version", "2024-01-01")]);
        head.towards_vendor(Arm::Bifrost, ProviderType::Anthropic.vendor());
        assert_eq!(head.text("anthropic-version"), Some("2024-01-01"));
    }

    #[test]
    fn answers_keep_request_ids_and_lose_the_pools_cookies() {
        let lines: &[_] = &[
            ("set-cookie", "cf=1"),
            ("x-request-id", "r"),
            ("retry-after", "1"),
            ("openai-organization", "o"),
            ("connection", "close"),
            ("x-bf-arm", "x"),
            ("content-length", "3"),
        ];
        let mut bifrost = head(lines);
        bifrost.towards_client(Whose::Provider(Arm::Bifrost));
        assert_eq!(names(bifrost), ["content-length", "retry-after", "x-request-id"]);
        let mut baseline = head(lines);
        baseline.towards_client(Whose::Provider(Arm::Baseline));
        assert_eq!(
            names(baseline),
            ["content-length", "openai-organization", "retry-after", "set-cookie", "x-request-id"]
        );
        let mut candidate = head(lines);
        candidate.towards_client(Whose::Candidate);
        assert_eq!(candidate.text("x-bf-arm"), Some("x"));
        assert_eq!(names(candidate).len(), lines.len() - 1);
    }

    #[test]
    fn credentials_are_found_in_every_scheme() {
        let credentials = |lines| head(lines).credentials().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(credentials(&[("authorization", "Bearer  sk-1 ")]), ["sk-1"]);
        assert!(credentials(&[("authorization", "Bearer ")]).is_empty());
        assert_eq!(credentials(&[("x-api-key", "k"), ("x-goog-api-key", "g")]), ["k", "g"]);
        assert!(credentials(&[]).is_empty());
        assert_eq!(key_in_query("a=1&key=k2"), Some("k2"));
        assert_eq!(without_key("a=1&key=k2&b=3"), "a=1&b=3");
    }
}
