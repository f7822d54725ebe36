//! The checks of a front: what is asked, and what the answer must be like. Pure.

use bifrost_config::catalog::Front;
use serde_json::{Value, json};

use crate::call::{Call, Reply};
use crate::dialect::{chat, chat_path, get, post};
use crate::human;

/// Header that says which arm served a request.
const ARM: &str = "x-bf-arm";
/// Most of an answer that a reason shows.
const SHOWN: usize = 200;

/// One check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Check {
    Chat,
    Stream,
    Models,
    BadRequest,
}

/// What came of it, in words.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Passed(String),
    Failed(String),
}

impl Check {
    /// Every check, the plainest first.
    pub(super) const ALL: [Self; 4] = [Self::Chat, Self::Stream, Self::Models, Self::BadRequest];

    /// What is printed.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat completion",
            Self::Stream => "streaming",
            Self::Models => "models list",
            Self::BadRequest => "bad request",
        }
    }

    /// What is asked.
    pub(super) fn call(self, front: Front, prefix: &str, model: &str, credential: Option<&str>) -> Call {
        let at = |path: &str| format!("{prefix}/{}/v1{path}", front.name());
        match self {
            Self::Chat => chat(front, at(chat_path(front)), model, false, credential),
            Self::Stream => chat(front, at(chat_path(front)), model, true, credential),
            Self::Models => get(front, at("/models"), credential),
            Self::BadRequest => {
                let body = json!({"model": model, "max_tokens": 16, "messages": "must be a list"});
                post(front, at(chat_path(front)), &body, credential)
            }
        }
    }

    /// Whether the answer is as the front's SDKs want it.
    pub(super) fn judge(self, front: Front, reply: &Reply, has_credential: bool) -> Outcome {
        let shape = match self {
            Self::Chat => success(reply).and_then(|()| chat_shape(front, reply)),
            Self::Stream => success(reply).and_then(|()| stream_shape(front, reply)),
            Self::Models => success(reply).and_then(|()| models_shape(reply)),
            Self::BadRequest => error_shape(front, reply),
        };
        match shape.and_then(|()| arm(reply, has_credential)) {
            Ok(arm) => Outcome::Passed(format!("{} in {}, {arm}", reply.status.as_u16(), human::duration(reply.took))),
            Err(why) => Outcome::Failed(why),
        }
    }
}

fn success(reply: &Reply) -> Result<(), String> {
    if reply.status.is_success() {
        return Ok(());
    }
    let way_out = match reply.status.as_u16() {
        401 | 403 if reply.header(ARM) == "baseline" => "the vendor refuses your credential: see --api-key-env",
        401 | 403 => "the vendor refuses the key of the pool: see `kubectl bifrost keys`",
        404 => {
            "no key serves the model: add it to a ProviderKey's spec.models, or choose one with --openai-model or --anthropic-model"
        }
        413 => "spec.config.client.maxRequestBody is too small",
        429 => "the vendor's limit is reached, wait or add a key",
        503 => "no key can be used: see `kubectl bifrost keys`",
        502 | 504 => "the provider cannot be reached from the pods: check baseURL and the network",
        _ => "see `kubectl bifrost status`",
    };
    Err(format!("{}: {}; {way_out}", reply.status.as_u16(), message(reply)))
}

/// The message of an error, or the beginning of what came instead.
fn message(reply: &Reply) -> String {
    let body = json_of(reply);
    let told = body.as_ref().and_then(|body| body.pointer("/error/message")).and_then(Value::as_str);
    let text = told.map_or_else(|| String::from_utf8_lossy(&reply.body).into_owned(), str::to_owned);
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let shown: String = text.chars().take(SHOWN).collect();
    // Vendors quote a wrong key in part.
    crate::redact::redact(if shown.is_empty() { "an empty answer" } else { &shown })
}

fn json_of(reply: &Reply) -> Option<Value> {
    serde_json::from_slice(&reply.body).ok()
}

fn chat_shape(front: Front, reply: &Reply) -> Result<(), String> {
    let place = match front {
        Front::OpenAI => "/choices/0/message",
        Front::Anthropic => "/content/0",
    };
    has(reply, place, Value::is_object)
}

fn models_shape(reply: &Reply) -> Result<(), String> {
    has(reply, "/data", Value::is_array)
}

fn has(reply: &Reply, place: &str, is: fn(&Value) -> bool) -> Result<(), String> {
    let body = json_of(reply).ok_or_else(|| format!("the answer is no JSON: {}", message(reply)))?;
    match body.pointer(place) {
        Some(value) if is(value) => Ok(()),
        _ => Err(format!("the answer has no {}", place.trim_start_matches('/').replace('/', "."))),
    }
}

