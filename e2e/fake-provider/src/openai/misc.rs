//! Small endpoints: models, embeddings, moderations, images.

use serde_json::Value;

use super::{Context, error};
use crate::{
    api::Vendor,
    json::{Json, list, object},
    reply::{self, Reply},
    request::Call,
    text,
};

const CREATED: u64 = 1_721_172_741;

fn model_object(id: &str) -> Json {
    object! { "id": id, "object": "model", "created": CREATED, "owned_by": "system" }
}

pub(super) fn models(context: &Context<'_>) -> Reply {
    let models = context.shared.models().list(Vendor::OpenAi);
    reply::ok(&object! { "object": "list", "data": list(models.iter().map(|m| model_object(m))) }, true)
}

pub(super) fn model(context: &Context<'_>, id: &str) -> Result<Reply, Reply> {
    context.model(Some(id))?;
    Ok(reply::ok(&model_object(id), true))
}

/// One embedding per input; the numbers follow from the text, so that equal texts are equal.
pub(super) fn embeddings(call: &Call, context: &Context<'_>, model: &str) -> Result<Reply, Reply> {
    let inputs = match call.member("input") {
        Some(Value::String(text)) => vec![text.clone()],
        Some(Value::Array(items)) if items.first().is_some_and(Value::is_number) => vec![format!("{items:?}")],
        Some(Value::Array(items)) => items.iter().map(Value::to_string).collect(),
        _ => return Err(error::missing("input")),
    };
    let dimensions = call.member("dimensions").and_then(Value::as_u64).unwrap_or(16).min(3072);
    let as_base64 = call.text("encoding_format") == Some("base64");
    let data = inputs.iter().enumerate().map(|(index, input)| {
        let numbers = numbers(input, dimensions);
        let embedding = if as_base64 { string(&base64(&numbers)) } else { floats(&numbers) };
        object! { "object": "embedding", "index": index, "embedding": embedding }
    });
    let bytes = inputs.iter().map(String::len).sum();
    let input = context.script.usage.input.unwrap_or_else(|| text::tokens(bytes));
    let usage = object! { "prompt_tokens": input, "total_tokens": input };
    Ok(reply::ok(&object! { "object": "list", "data": list(data), "model": model, "usage": usage }, true))
}

fn numbers(input: &str, dimensions: u64) -> Vec<f32> {
    let seed = input.bytes().fold(7_u64, |sum, b| sum.wrapping_mul(31).wrapping_add(u64::from(b)));
    let mut random = fastrand::Rng::with_seed(seed);
    (0..dimensions).map(|_| random.f32() - 0.5).collect()
}

fn floats(numbers: &[f32]) -> Json {
    let all: Vec<String> = numbers.iter().map(f32::to_string).collect();
    Json::raw(&format!("[{}]", all.join(",")))
}

fn string(text: &str) -> Json {
    Json::raw(&format!("\"{text}\""))
}

/// Little-endian numbers in base64, which the Python SDK asks for.
fn base64(numbers: &[f32]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let three = [0, 1, 2].map(|i| u32::from(group.get(i).copied().unwrap_or_default()));
        let bits = three[0] << 16 | three[1] << 8 | three[2];
        for i in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * i) & 63) as usize];
            out.push(if i > group.len() { '=' } else { char::from(digit) });
        }
    }
    out
}

pub(super) fn moderations(call: &Call, model: &str) -> Result<Reply, Reply> {
    if call.member("input").is_none() {
        return Err(error::missing("input"));
    }
    let names = ["harassment", "hate", "self-harm", "sexual", "violence"];
    let categories: Vec<_> = names.iter().map(|n| format!("\"{n}\":false")).collect();
    let scores: Vec<_> = names.iter().map(|n| format!("\"{n}\":0.0001")).collect();
    let result = object! {
        "flagged": false, "categories": Json::raw(&format!("{{{}}}", categories.join(","))),
        "category_scores": Json::raw(&format!("{{{}}}", scores.join(","))),
    };
    let id = crate::request::random_id("modr-", 28);
    Ok(reply::ok(&object! { "id": id, "model": model, "results": list([result]) }, true))
}

/// A picture of one white pixel, or of the scripted size in bytes.
pub(super) fn images(call: &Call, context: &Context<'_>) -> Result<Reply, Reply> {
    const PIXEL: &str =
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8/5+hHgAHggJ/PchI7wAAAABJRU5ErkJggg==";
    let prompt = call.text("prompt").ok_or_else(|| error::missing("prompt"))?;
    let picture = context.script.answer_bytes.map_or_else(|| PIXEL.to_owned(), |len| "A".repeat(len));
    let count = usize::try_from(call.member("n").and_then(Value::as_u64).unwrap_or(1)).unwrap_or(1).min(10);
    let picture = object! { "b64_json": picture, "revised_prompt": prompt };
    Ok(reply::ok(&object! { "created": reply::now(), "data": list(vec![picture; count]) }, false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_pads_as_it_must() {
        assert_eq!(base64(&[1.0]), "AACAPw==");
        assert_eq!(base64(&[1.0, 0.5]), "AACAPwAAAD8=");
        assert_eq!(base64(&[1.0, 0.5, -2.0]), "AACAPwAAAD8AAADA");
    }
}
