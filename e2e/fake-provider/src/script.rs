//! What shall happen to one request, and where that is read from. A misspelt member is an error, never ignored: a test
//! that scripts nothing by mistake would pass for the wrong reason.

use std::collections::BTreeMap;

use http::HeaderMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The request header that carries a script.
pub(crate) const HEADER: &str = "x-fake-script";
const OPENING: &str = "[[fake ";

/// How a connection is ended early.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cut {
    /// TCP reset.
    #[default]
    Reset,
    /// The connection is closed without the end of the message (and without a TLS close_notify).
    Close,
}

/// Tokens an answer reports; what is absent is estimated from the texts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Usage {
    /// Input tokens.
    pub input: Option<u64>,
    /// Output tokens.
    pub output: Option<u64>,
    /// Input tokens read from the vendor's cache.
    pub cached: Option<u64>,
}

/// One request's script. The default changes nothing: the vendor answers as it would.
///
/// `status` alone is enough for an error: body and code are then the vendor's usual ones for it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Script {
    /// Answer with this status instead of running the request. Without `body`, 2xx is an empty JSON object.
    pub status: Option<u16>,
    /// Error code (`error.code` of OpenAI).
    pub code: Option<String>,
    /// Error type (`error.type`); also of an error event in a stream.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Error message.
    pub message: Option<String>,
    /// The exact body: a string as it is, anything else as JSON.
    pub body: Option<Value>,
    /// Response headers to set over the vendor's.
    pub headers: BTreeMap<String, String>,
    /// Wait before the head of the answer, milliseconds.
    pub head_delay_ms: u64,
    /// Wait between head and first byte of the body, milliseconds.
    pub first_byte_delay_ms: u64,
    /// Wait between two chunks (events of a stream, pieces of a plain body), milliseconds.
    pub gap_ms: u64,
    /// Content deltas of a stream, or pieces of a plain body. A text too short for so many is made longer.
    pub chunks: Option<usize>,
    /// Bytes of text in a content delta, or of a piece of a plain body.
    pub chunk_bytes: Option<usize>,
    /// Length of the answer's text in bytes.
    pub answer_bytes: Option<usize>,
    /// The answer's text.
    pub text: Option<String>,
    /// Token numbers to report.
    pub usage: Usage,
    /// End the connection after so many chunks of the body.
    pub cut_after: Option<u64>,
    /// How `cut_after` ends it.
    pub cut: Cut,
    /// After so many events of a stream send an error event (`type`, default `overloaded_error`) and end; 0 makes it the first.
    pub error_after: Option<usize>,
    /// Never answer; the connection stays open until the client leaves.
    pub hang: bool,
    /// End the connection without any answer.
    pub drop: Option<Cut>,
    /// Close the connection after the answer, unannounced, as an idle timeout of the vendor would.
    pub close: bool,
    /// Read the request body at this speed. Only from `x-fake-script` and from rules that do not look into the body.
    pub read_bytes_per_second: Option<u64>,
    /// Answer without reading the body. Where it may come from: as `read_bytes_per_second`.
    pub early: bool,
}

impl Script {
    /// From the request header; `Err` says what is wrong with it.
    pub(crate) fn from_header(headers: &HeaderMap) -> Result<Option<Self>, String> {
        let Some(value) = headers.get(HEADER) else { return Ok(None) };
        let text = value.to_str().map_err(|_| format!("{HEADER} is not text"))?;
        parse(text).map(Some)
    }

    /// From `[[fake {json}]]` in a prompt.
    pub(crate) fn from_prompt(prompt: &str) -> Result<Option<Self>, String> {
        let Some((_, rest)) = prompt.split_once(OPENING) else { return Ok(None) };
        let Some((json, _)) = rest.split_once("]]") else {
            return Err("the directive [[fake {...}]] has no end".to_owned());
        };
        parse(json).map(Some)
    }
}

fn parse(text: &str) -> Result<Script, String> {
    serde_json::from_str(text).map_err(|e| format!("fake provider: bad script: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_directive_is_found_inside_other_text() {
        let script =
            Script::from_prompt(r#"hello [[fake {"status":429,"usage":{"input":5}}]] there"#).unwrap().unwrap();
        assert_eq!(script.status, Some(429));
        assert_eq!(script.usage.input, Some(5));
        assert_eq!(Script::from_prompt("plain text").unwrap(), None);
    }

    #[test]
    fn a_misspelt_member_is_an_error() {
        assert!(Script::from_prompt(r#"[[fake {"stauts":429}]]"#).unwrap_err().contains("stauts"));
        assert!(Script::from_prompt("[[fake {").unwrap_err().contains("no end"));
    }
}