fn stream_shape(front: Front, reply: &Reply) -> Result<(), String> {
    let content_type = reply.header("content-type");
    if !content_type.starts_with("text/event-stream") {
        return Err(format!("the answer is {content_type:?}, not text/event-stream"));
    }
    let end = match front {
        Front::OpenAI => "data: [DONE]",
        Front::Anthropic => "event: message_stop",
    };
    let text = String::from_utf8_lossy(&reply.body);
    match text.lines().any(|line| line.trim_end() == end) {
        true => Ok(()),
        false => Err(format!("the stream ends without {end:?}: something on the way cuts it off")),
    }
}

/// A request that the vendor cannot understand must come back in the shape that the SDK throws its error from.
fn error_shape(front: Front, reply: &Reply) -> Result<(), String> {
    if !reply.status.is_client_error() {
        return Err(format!("a request without a list of messages was answered with {}", reply.status.as_u16()));
    }
    has(reply, "/error/message", Value::is_string)?;
    match front {
        Front::OpenAI => Ok(()),
        Front::Anthropic => has(reply, "/type", |value| value == "error"),
    }
}

/// The arm, which every answer names. Without a credential there is only one that can serve.
fn arm(reply: &Reply, has_credential: bool) -> Result<String, String> {
    let reason = reply.header("x-bf-arm-reason");
    match reply.header(ARM) {
        "" => Err(format!("the answer has no {ARM}: is this the gateway, and not something in front of it?")),
        "baseline" if !has_credential => Err("arm baseline without a credential".to_owned()),
        arm @ ("bifrost" | "baseline") if reason.is_empty() => Ok(format!("arm {arm}")),
        arm @ ("bifrost" | "baseline") => Ok(format!("arm {arm} ({reason})")),
        arm => Err(format!("{ARM} is {arm:?}, neither bifrost nor baseline")),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

    use super::*;

    fn reply(status: u16, headers: &[(&'static str, &'static str)], body: &str) -> Reply {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        Reply {
            status: StatusCode::from_u16(status).unwrap(),
            headers: headers.iter().map(pair).collect::<HeaderMap>(),
            body: body.to_owned().into(),
            took: Duration::from_millis(420),
        }
    }

    const BIFROST: (&str, &str) = ("x-bf-arm", "bifrost");
    const SSE: (&str, &str) = ("content-type", "text/event-stream; charset=utf-8");

    fn failed(outcome: Outcome) -> String {
        match outcome {
            Outcome::Failed(why) => why,
            Outcome::Passed(text) => panic!("passed: {text}"),
        }
    }

    #[test]
    fn an_answer_as_the_sdk_wants_it_passes_and_says_its_arm() {
        let good = reply(200, &[BIFROST, ("x-bf-arm-reason", "no_credential")], r#"{"choices": [{"message": {}}]}"#);
        let passed = Outcome::Passed("200 in 420ms, arm bifrost (no_credential)".into());
        assert_eq!(Check::Chat.judge(Front::OpenAI, &good, false), passed);
        let good = reply(200, &[BIFROST, SSE], "event: message_start\ndata: {}\n\nevent: message_stop\ndata: {}\n\n");
        assert!(matches!(Check::Stream.judge(Front::Anthropic, &good, false), Outcome::Passed(_)));
        let bad =
            reply(400, &[BIFROST], r#"{"type": "error", "error": {"type": "invalid_request_error", "message": "no"}}"#);
        assert!(matches!(Check::BadRequest.judge(Front::Anthropic, &bad, false), Outcome::Passed(_)));
    }

    #[test]
    fn the_guides_common_issues_are_named_with_the_way_out() {
        let refused = |status, headers: &[(&'static str, &'static str)], text: &str| {
            let body = json!({"error": {"message": text}}).to_string();
            failed(Check::Chat.judge(Front::OpenAI, &reply(status, headers, &body), true))
        };
        let wrong = refused(401, &[BIFROST], "Incorrect API key provided: sk-abcd1234567890");
        assert!(wrong.contains("kubectl bifrost keys") && !wrong.contains("sk-abcd"), "{wrong}");
        assert!(refused(401, &[("x-bf-arm", "baseline")], "no").contains("--api-key-env"));
        assert!(refused(404, &[BIFROST], "no such model").contains("spec.models"));
    }

    #[test]
    fn what_something_on_the_way_spoils_is_found() {
        let cut = reply(200, &[BIFROST, SSE], "data: {}\n\n");
        assert!(failed(Check::Stream.judge(Front::OpenAI, &cut, true)).contains("cuts it off"));
        let bare = reply(200, &[], r#"{"data": []}"#);
        assert!(failed(Check::Models.judge(Front::OpenAI, &bare, true)).contains("no x-bf-arm"));
        let page = reply(200, &[BIFROST], "<html>");
        assert!(failed(Check::Chat.judge(Front::OpenAI, &page, true)).contains("no JSON"));
        let fine = reply(200, &[BIFROST], "{}");
        assert!(failed(Check::BadRequest.judge(Front::OpenAI, &fine, true)).contains("200"));
        let baseline = reply(200, &[("x-bf-arm", "baseline")], r#"{"data": []}"#);
        assert!(failed(Check::Models.judge(Front::OpenAI, &baseline, false)).contains("without a credential"));
    }
}
