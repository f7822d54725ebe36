//! `/v1/complete`, the old text completions.

use bytes::Bytes;
use serde_json::Value;

use super::{error, messages::error_event};
use crate::{
    json::{Json, object},
    reply::{self, Reply},
    request::{Call, random_id},
    script::Script,
    sse::{self, Events},
    text,
};

pub(super) fn answer(call: &Call, script: &Script, model: &str) -> Result<Reply, Reply> {
    if call.text("prompt").is_none() {
        return Err(error::required(call, "prompt"));
    }
    if !call.member("max_tokens_to_sample").is_some_and(Value::is_u64) {
        return Err(error::required(call, "max_tokens_to_sample"));
    }
    let answer = text::answer(script);
    let (id, model) = (random_id("compl_01", 22), model.to_owned());
    let completion = move |text: &str, stop: Option<&str>| -> Json {
        object! { "type": "completion", "id": id, "completion": text, "stop_reason": stop, "model": model }
    };
    if !call.streams() {
        return Ok(reply::ok(&completion(&answer, Some("stop_sequence")), false));
    }
    let tail = [sse::event("completion", &completion("", Some("stop_sequence")))];
    let piece = move |piece: &str| -> Bytes { sse::event("completion", &completion(piece, None)) };
    Ok(Reply::events(Events::new(script, answer, [], piece, tail, error_event)))
}
