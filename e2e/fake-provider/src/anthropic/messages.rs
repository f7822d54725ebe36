//! `/v1/messages` and its token count.

use bytes::Bytes;
use serde_json::Value;

use super::error;
use crate::{
    json::{Json, list, object},
    reply::{self, Reply},
    request::{Call, random_id},
    script::Script,
    sse::{self, Events},
    text,
};

pub(super) fn answer(call: &Call, script: &Script, model: &str) -> Result<Reply, Reply> {
    if !call.member("max_tokens").is_some_and(Value::is_u64) {
        return Err(error::required(call, "max_tokens"));
    }
    messages(call)?;
    let answer = text::answer(script);
    let (input, output, cached) = reply::usage(script, call.input_tokens(), &answer);
    let usage = |output: u64| {
        let creation = object! { "ephemeral_5m_input_tokens": 0_u64, "ephemeral_1h_input_tokens": 0_u64 };
        object! {
            "input_tokens": input, "cache_creation_input_tokens": 0_u64, "cache_read_input_tokens": cached,
            "cache_creation": creation, "output_tokens": output, "service_tier": "standard",
        }
    };
    let id = random_id("msg_01", 22);
    if call.streams() {
        let start = message(&id, model, &Json::raw("[]"), None, &usage(1));
        return Ok(stream(script, answer, &start, (input, output, cached)));
    }
    let content = list([object! { "type": "text", "text": answer }]);
    Ok(reply::ok(&message(&id, model, &content, Some("end_turn"), &usage(output)), false))
}

fn messages(call: &Call) -> Result<&Vec<Value>, Reply> {
    let messages =
        call.member("messages").and_then(Value::as_array).ok_or_else(|| error::required(call, "messages"))?;
    if messages.is_empty() {
        return Err(error::invalid(call, "messages: at least one message is required"));
    }
    Ok(messages)
}

/// `POST /v1/messages/count_tokens`
pub(super) fn count_tokens(call: &Call, script: &Script) -> Result<Reply, Reply> {
    messages(call)?;
    let tokens = script.usage.input.unwrap_or_else(|| call.input_tokens());
    Ok(reply::ok(&object! { "input_tokens": tokens }, false))
}

fn message(id: &str, model: &str, content: &Json, stop: Option<&str>, usage: &Json) -> Json {
    object! {
        "model": model, "id": id, "type": "message", "role": "assistant", "content": content,
        "stop_reason": stop, "stop_sequence": (), "usage": usage,
    }
}

fn event(kind: &str, member: &str, value: &Json) -> Bytes {
    sse::event(kind, &crate::json::members(&[("type", &kind), (member, value)]))
}

fn stream(script: &Script, answer: String, start: &Json, (input, output, cached): (u64, u64, u64)) -> Reply {
    let block = object! { "type": "text", "text": "" };
    let kind = "content_block_start";
    let head = [
        event("message_start", "message", start),
        sse::event(kind, &object! { "type": kind, "index": 0_u64, "content_block": block }),
        sse::event("ping", &object! { "type": "ping" }),
    ];
    let usage = object! {
        "input_tokens": input, "cache_creation_input_tokens": 0_u64, "cache_read_input_tokens": cached,
        "output_tokens": output,
    };
    let end = object! { "stop_reason": "end_turn", "stop_sequence": () };
    let tail = [
        event("content_block_stop", "index", &Json::raw("0")),
        sse::event("message_delta", &object! { "type": "message_delta", "delta": end, "usage": usage }),
        sse::event("message_stop", &object! { "type": "message_stop" }),
    ];
    let delta = |piece: &str| {
        let kind = "content_block_delta";
        let delta = object! { "type": "text_delta", "text": piece };
        sse::event(kind, &object! { "type": kind, "index": 0_u64, "delta": delta })
    };
    Reply::events(Events::new(script, answer, head, delta, tail, error_event))
}

/// An error in the midst of a stream.
pub(super) fn error_event(kind: &str, message: &str) -> Bytes {
    event("error", "error", &object! { "type": kind, "message": message })
}
