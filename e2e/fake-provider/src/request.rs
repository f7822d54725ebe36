//! A request as the vendors' code sees it: head, body, and the few members that every endpoint has.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::{
    api::Vendor,
    rules::{BodyView, HeadView},
};

/// One request to a vendor.
pub(crate) struct Call {
    pub(crate) vendor: Vendor,
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    /// The credential as received, without its scheme.
    pub(crate) credential: Option<String>,
    pub(crate) reused: bool,
    pub(crate) request_id: String,
    pub(crate) started: Instant,
    pub(crate) body: Bytes,
    /// The body, if it is JSON.
    pub(crate) json: Option<Value>,
}

impl Call {
    pub(crate) fn head(&self) -> HeadView<'_> {
        HeadView {
            vendor: self.vendor,
            method: self.method.as_str(),
            path: &self.path,
            key: self.credential.as_deref(),
            headers: &self.headers,
            reused: self.reused,
        }
    }

    pub(crate) fn body_view(&self) -> BodyView<'_> {
        BodyView { model: self.text("model"), user: self.user(), stream: self.streams() }
    }

    pub(crate) fn set_body(&mut self, body: Bytes) {
        let kind = self.headers.get(header::CONTENT_TYPE).map(header::HeaderValue::as_bytes).unwrap_or_default();
        if !body.is_empty() && !kind.starts_with(b"multipart/") {
            self.json = serde_json::from_slice(&body).ok();
        }
        self.body = body;
    }

    /// A member of the body.
    pub(crate) fn member(&self, name: &str) -> Option<&Value> {
        self.json.as_ref()?.get(name).filter(|v| !v.is_null())
    }

    /// A text member of the body.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.member(name)?.as_str()
    }

    pub(crate) fn streams(&self) -> bool {
        self.member("stream").and_then(Value::as_bool).unwrap_or_default()
    }

    /// The user that the application names.
    pub(crate) fn user(&self) -> Option<&str> {
        let metadata = || self.member("metadata")?.get("user_id")?.as_str();
        self.text("safety_identifier").or_else(|| self.text("user")).or_else(metadata)
    }

    /// The text of the last user message, or the prompt.
    pub(crate) fn prompt(&self) -> Option<String> {
        let turns = self.member("messages").or_else(|| self.member("input")).or_else(|| self.member("prompt"))?;
        match turns {
            Value::Array(items) => {
                let is_user = |m: &&Value| m.get("role").is_none_or(|r| r == "user");
                items.iter().rev().find(is_user).map(message_text)
            }
            other => Some(message_text(other)),
        }
    }

    /// A plausible number of input tokens.
    pub(crate) fn input_tokens(&self) -> u64 {
        crate::text::tokens(self.prompt().map_or(0, |p| p.len())) + 6
    }
}

/// A string, a message with `content`, or a content list with texts.
fn message_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().map(message_text).collect(),
        Value::Object(of) => of.get("content").or_else(|| of.get("text")).map(message_text).unwrap_or_default(),
        _ => String::new(),
    }
}

/// The credential of a request, without its scheme: `x-api-key`, where the vendor knows it, before `authorization`.
pub(crate) fn credential(vendor: Option<Vendor>, headers: &HeaderMap) -> Option<String> {
    let text = |name: &str| headers.get(name).map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned());
    let bearer = || {
        let value = text("authorization")?;
        let (scheme, rest) = value.split_once(' ').unwrap_or(("", &value));
        Some(if scheme.eq_ignore_ascii_case("bearer") { rest.trim().to_owned() } else { value.clone() })
    };
    match vendor {
        Some(Vendor::OpenAi) => bearer(),
        _ => text("x-api-key").or_else(bearer),
    }
}

/// A body that was read.
pub(crate) struct Received {
    pub(crate) body: Bytes,
    pub(crate) sha256: [u8; 32],
    /// It was larger than allowed; what is there is its beginning.
    pub(crate) too_large: bool,
}

impl Received {
    /// A body that was left unread.
    pub(crate) fn unread() -> Self {
        Self { body: Bytes::new(), sha256: [0; 32], too_large: false }
    }
}

