//! `/v1/completions`, the old text completions.

use std::collections::VecDeque;

use bytes::Bytes;

use super::{
    Context,
    chat::{DONE, error_event, usage, wants_usage},
};
use crate::{
    json::{Json, list, object},
    reply::{self, Reply},
    request::{Call, random_id},
    sse::{self, Events},
    text,
};

pub(super) fn answer(call: &Call, context: &Context<'_>, model: &str) -> Result<Reply, Reply> {
    let answer = text::answer(context.script);
    let usage = usage(call, context, &answer);
    let (id, created) = (random_id("cmpl-", 29), reply::now());
    if call.streams() {
        let model = model.to_owned();
        let chunk = move |choices: Json, usage: Option<&Json>| -> Bytes {
            sse::data(&object! {
                "id": id, "object": "text_completion", "created": created, "choices": choices, "model": model,
                "usage": usage,
            })
        };
        let mut tail = VecDeque::from([chunk(choices("", Some("stop")), None)]);
        if wants_usage(call) {
            tail.push_back(chunk(Json::raw("[]"), Some(&usage)));
        }
        tail.push_back(DONE);
        let piece = move |piece: &str| chunk(choices(piece, None), None);
        return Ok(Reply::events(Events::new(context.script, answer, [], piece, tail, error_event)));
    }
    let body = object! {
        "id": id, "object": "text_completion", "created": created, "model": model,
        "choices": choices(&answer, Some("stop")), "usage": usage,
    };
    Ok(reply::ok(&body, true))
}

fn choices(text: &str, finish: Option<&str>) -> Json {
    list([object! { "text": text, "index": 0_u64, "logprobs": (), "finish_reason": finish }])
}
