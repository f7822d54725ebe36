//! Streams cut into chunks anywhere: the same events, the same bytes.

use bifrost_wire::sse::{Event, Piece, Scanner, StreamRelay, StreamTap};
use bifrost_wire::{Seen, StreamFormat, Usage};
use proptest::prelude::*;

/// An event as a test can keep it.
type Kept = (Vec<u8>, Vec<u8>);

fn kept(event: &Event<'_>) -> Kept {
    (event.name.to_vec(), event.data.to_vec())
}

fn events(chunks: &[&[u8]]) -> Vec<Kept> {
    let mut scanner = Scanner::new();
    let mut found = Vec::new();
    for chunk in chunks {
        scanner.feed(chunk, |event| found.push(kept(event)));
    }
    found
}

/// What a relay gives out for each chunk, and for what it held at the end.
fn relayed(mut relay: StreamRelay, chunks: &[&[u8]]) -> (Vec<Vec<u8>>, Seen, Option<Usage>) {
    let mut out = Vec::new();
    for chunk in chunks {
        let mut bytes = Vec::new();
        relay.feed(chunk, |piece| match piece {
            Piece::Held(held) => bytes.extend_from_slice(held),
            Piece::Chunk(range) => bytes.extend_from_slice(&chunk[range]),
        });
        out.push(bytes);
    }
    out.push(relay.take_held());
    (out, relay.observer().seen(), relay.usage())
}

/// `bytes` cut at the places.
fn cut<'a>(bytes: &'a [u8], places: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut ends: Vec<usize> = places.iter().map(|place| place.index(bytes.len() + 1)).collect();
    ends.push(bytes.len());
    ends.sort_unstable();
    let mut start = 0;
    ends.into_iter()
        .map(|end| {
            let chunk = &bytes[start..end];
            start = end;
            chunk
        })
        .collect()
}

/// The standard's algorithm, line by line over the whole text.
fn reference(bytes: &[u8]) -> Vec<Kept> {
    let text = String::from_utf8_lossy(bytes);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text).replace("\r\n", "\n").replace('\r', "\n");
    let mut found = Vec::new();
    let (mut name, mut data) = (String::new(), None::<String>);
    let mut lines: Vec<&str> = text.split('\n').collect();
    // What follows the last line end is no line yet.
    lines.pop();
    for line in lines {
        if line.is_empty() {
            if let Some(data) = data.take() {
                found.push((name.clone().into_bytes(), data.into_bytes()));
            }
            name.clear();
            continue;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => name = value.to_owned(),
            "data" => data = Some(data.map_or_else(|| value.to_owned(), |data| format!("{data}\n{value}"))),
            _ => {}
        }
    }
    found
}

fn stream_text() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        4 => prop::sample::select(vec!["data: a\n", "data:b\r\n", "data\r", "event: x\n", "event:y\r", ": c\n", "id: 1\r\n"]),
        4 => prop::sample::select(vec!["\n", "\r", "\r\n", "\n\n", "\r\n\r\n", "\r\r"]),
        1 => prop::sample::select(vec!["\u{feff}", "data", ":", " ", "é"]),
    ];
    (any::<bool>(), prop::collection::vec(part, 0..30))
        .prop_map(|(mark, parts)| if mark { "\u{feff}" } else { "" }.to_owned() + &parts.concat())
}

const USAGE_CHUNK: &str = r#"data: {"id":"c","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":3}}"#;

