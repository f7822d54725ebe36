//! Errors in the shape that a front's SDKs understand, as plain answers and inside of a stream.

use std::borrow::Cow;

/// A client-facing API dialect that errors are written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Front {
    /// OpenAI's API.
    OpenAi,
    /// Anthropic's API.
    Anthropic,
}

/// `text` as a JSON string, its quotes included.
pub fn json_string(text: &str) -> String {
    // Writing a string into memory has no way to fail.
    serde_json::to_string(text).unwrap_or_else(|_| String::from("\"\""))
}

/// The JSON body of an error answer.
///
/// `kind` is the front's own word for the class of error (`invalid_request_error`, …) and `code` our stable code.
/// OpenAI: `{"error":{"message","type","param":null,"code"}}`. Anthropic: `{"type":"error","error":{"type","message"},
/// "request_id"}`, which has no place for a code.
pub fn error_body(front: Front, kind: &str, code: &str, message: &str, request_id: Option<&str>) -> Vec<u8> {
    let (kind, message) = (json_string(kind), json_string(message));
    let text = match front {
        Front::OpenAi => {
            format!(r#"{{"error":{{"message":{message},"type":{kind},"param":null,"code":{}}}}}"#, json_string(code))
        }
        Front::Anthropic => {
            let request_id = request_id.map_or(Cow::Borrowed("null"), |id| Cow::Owned(json_string(id)));
            format!(r#"{{"type":"error","error":{{"type":{kind},"message":{message}}},"request_id":{request_id}}}"#)
        }
    };
    text.into_bytes()
}

/// The error as an SSE event, for a stream that cannot go on. It may only stand between whole events.
pub fn error_event(front: Front, kind: &str, code: &str, message: &str, request_id: Option<&str>) -> Vec<u8> {
    let name: &[u8] = match front {
        Front::OpenAi => b"",
        Front::Anthropic => b"event: error\n",
    };
    [name, b"data: ", &error_body(front, kind, code, message, request_id), b"\n\n"].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openai_errors_have_openais_shape() {
        let body = error_body(Front::OpenAi, "invalid_request_error", "model_not_found", "no \"x\"\n", Some("req"));
        let expected = r#"{"error":{"message":"no \"x\"\n","type":"invalid_request_error","param":null,"code":"model_not_found"}}"#;
        assert_eq!(String::from_utf8(body).unwrap(), expected);
    }

    #[test]
    fn anthropic_errors_have_anthropics_shape() {
        let body = |id| String::from_utf8(error_body(Front::Anthropic, "not_found_error", "c", "m", id)).unwrap();
        let start = r#"{"type":"error","error":{"type":"not_found_error","message":"m"},"request_id":"#;
        assert_eq!(body(Some("req_1")), format!("{start}\"req_1\"}}"));
        assert_eq!(body(None), format!("{start}null}}"));
    }

    #[test]
    fn stream_errors_are_one_whole_event() {
        let event = |front| String::from_utf8(error_event(front, "api_error", "c", "line\r\nbreak", None)).unwrap();
        assert!(event(Front::OpenAi).starts_with("data: {\"error\":{"));
        assert!(event(Front::Anthropic).starts_with("event: error\ndata: {\"type\":\"error\","));
        for front in [Front::OpenAi, Front::Anthropic] {
            let event = event(front);
            assert!(event.ends_with("}\n\n"));
            assert_eq!(event.matches("\n\n").count(), 1);
            assert!(!event.contains('\r'));
        }
    }
}
