//! What this crate costs a request: the peek beside serde_json with a borrowed struct, on bodies of a few kinds; a
//! chunk of a stream; an answer's usage; the cohort hash.
//!
//! `cargo run --release -p bifrost-wire --example wire_bench`

use std::borrow::Cow;
use std::hint::black_box;
use std::time::{Duration, Instant};

use bifrost_wire::{StreamFormat, StreamRelay};
use serde::Deserialize;

/// The same members, read the usual way.
#[derive(Deserialize)]
struct Borrowed<'a> {
    #[serde(borrow)]
    model: Option<Cow<'a, str>>,
    stream: Option<bool>,
    #[serde(borrow)]
    user: Option<Cow<'a, str>>,
    #[serde(borrow)]
    metadata: Option<Metadata<'a>>,
}

#[derive(Deserialize)]
struct Metadata<'a> {
    #[serde(borrow)]
    user_id: Option<Cow<'a, str>>,
}

/// Nanoseconds a call: the best of twenty runs, so that a busy machine disturbs less.
fn measure(mut work: impl FnMut()) -> f64 {
    let mut best = f64::MAX;
    let mut calls = 1u32;
    let mut runs = 0;
    while runs < 20 {
        let start = Instant::now();
        for _ in 0..calls {
            work();
        }
        let took = start.elapsed();
        if took < Duration::from_millis(2) {
            calls *= 2;
            continue;
        }
        best = best.min(took.as_nanos() as f64 / f64::from(calls));
        runs += 1;
    }
    best
}

/// A chat request of about `size` bytes that repeats `text` as its messages.
fn chat(size: usize, text: &str) -> String {
    let mut body =
        String::from(r#"{"model":"openai/gpt-4o","stream":true,"user":"u-1234","temperature":0.7,"messages":["#);
    let mut first = true;
    while body.len() < size {
        if !first {
            body.push(',');
        }
        first = false;
        let content: String = text.chars().cycle().take(200.max(size / 20)).collect();
        body.push_str(&format!(r#"{{"role":"user","content":{}}}"#, bifrost_wire::json_string(&content)));
    }
    body.push_str(r#"],"metadata":{"user_id":"abc"}}"#);
    body
}

/// An embeddings request with token numbers.
fn tokens(size: usize) -> String {
    let numbers: Vec<String> = (0..size / 6).map(|index| (10_000 + index % 80_000).to_string()).collect();
    format!(r#"{{"model":"text-embedding-3-small","input":[{}]}}"#, numbers.join(","))
}

/// Chunks of one event each, as chat streams have them.
fn relay(format: StreamFormat, event: &str) -> f64 {
    let mut relay = StreamRelay::without_usage_chunk(format);
    let mut passed = 0;
    measure(|| {
        relay.feed(black_box(event.as_bytes()), |_| passed += 1);
    })
}

fn print_small_parts() {
    let choice = r#"{"index":0,"delta":{"content":" token"},"logprobs":null,"finish_reason":null}"#;
    let head =
        r#"{"id":"chatcmpl-123","object":"chat.completion.chunk","created":1700000000,"model":"gpt-4o-2024-08-06""#;
    let chat = format!("data: {head},\"service_tier\":\"default\",\"choices\":[{choice}],\"usage\":null}}\n\n");
    let delta = r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":" token"}}"#;
    let messages = format!("event: content_block_delta\ndata: {delta}\n\n");
    let answer = format!("{head},\"content\":\"{}\",\"usage\":{{\"prompt_tokens\":9}}}}", "word ".repeat(200));
    println!("chat chunk of {} bytes: {:.0} ns", chat.len(), relay(StreamFormat::OpenAiChat, &chat));
    println!("messages chunk of {} bytes: {:.0} ns", messages.len(), relay(StreamFormat::AnthropicMessages, &messages));
    let usage = measure(|| _ = black_box(bifrost_wire::usage_from_json(black_box(answer.as_bytes()))));
    println!("usage of an answer of {} bytes: {usage:.0} ns", answer.len());
    let message = format!(r#"{{"role":"assistant","content":"{}","refusal":null}}"#, "word ".repeat(200));
    let answer =
        format!("{head},\"choices\":[{{\"index\":0,\"message\":{message}}}],\"usage\":{{\"prompt_tokens\":9}}}}");
    let output =
        measure(|| _ = black_box(bifrost_wire::has_output(black_box(answer.as_bytes()), StreamFormat::OpenAiChat)));
    println!("output of an answer of {} bytes: {output:.0} ns", answer.len());
    let hash = measure(|| _ = black_box(bifrost_wire::bucket(black_box("llm/ai"), black_box("user-123456"))));
    println!("bucket: {hash:.0} ns");
}

fn main() {
    print_small_parts();
    let prose = "The quick brown fox jumps over the lazy dog, again and again, until the line is long enough. ";
    let code = "fn main() {\n    println!(\"hello, {}\", name);\n\tlet path = \"C:\\\\temp\";\n}\n";
    let chinese = "敏捷的棕色狐狸跳过了那只懒狗,一次又一次。";
    println!("{:<22}{:>9}{:>12}{:>12}{:>12}{:>8}", "body", "bytes", "peek ns", "serde ns", "utf8 ns", "GB/s");
    for size in [1_000, 100_000, 1_000_000] {
        for (name, body) in [
            ("prose", chat(size, prose)),
            ("code (many escapes)", chat(size, code)),
            ("chinese", chat(size, chinese)),
            ("one long string", chat(size, &"QUJD".repeat(size / 4))),
            ("numbers", tokens(size)),
        ] {
            let body = body.as_bytes();
            let peek = measure(|| {
                black_box(bifrost_wire::peek(black_box(body)).is_ok());
            });
            let serde = measure(|| {
                let parsed: Result<Borrowed<'_>, _> = serde_json::from_slice(black_box(body));
                let used =
                    parsed.map(|read| (read.model, read.stream, read.user, read.metadata.and_then(|m| m.user_id)));
                black_box(used.is_ok());
            });
            let utf8 = measure(|| {
                black_box(std::str::from_utf8(black_box(body)).is_ok());
            });
            let speed = body.len() as f64 / peek;
            println!("{name:<22}{:>9}{peek:>12.0}{serde:>12.0}{utf8:>12.0}{speed:>8.2}", body.len());
        }
    }
}
