//! A vendor's answer before it becomes a response: compression, pacing and cuts are added here, for all alike.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};

use crate::{
    body::FakeBody, gzip, gzip::Gzip, json::Json, records::OpenRecord, script::Script, server::Conn, sse::Events,
};

pub(crate) enum Content {
    Whole(Bytes),
    Events(Box<Events>),
}

pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    /// Content type.
    kind: &'static str,
    pub(crate) content: Content,
    /// Whose request it was, once that is known.
    pub(crate) account: Option<String>,
}

impl Reply {
    pub(crate) fn json(status: StatusCode, body: impl Into<Bytes>) -> Self {
        Self::whole(status, "application/json", body)
    }

    pub(crate) fn whole(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Self {
        Self::new(status, kind, Content::Whole(body.into()))
    }

    pub(crate) fn events(events: Events) -> Self {
        Self::new(StatusCode::OK, "text/event-stream; charset=utf-8", Content::Events(Box::new(events)))
    }

    fn new(status: StatusCode, kind: &'static str, content: Content) -> Self {
        Self { status, kind, content, account: None }
    }

    /// The body a script gives, as it is, or as JSON.
    pub(crate) fn scripted(status: StatusCode, body: &serde_json::Value) -> Self {
        match body {
            serde_json::Value::String(text) => Self::json(status, text.clone()),
            other => Self::json(status, other.to_string()),
        }
    }

    /// The response to a request with the headers `asked`; `vendors` are the headers of all the vendor's answers.
    pub(crate) fn into_response(
        self,
        vendors: HeaderMap,
        asked: &HeaderMap,
        script: &Script,
        conn: &Arc<Conn>,
        mut record: OpenRecord,
    ) -> Response<FakeBody> {
        record.answered(self.status.as_u16());
        let status = self.status;
        let (headers, zip) = self.headers(vendors, asked, script);
        let body = match self.content {
            Content::Events(events) => {
                let events = FailingEvents::new(*events, script);
                FakeBody::paced(events, None, zip.then(Gzip::new), script, Arc::clone(conn), record)
            }
            Content::Whole(bytes) => {
                let bytes = if zip { Gzip::whole(&bytes) } else { bytes };
                match piece_size(script, bytes.len()) {
                    None => FakeBody::whole(bytes, record),
                    Some(size) => {
                        let len = bytes.len() as u64;
                        FakeBody::paced(split(bytes, size), Some(len), None, script, Arc::clone(conn), record)
                    }
                }
            }
        };
        let body = if script.close { body.then_close(Arc::clone(conn)) } else { body };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }

    /// All headers, those of the script over the others, and whether the body is compressed.
    fn headers(&self, vendors: HeaderMap, asked: &HeaderMap, script: &Script) -> (HeaderMap, bool) {
        let mut headers = vendors;
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.kind));
        if matches!(self.content, Content::Events(_)) {
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        }
        for (name, value) in &script.headers {
            // What is no header is left out.
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
                headers.insert(name, value);
            }
        }
        let empty = matches!(&self.content, Content::Whole(bytes) if bytes.is_empty());
        let zip = !empty && gzip::allowed(asked) && !headers.contains_key(header::CONTENT_ENCODING);
        if zip {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
        }
        (headers, zip)
    }
}

/// The size of the pieces of a plain body; `None` when it goes out at once.
fn piece_size(script: &Script, len: usize) -> Option<usize> {
    let cut = script.cut_after.map(|n| usize::try_from(n).unwrap_or(usize::MAX).saturating_add(1).max(2));
    let waits = script.first_byte_delay_ms > 0 || script.gap_ms > 0;
    let pieces = script.chunks.or(cut).or_else(|| waits.then_some(1));
    let size = script.chunk_bytes.or_else(|| pieces.map(|n| len.div_ceil(n.max(1))))?;
    Some(size.max(1))
}

fn split(mut bytes: Bytes, size: usize) -> impl Iterator<Item = Bytes> {
    std::iter::from_fn(move || (!bytes.is_empty()).then(|| bytes.split_to(size.min(bytes.len()))))
}

/// Events that end with an error event where the script says so.
struct FailingEvents {
    events: Events,
    error: Option<(usize, Bytes)>,
}

impl FailingEvents {
    fn new(events: Events, script: &Script) -> Self {
        let error = script.error_after.map(|after| (after, events.error(script)));
        Self { events, error }
    }
}

impl Iterator for FailingEvents {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        match &mut self.error {
            Some((0, error)) => (!error.is_empty()).then(|| std::mem::take(error)),
            Some((left, _)) => {
                *left -= 1;
                self.events.next()
            }
            None => self.events.next(),
        }
    }
}

/// A script's usage, with estimates for what it leaves open: input, output, cached.
pub(crate) fn usage(script: &Script, input: u64, answer: &str) -> (u64, u64, u64) {
    let of = script.usage;
    (of.input.unwrap_or(input), of.output.unwrap_or_else(|| crate::text::tokens(answer.len())), of.cached.unwrap_or(0))
}

/// A timestamp in whole Unix seconds.
pub(crate) fn now() -> u64 {
    crate::records::now_ms() / 1000
}

/// Sets a header from text that is known to be one.
pub(crate) fn set(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(HeaderName::from_static(name), value);
    }
}

/// Sets headers that never change.
pub(crate) fn set_all(headers: &mut HeaderMap, fixed: &[(&'static str, &'static str)]) {
    for (name, value) in fixed {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
}

/// Pretty-printed or not, a JSON answer of status 200.
pub(crate) fn ok(json: &Json, pretty: bool) -> Reply {
    Reply::json(StatusCode::OK, if pretty { json.pretty() } else { json.as_str().as_bytes().to_vec() })
}