/// A chat stream with the usage chunk, and the same without it.
fn chat_stream() -> impl Strategy<Value = (String, String)> {
    let event = prop::sample::select(vec![
        r#"data: {"choices":[{"delta":{"content":"Hi"}}],"usage":null}"#,
        r#"data: {"choices":[{"delta":{"role":"assistant"}}]}"#,
        ": keep-alive",
        r#"data: {"choices":[],"usage":null}"#,
        "event: other\ndata: x",
    ]);
    let end = prop::sample::select(vec!["\n", "\r\n", "\r"]);
    (prop::collection::vec(event, 0..8), end).prop_map(|(events, end)| {
        let write = |event: &str| event.replace('\n', end) + end + end;
        let start: String = events.into_iter().map(write).collect();
        let done = write("data: [DONE]");
        (format!("{start}{}{done}", write(USAGE_CHUNK)), start + &done)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn events_are_the_standards_however_the_stream_is_cut(text in stream_text(), places: Vec<prop::sample::Index>) {
        let bytes = text.as_bytes();
        prop_assert_eq!(events(&cut(bytes, &places)), reference(bytes));
    }

    #[test]
    fn a_relay_passes_every_byte(text in stream_text(), places: Vec<prop::sample::Index>) {
        let chunks = cut(text.as_bytes(), &places);
        for relay in [StreamRelay::new, StreamRelay::without_usage_chunk] {
            let (out, ..) = relayed(relay(StreamFormat::OpenAiChat), &chunks);
            prop_assert_eq!(out.concat(), text.as_bytes());
        }
    }

    #[test]
    fn the_usage_chunk_goes_and_nothing_else((with, without) in chat_stream(), places: Vec<prop::sample::Index>) {
        let chunks = cut(with.as_bytes(), &places);
        let usage = Some(Usage { input_tokens: 9, output_tokens: 3 });
        let (out, seen, found) = relayed(StreamRelay::without_usage_chunk(StreamFormat::OpenAiChat), &chunks);
        prop_assert_eq!(String::from_utf8(out.concat()).unwrap(), without);
        prop_assert_eq!(found, usage);
        prop_assert!(seen.end);
        let (out, _, found) = relayed(StreamRelay::new(StreamFormat::OpenAiChat), &chunks);
        prop_assert_eq!(String::from_utf8(out.concat()).unwrap(), with);
        prop_assert_eq!(found, usage);
    }

    #[test]
    fn events_pass_at_the_latest_with_their_blank_line((_, text) in chat_stream(), places: Vec<prop::sample::Index>) {
        let mut relay = StreamRelay::without_usage_chunk(StreamFormat::OpenAiChat);
        let (mut fed, mut passed) = (0, 0);
        for chunk in cut(text.as_bytes(), &places) {
            fed += chunk.len();
            relay.feed(chunk, |piece| passed += match piece {
                Piece::Held(held) => held.len(),
                Piece::Chunk(range) => range.len(),
            });
            let whole = ["\n\n", "\r\r", "\r\n\r\n"].iter().filter_map(|end| text[..fed].rfind(end).map(|at| at + end.len())).max();
            prop_assert!(passed >= whole.unwrap_or(0));
        }
    }
}

#[test]
fn chunks_of_whole_events_pass_at_once_and_in_one_piece() {
    let mut relay = StreamRelay::without_usage_chunk(StreamFormat::OpenAiChat);
    for chunk in ["data: {\"choices\":[{}]}\n\n", "data: a\n\ndata: b\r\n\r\n: c\n\n", "data: [DONE]\n\n"] {
        let mut pieces = Vec::new();
        relay.feed(chunk.as_bytes(), |piece| pieces.push(piece == Piece::Chunk(0..chunk.len())));
        assert_eq!(pieces, [true]);
        assert!(relay.is_between_events());
    }
}

#[test]
fn a_line_feed_that_comes_late_goes_with_its_event() {
    let chunks: [&[u8]; 3] = [USAGE_CHUNK.as_bytes(), b"\r\n\r", b"\ndata: a\r\n\r\n"];
    let (out, ..) = relayed(StreamRelay::without_usage_chunk(StreamFormat::OpenAiChat), &chunks);
    assert_eq!(out, [&b""[..], b"", b"data: a\r\n\r\n", b""]);
    let (out, ..) = relayed(StreamRelay::new(StreamFormat::OpenAiChat), &chunks);
    assert_eq!(out.concat(), chunks.concat());
}

#[test]
fn what_a_dead_stream_leaves_is_held_and_not_passed() {
    let mut relay = StreamRelay::new(StreamFormat::OpenAiChat);
    let mut passed = 0;
    relay.feed(b"data: a\n\ndata: {\"half", |piece| passed += usize::from(piece == Piece::Chunk(0..9)));
    assert_eq!(passed, 1);
    assert!(relay.is_between_events());
    assert_eq!(relay.take_held(), b"data: {\"half");
}

/// An event of Responses with a megabyte of text before its usage.
fn long_event() -> String {
    let text = "x".repeat(1_000_000);
    let usage = r#""usage":{"input_tokens":5,"output_tokens":6},"metadata":{}"#;
    format!("event: response.completed\ndata: {{\"response\":{{\"output\":[\"{text}\"],{usage}}}}}\n\n")
}

#[test]
fn an_event_too_long_to_hold_passes_early_and_is_known_by_name_and_end() {
    let text = long_event() + "event: error\ndata: {}\n\n";
    let chunks: Vec<&[u8]> = text.as_bytes().chunks(10_000).collect();
    let (out, seen, usage) = relayed(StreamRelay::new(StreamFormat::OpenAiResponses), &chunks);
    assert_eq!(out.concat(), text.as_bytes());
    let held_at_most = 64 * 1024 + 10_000;
    let passed: usize = out.iter().take(50).map(Vec::len).sum();
    assert!(passed >= 500_000 - held_at_most, "{passed}");
    assert!(seen.end && seen.error);
    assert_eq!(usage, Some(Usage { input_tokens: 5, output_tokens: 6 }));

    let mut tap = StreamTap::new(StreamFormat::OpenAiResponses);
    for chunk in &chunks {
        tap.feed(chunk);
    }
    assert_eq!(tap.usage(), usage);
    assert!(tap.observer().seen().end);
}

#[test]
fn a_cut_event_says_that_it_is_not_whole() {
    let text = long_event();
    let mut scanner = Scanner::new();
    let mut whole = Vec::new();
    for chunk in text.as_bytes().chunks(100_000) {
        scanner.feed(chunk, |event| whole.push((event.whole, event.data.len() <= 32 * 1024)));
    }
    assert_eq!(whole, [(false, true)]);
    assert!(scanner.is_between_events());
}
