//! `/v1/responses`: typed events, and responses that are kept for the account that made them.

use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::Value;

use super::{Context, error};
use crate::{
    json::{Json, Write, list, object},
    reply::{self, Reply},
    request::{Call, random_id},
    shared::Stored,
    sse::{self, Events},
    text,
};

pub(super) fn answer(call: &Call, context: &Context<'_>, model: &str) -> Result<Reply, Reply> {
    if call.member("input").is_none() && call.member("prompt").is_none() {
        return Err(error::missing("input"));
    }
    if let Some(previous) = call.text("previous_response_id")
        && context.shared.kept(&context.account, previous).is_none()
    {
        return Err(error::unknown_previous_response(previous));
    }
    let answer = text::answer(context.script);
    let response = Draft::new(call, context, model, &answer);
    let done = response.completed(&answer);
    if response.store {
        let object = done.pretty();
        let stored = Stored { id: response.id.clone(), account: context.account.clone(), object };
        context.shared.keep(stored);
    }
    Ok(if call.streams() { stream(context, &response, answer, &done) } else { reply::ok(&done, true) })
}

/// `GET` and `DELETE /v1/responses/{id}`
pub(super) fn stored(call: &Call, context: &Context<'_>, id: &str) -> Result<Reply, Reply> {
    let kept = context.shared.kept(&context.account, id).ok_or_else(|| error::unknown_response(id))?;
    if call.method == Method::DELETE {
        context.shared.forget(&context.account, id);
        return Ok(reply::ok(&object! { "id": id, "object": "response", "deleted": true }, true));
    }
    Ok(Reply::json(StatusCode::OK, kept.object))
}

/// A response and what stays the same while it grows.
struct Draft {
    id: String,
    message_id: String,
    created: u64,
    model: String,
    store: bool,
    previous: Option<String>,
    user: Option<String>,
    usage: Json,
}

impl Draft {
    fn new(call: &Call, context: &Context<'_>, model: &str, answer: &str) -> Self {
        let (input, output, cached) = reply::usage(context.script, call.input_tokens(), answer);
        Self {
            id: random_id("resp_", 48),
            message_id: random_id("msg_", 48),
            created: reply::now(),
            model: model.to_owned(),
            store: call.member("store").and_then(Value::as_bool).unwrap_or(true),
            previous: call.text("previous_response_id").map(str::to_owned),
            user: call.text("user").map(str::to_owned),
            usage: object! {
                "input_tokens": input, "input_tokens_details": object! { "cached_tokens": cached },
                "output_tokens": output, "output_tokens_details": object! { "reasoning_tokens": 0_u64 },
                "total_tokens": input + output,
            },
        }
    }

    fn object(&self, status: &str, output: &Json, usage: Option<&Json>) -> Json {
        object! {
            "id": self.id, "object": "response", "created_at": self.created, "status": status, "background": false,
            "error": (), "incomplete_details": (), "instructions": (), "max_output_tokens": (), "max_tool_calls": (),
            "model": self.model, "output": output, "parallel_tool_calls": true,
            "previous_response_id": self.previous, "reasoning": object! { "effort": (), "summary": () },
            "safety_identifier": (), "service_tier": "default", "store": self.store,
            "temperature": Json::raw("1.0"), "text": object! { "format": object! { "type": "text" } },
            "tool_choice": "auto", "tools": Json::raw("[]"), "top_p": Json::raw("1.0"), "truncation": "disabled",
            "usage": usage, "user": self.user, "metadata": Json::raw("{}"),
        }
    }

    fn completed(&self, answer: &str) -> Json {
        self.object("completed", &list([self.message("completed", &list([part(answer)]))]), Some(&self.usage))
    }

    fn message(&self, status: &str, content: &Json) -> Json {
        object! {
            "id": self.message_id, "type": "message", "status": status, "content": content, "role": "assistant",
        }
    }
}

fn part(text: &str) -> Json {
    object! { "type": "output_text", "annotations": Json::raw("[]"), "logprobs": Json::raw("[]"), "text": text }
}

fn stream(context: &Context<'_>, draft: &Draft, answer: String, done: &Json) -> Reply {
    let started = draft.object("in_progress", &Json::raw("[]"), None);
    let message = draft.message_id.clone();
    let head = [
        whole("response.created", 0, &started),
        whole("response.in_progress", 1, &started),
        item("response.output_item.added", 2, &draft.message("in_progress", &Json::raw("[]"))),
        content("response.content_part.added", 3, &message, "part", &part("")),
    ];
    let first = head.len();
    let last = first + Events::count(&answer, context.script);
    let tail = [
        content("response.output_text.done", last, &message, "text", &answer),
        content("response.content_part.done", last + 1, &message, "part", &part(&answer)),
        item("response.output_item.done", last + 2, &draft.message("completed", &list([part(&answer)]))),
        whole("response.completed", last + 3, done),
    ];
    let mut number = first;
    let delta = move |piece: &str| {
        let kind = "response.output_text.delta";
        let event = object! {
            "type": kind, "sequence_number": number, "item_id": message, "output_index": 0_u64, "content_index": 0_u64,
            "delta": piece, "logprobs": Json::raw("[]"),
        };
        number += 1;
        sse::event(kind, &event)
    };
    Reply::events(Events::new(context.script, answer, head, delta, tail, error_event))
}

fn whole(kind: &str, number: usize, response: &Json) -> Bytes {
    sse::event(kind, &object! { "type": kind, "sequence_number": number, "response": response })
}

fn item(kind: &str, number: usize, item: &Json) -> Bytes {
    sse::event(kind, &object! { "type": kind, "sequence_number": number, "output_index": 0_u64, "item": item })
}

fn content(kind: &str, number: usize, message: &str, name: &str, value: &dyn Write) -> Bytes {
    sse::event(
        kind,
        &crate::json::members(&[
            ("type", &kind),
            ("sequence_number", &number),
            ("item_id", &message),
            ("output_index", &0_u64),
            ("content_index", &0_u64),
            (name, value),
        ]),
    )
}

fn error_event(kind: &str, message: &str) -> Bytes {
    let error = object! { "type": kind, "code": kind, "message": message, "param": () };
    sse::event("error", &object! { "type": "error", "sequence_number": 0_u64, "error": error })
}
