use super::*;
use crate::sse::StreamTap;

const CHAT: StreamFormat = StreamFormat::OpenAiChat;
const RESPONSES: StreamFormat = StreamFormat::OpenAiResponses;
const MESSAGES: StreamFormat = StreamFormat::AnthropicMessages;

/// `text` as a JSON string.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

fn chat(arguments: &[&str]) -> String {
    let call = |text: &&str| {
        format!(r#"{{"id":"c","type":"function","function":{{"name":"f","arguments":{}}}}}"#, quoted(text))
    };
    let calls: Vec<_> = arguments.iter().map(call).collect();
    format!(
        r#" {{"choices":[{{"index":0,"message":{{"content":null,"tool_calls":[{}]}}}}],"usage":{{}}}}"#,
        calls.join(",")
    )
}

fn responses(arguments: &str) -> String {
    let call = format!(r#"{{"type":"function_call","name":"f","arguments":{}}}"#, quoted(arguments));
    format!(r#"{{"output":[{{"type":"reasoning"}},{call}]}}"#)
}

fn stream(format: StreamFormat, events: &[String]) -> Option<bool> {
    let mut tap = StreamTap::new(format);
    tap.look_at_tool_calls();
    for event in events {
        tap.feed(format!("{event}\n\n").as_bytes());
    }
    tap.observer().invalid_tool_call()
}

fn chat_stream(deltas: &[(u64, &str)]) -> Option<bool> {
    let delta = |(index, text): &(u64, &str)| {
        let function = format!(r#"{{"arguments":{}}}"#, quoted(text));
        format!(
            r#"data: {{"choices":[{{"delta":{{"tool_calls":[{{"function":{function},"index":{index}}}]}},"index":0}}]}}"#
        )
    };
    let mut events: Vec<_> = deltas.iter().map(delta).collect();
    events.push("data: [DONE]".to_owned());
    stream(CHAT, &events)
}

fn messages_stream(pieces: &[&str]) -> Option<bool> {
    let mut events = vec![
        r#"data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#.to_owned(),
        r#"data: {"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"t","name":"f","input":{}}}"#
            .to_owned(),
    ];
    events.extend(pieces.iter().map(|piece| {
        let delta = format!(r#"{{"type":"input_json_delta","partial_json":{}}}"#, quoted(piece));
        format!(r#"data: {{"type":"content_block_delta","index":1,"delta":{delta}}}"#)
    }));
    events.push(r#"data: {"type":"message_stop"}"#.to_owned());
    stream(MESSAGES, &events)
}

#[test]
fn plain_answers_are_judged_by_each_call() {
    let judge = |answer: &str, format| invalid_tool_call(answer.as_bytes(), format);
    assert_eq!(judge(&chat(&[r#"{"a":"b \" c"}"#, "{}"]), CHAT), Some(false));
    assert_eq!(judge(&chat(&[r#"{"a":1}"#, r#"{"a":"#]), CHAT), Some(true));
    assert_eq!(judge(&chat(&[""]), CHAT), Some(true));
    assert_eq!(judge(&chat(&[]), CHAT), None);
    assert_eq!(judge(r#"{"choices":[{"message":{"content":"hello"}}]}"#, CHAT), None);
    assert_eq!(judge(r#"{"error":{"message":"no"}}"#, CHAT), None);
    assert_eq!(judge(&responses(r#"{"a":[]}"#), RESPONSES), Some(false));
    assert_eq!(judge(&responses("{a:1}"), RESPONSES), Some(true));
    let message = |input: &str| format!(r#"{{"content":[{{"type":"text"}},{{"type":"tool_use","input":{input}}}]}}"#);
    assert_eq!(judge(&message("{}"), MESSAGES), Some(false));
    assert_eq!(judge(&message(r#""{}""#), MESSAGES), Some(true));
    assert_eq!(judge(r#"{"content":[{"type":"text","text":"\"tool_use\""}]}"#, MESSAGES), None);
}

#[test]
fn streams_are_judged_by_what_their_pieces_make() {
    assert_eq!(chat_stream(&[(0, ""), (0, r#"{"ci"#), (0, r#"ty":"Par\"#), (0, r#""is"}"#)]), Some(false));
    assert_eq!(chat_stream(&[(0, r#"{"a""#), (1, "{}"), (0, ":1}")]), Some(false));
    assert_eq!(chat_stream(&[(0, r#"{"a""#), (1, "{}"), (0, ":")]), Some(true));
    assert_eq!(chat_stream(&[]), None);
    assert_eq!(messages_stream(&["", r#"{"a": "#, "1}"]), Some(false));
    assert_eq!(messages_stream(&[]), Some(false), "no input is an empty one");
    assert_eq!(messages_stream(&[r#"{"a": "#]), Some(true));
    let item = |arguments: &str| {
        let item = format!(r#"{{"type":"function_call","arguments":{}}}"#, quoted(arguments));
        vec![
            format!("event: response.output_item.done\ndata: {{\"item\":{item}}}"),
            "event: response.completed\ndata: {}".to_owned(),
        ]
    };
    assert_eq!(stream(RESPONSES, &item("{}")), Some(false));
    assert_eq!(stream(RESPONSES, &item("{")), Some(true));
}

#[test]
fn what_nobody_can_tell_is_not_said() {
    let many: Vec<_> = (0..17).map(|index| (index, "{}")).collect();
    assert_eq!(chat_stream(&many), None);
    assert_eq!(chat_stream(&many[..16]), Some(false));
    let long = format!("[{}1]", "1,".repeat(MAX_ARGUMENTS / 2));
    assert_eq!(invalid_tool_call(chat(&[&long]).as_bytes(), CHAT), None);
    let cut = stream(
        CHAT,
        &[r#"data: {"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{"}}]}}]}"#.to_owned()],
    );
    assert_eq!(cut, None, "the end never came");
    let unreadable = [r#"data: {"choices":[{"delta":{"tool_calls":[{"index":0"#.to_owned(), "data: [DONE]".to_owned()];
    assert_eq!(stream(CHAT, &unreadable), None);
    let mut blind = StreamTap::new(CHAT);
    blind.feed(
        b"data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{}}]}}]}\n\ndata: [DONE]\n\n",
    );
    assert_eq!(blind.observer().invalid_tool_call(), None, "nobody asked");
}