/// Reads a body, at most at `pace` bytes a second; `None` when the client left in its midst.
pub(crate) async fn read_body(mut body: Incoming, max: usize, pace: Option<u64>) -> Option<Received> {
    let mut digest = Sha256::new();
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    let mut len = 0;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.ok()?.into_data() else { continue };
        len += data.len();
        if len > max {
            return Some(Received { body: first, sha256: digest.finalize().into(), too_large: true });
        }
        digest.update(&data);
        if let Some(pace) = pace.filter(|p| *p > 0) {
            tokio::time::sleep(Duration::from_millis(data.len() as u64 * 1000 / pace)).await;
        }
        // Nearly all bodies come in one piece, which needs no copy.
        if first.is_empty() && all.is_empty() {
            first = data;
        } else {
            if all.is_empty() {
                all.extend_from_slice(&std::mem::take(&mut first));
            }
            all.extend_from_slice(&data);
        }
    }
    let body = if all.is_empty() { first } else { all.freeze() };
    Some(Received { body, sha256: digest.finalize().into(), too_large: false })
}

/// `len` random letters and digits, as in the vendors' ids.
pub(crate) fn random_id(prefix: &str, len: usize) -> String {
    let mut id = String::with_capacity(prefix.len() + len);
    id.push_str(prefix);
    id.extend((0..len).map(|_| fastrand::alphanumeric()));
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(body: &str) -> Call {
        let mut call = Call {
            vendor: Vendor::OpenAi,
            method: Method::POST,
            path: String::new(),
            headers: HeaderMap::new(),
            credential: None,
            reused: false,
            request_id: String::new(),
            started: Instant::now(),
            body: Bytes::new(),
            json: None,
        };
        call.set_body(Bytes::copy_from_slice(body.as_bytes()));
        call
    }

    #[test]
    fn the_prompt_is_the_last_user_message_in_every_form() {
        for body in [
            r#"{"messages":[{"role":"user","content":"no"},{"role":"user","content":"yes"},{"role":"assistant","content":"no"}]}"#,
            r#"{"messages":[{"role":"user","content":[{"type":"text","text":"y"},{"type":"text","text":"es"}]}]}"#,
            r#"{"input":"yes"}"#,
            r#"{"input":["no","yes"]}"#,
            r#"{"input":[{"role":"user","content":[{"type":"input_text","text":"yes"}]}]}"#,
            r#"{"prompt":"yes"}"#,
        ] {
            assert_eq!(call(body).prompt().as_deref(), Some("yes"), "{body}");
        }
        assert_eq!(call(r#"{"messages":[]}"#).prompt(), None);
    }

    #[test]
    fn the_user_is_found_where_each_vendor_has_it() {
        assert_eq!(call(r#"{"user":"b","safety_identifier":"a"}"#).user(), Some("a"));
        assert_eq!(call(r#"{"user":"b"}"#).user(), Some("b"));
        assert_eq!(call(r#"{"metadata":{"user_id":"c"}}"#).user(), Some("c"));
        assert_eq!(call("no json").user(), None);
    }

    #[test]
    fn credentials_lose_their_scheme() {
        let of = |vendor, pairs: &[(&'static str, &'static str)]| {
            let headers =
                pairs.iter().map(|(n, v)| (http::HeaderName::from_static(n), http::HeaderValue::from_static(v)));
            credential(Some(vendor), &headers.collect())
        };
        assert_eq!(
            of(Vendor::OpenAi, &[("authorization", "bearer sk-1"), ("x-api-key", "sk-2")]).as_deref(),
            Some("sk-1")
        );
        assert_eq!(
            of(Vendor::Anthropic, &[("authorization", "Bearer sk-1"), ("x-api-key", "sk-2")]).as_deref(),
            Some("sk-2")
        );
        assert_eq!(of(Vendor::Anthropic, &[("authorization", "Bearer sk-1")]).as_deref(), Some("sk-1"));
        assert_eq!(of(Vendor::OpenAi, &[("x-api-key", "sk-2")]), None);
    }
}
