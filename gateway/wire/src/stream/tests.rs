use super::*;
use crate::sse::Scanner;

/// What was in each event of `text`, and the observer afterwards.
fn observed(format: StreamFormat, text: &str) -> (Vec<Seen>, StreamObserver) {
    let mut observer = StreamObserver::new(format);
    let mut seen = Vec::new();
    Scanner::new().feed(text.as_bytes(), |event| seen.push(observer.observe(event)));
    (seen, observer)
}

/// The index of the first event with output.
fn first_output(format: StreamFormat, text: &str) -> Option<usize> {
    observed(format, text).0.iter().position(|seen| seen.output)
}

fn usage(input_tokens: u64, output_tokens: u64) -> Option<Usage> {
    Some(Usage { input_tokens, output_tokens })
}

const CHAT: &str = r#"data: {"id":"c","object":"chat.completion.chunk","choices":[],"prompt_filter_results":[{"x":1}]}

data: {"id":"c","choices":[{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"finish_reason":null}],"usage":null}

data: {"id":"c","choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":null}],"usage":null}

data: {"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":null}

data: {"id":"c","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":1,"total_tokens":10}}

data: [DONE]

"#;

#[test]
fn a_chat_stream_has_output_usage_and_an_end() {
    let (seen, observer) = observed(StreamFormat::OpenAiChat, CHAT);
    assert_eq!(seen.iter().map(|seen| seen.output).collect::<Vec<_>>(), [false, false, true, false, false, false]);
    assert_eq!(seen.iter().map(|seen| seen.usage_chunk).collect::<Vec<_>>(), [false, false, false, false, true, false]);
    assert_eq!(seen.iter().map(|seen| seen.end).collect::<Vec<_>>(), [false, false, false, false, false, true]);
    assert!(!observer.seen().error);
    assert_eq!(observer.usage(), usage(9, 1));
}

#[test]
fn reasoning_tool_calls_refusals_and_plain_text_are_output() {
    let start = "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[]}}]}\n\n";
    for delta in [
        r#""delta":{"reasoning_content":"hm"}"#,
        r#""delta":{"tool_calls":[{"index":0,"function":{"name":"f","arguments":""}}]}"#,
        r#""delta":{"refusal":"no"}"#,
        r#""text":"a""#,
    ] {
        let text = format!("{start}data: {{\"choices\":[{{\"index\":0,{delta}}}]}}\n\n");
        assert_eq!(first_output(StreamFormat::OpenAiChat, &text), Some(1), "{delta}");
    }
    assert_eq!(first_output(StreamFormat::OpenAiChat, start), None);
}

#[test]
fn only_a_chunk_for_usage_alone_is_a_usage_chunk() {
    for (data, is_usage_chunk) in [
        (r#"{"usage":{"prompt_tokens":1},"choices":[ ]}"#, true),
        (r#"{"choices":[],"usage":{"prompt_tokens":1},"obfuscation":"x"}"#, true),
        (r#"{"choices":[{"delta":{}}],"usage":{"prompt_tokens":1}}"#, false),
        (r#"{"choices":[],"usage":null}"#, false),
        (r#"{"choices":[],"usage":{}}"#, false),
        (r#"{"usage":{"prompt_tokens":1}}"#, false),
        (r#"{"choices":[],"usage":{"prompt_tokens":1},"error":{"message":"x"}}"#, false),
        (r#"{"choices":[],"usage":{"prompt_tokens":1}"#, false),
    ] {
        for before in ["", CHAT] {
            let (seen, _) = observed(StreamFormat::OpenAiChat, &format!("{before}data: {data}\n\n"));
            assert_eq!(seen.last().unwrap().usage_chunk, is_usage_chunk, "{data}");
        }
    }
}

#[test]
fn usage_beside_choices_is_read_too() {
    let text = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}],\"usage\":{\"prompt_tokens\":4,\"completion_tokens\":2}}\n\n";
    assert_eq!(observed(StreamFormat::OpenAiChat, text).1.usage(), usage(4, 2));
}

#[test]
fn errors_are_seen_in_every_format() {
    for (format, text) in [
        (StreamFormat::OpenAiChat, "data: {\"error\":{\"message\":\"x\"}}\n\n"),
        (StreamFormat::OpenAiChat, "event: error\ndata: {\"message\":\"x\"}\n\n"),
        (StreamFormat::OpenAiResponses, "event: error\ndata: {\"type\":\"error\"}\n\n"),
        (StreamFormat::OpenAiResponses, "data: {\"type\":\"response.failed\",\"response\":{}}\n\n"),
        (StreamFormat::AnthropicMessages, "event: error\ndata: {\"type\":\"error\"}\n\n"),
        (StreamFormat::AnthropicMessages, "data: {\"type\":\"error\"}\n\n"),
    ] {
        assert!(observed(format, text).1.seen().error, "{text}");
    }
    assert!(!observed(StreamFormat::OpenAiChat, "data: {\"choices\":[],\"error\":null}\n\n").1.seen().error);
}

const RESPONSES: &str = r#"event: response.created
data: {"type":"response.created","response":{"id":"r","usage":null}}

event: response.output_item.added
data: {"type":"response.output_item.added","item":{"type":"message","content":[]}}

event: response.output_text.delta
data: {"type":"response.output_text.delta","delta":"Hi"}

event: response.completed
data: {"type":"response.completed","response":{"id":"r","output":[{"usage":1}],"usage":{"input_tokens":7,"output_tokens":2,"total_tokens":9}}}

"#;

#[test]
fn a_responses_stream_has_output_usage_and_an_end() {
    let unnamed: String =
        RESPONSES.lines().filter(|line| !line.starts_with("event")).map(|line| format!("{line}\n")).collect();
    for text in [RESPONSES, &unnamed] {
        let (seen, observer) = observed(StreamFormat::OpenAiResponses, text);
        assert_eq!(seen.iter().map(|seen| seen.output).collect::<Vec<_>>(), [false, false, true, false]);
        assert!(seen[3].end && !observer.seen().error);
        assert_eq!(observer.usage(), usage(7, 2));
    }
}

const MESSAGES: &str = r#"event: message_start
data: {"type":"message_start","message":{"id":"m","content":[],"usage":{"input_tokens":25,"cache_read_input_tokens":100,"output_tokens":1}}}

event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}

event: ping
data: {"type": "ping"}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hi"}}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":15}}

event: message_stop
data: {"type":"message_stop"}

"#;

#[test]
fn a_messages_stream_has_output_usage_and_an_end() {
    let (seen, observer) = observed(StreamFormat::AnthropicMessages, MESSAGES);
    assert_eq!(seen.iter().position(|seen| seen.output), Some(3));
    assert_eq!(seen.iter().position(|seen| seen.end), Some(5));
    assert_eq!(observer.usage(), usage(125, 15));
}

#[test]
fn a_tool_call_of_anthropics_is_output_from_its_start() {
    let text = r#"event: content_block_start
data: {"type":"content_block_start","content_block":{"type":"tool_use","id":"t","name":"f","input":{}}}

"#;
    assert_eq!(first_output(StreamFormat::AnthropicMessages, text), Some(0));
}

#[test]
fn events_that_are_no_json_mean_nothing() {
    for format in [StreamFormat::OpenAiChat, StreamFormat::OpenAiResponses, StreamFormat::AnthropicMessages] {
        let (seen, observer) = observed(format, "data: oops\n\ndata: [1]\n\ndata:\n\ndata: {\"type\":1}\n\n");
        assert_eq!(seen, [Seen::default(); 4]);
        assert_eq!(observer.usage(), None);
    }
}
