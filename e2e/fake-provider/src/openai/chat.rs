//! `/v1/chat/completions`.

use std::collections::VecDeque;

use bytes::Bytes;
use serde_json::Value;

use super::{Context, error};
use crate::{
    json::{Json, list, object},
    reply::{self, Reply},
    request::{Call, random_id},
    sse::{self, Events},
    text,
};

pub(super) fn answer(call: &Call, context: &Context<'_>, model: &str) -> Result<Reply, Reply> {
    if !call.member("messages").is_some_and(Value::is_array) {
        return Err(error::missing("messages"));
    }
    let answer = text::answer(context.script);
    let usage = usage(call, context, &answer);
    let frame = Frame { id: random_id("chatcmpl-", 29), created: reply::now(), model: model.to_owned() };
    if call.streams() {
        return Ok(stream(call, context, frame, answer, &usage));
    }
    let message = object! {
        "role": "assistant", "content": answer, "refusal": (), "annotations": Json::raw("[]"),
    };
    let choice = object! { "index": 0_u64, "message": message, "logprobs": (), "finish_reason": "stop" };
    let body = object! {
        "id": frame.id, "object": "chat.completion", "created": frame.created, "model": frame.model,
        "choices": list([choice]), "usage": usage, "service_tier": "default", "system_fingerprint": FINGERPRINT,
    };
    Ok(reply::ok(&body, true))
}

const FINGERPRINT: &str = "fp_fa4eb0a3f1";

/// The token numbers of chat and text completions.
pub(super) fn usage(call: &Call, context: &Context<'_>, answer: &str) -> Json {
    let (input, output, cached) = reply::usage(context.script, call.input_tokens(), answer);
    let prompt_details = object! { "cached_tokens": cached, "audio_tokens": 0_u64 };
    let completion_details = object! {
        "reasoning_tokens": 0_u64, "audio_tokens": 0_u64,
        "accepted_prediction_tokens": 0_u64, "rejected_prediction_tokens": 0_u64,
    };
    object! {
        "prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output,
        "prompt_tokens_details": prompt_details, "completion_tokens_details": completion_details,
    }
}

/// Whether the client asked for the usage chunk.
pub(super) fn wants_usage(call: &Call) -> bool {
    call.member("stream_options").and_then(|o| o.get("include_usage")).and_then(Value::as_bool).unwrap_or_default()
}

struct Frame {
    id: String,
    created: u64,
    model: String,
}

impl Frame {
    /// `usage`: none when not asked for, else `null` or the numbers.
    fn chunk(&self, choices: &Json, usage: Option<Option<&Json>>) -> Bytes {
        let kind = "chat.completion.chunk";
        sse::data(&match usage {
            None => object! {
                "id": self.id, "object": kind, "created": self.created, "model": self.model,
                "service_tier": "default", "system_fingerprint": FINGERPRINT, "choices": choices,
            },
            Some(usage) => object! {
                "id": self.id, "object": kind, "created": self.created, "model": self.model,
                "service_tier": "default", "system_fingerprint": FINGERPRINT, "choices": choices, "usage": usage,
            },
        })
    }
}

fn choices(delta: &Json, finish: Option<&str>) -> Json {
    list([object! { "index": 0_u64, "delta": delta, "logprobs": (), "finish_reason": finish }])
}

fn stream(call: &Call, context: &Context<'_>, frame: Frame, answer: String, usage: &Json) -> Reply {
    let with_usage = wants_usage(call);
    let no_usage = with_usage.then_some(None);
    let role = object! { "role": "assistant", "content": "", "refusal": () };
    let head = [frame.chunk(&choices(&role, None), no_usage)];
    let mut tail = VecDeque::from([frame.chunk(&choices(&Json::raw("{}"), Some("stop")), no_usage)]);
    if with_usage {
        tail.push_back(frame.chunk(&Json::raw("[]"), Some(Some(usage))));
    }
    tail.push_back(DONE);
    let delta = move |piece: &str| frame.chunk(&choices(&object! { "content": piece }, None), no_usage);
    Reply::events(Events::new(context.script, answer, head, delta, tail, error_event))
}

/// The last event of the streams of chat and text completions.
pub(super) const DONE: Bytes = Bytes::from_static(b"data: [DONE]\n\n");

/// An error in the midst of such a stream.
pub(super) fn error_event(kind: &str, message: &str) -> Bytes {
    sse::data(&object! { "error": object! { "message": message, "type": kind, "param": (), "code": () } })
}
