//! How alike two answers are: their structure, and the words of their text. Pure, and too slow for a thread that serves requests: an
//! answer becomes a tree here.

use std::collections::HashSet;

use bifrost_wire::sse::Scanner;
use serde_json::Value;

use crate::front::route::Endpoint;

/// Bytes of a text whose words are compared.
const TEXT: usize = 64 * 1024;

/// What an answer is like.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shape {
    /// Why it ended, in the vendor's word.
    pub finish: String,
    /// Whether it calls a tool.
    pub tools: bool,
    /// Its text.
    pub text: String,
}

/// In what two answers differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Aspect {
    /// The copy has another status, or no answer.
    Status,
    /// The copy is not whole, or of another form.
    End,
    /// They ended for another reason.
    Finish,
    /// One has text and the other has none.
    Content,
    /// One calls a tool and the other does not.
    ToolCalls,
}

impl Aspect {
    /// All, in the order of their numbers.
    pub const ALL: [Self; 5] = [Self::Status, Self::End, Self::Finish, Self::Content, Self::ToolCalls];

    /// As metrics spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::End => "end",
            Self::Finish => "finish",
            Self::Content => "content",
            Self::ToolCalls => "tool_calls",
        }
    }
}

/// The shape of a whole answer in memory. `None`: it is of no form that is known.
pub fn shape(endpoint: Endpoint, stream: bool, body: &[u8]) -> Option<Shape> {
    let mut shape = Shape::default();
    if stream {
        let mut scanner = Scanner::new();
        // The last event may miss its blank line.
        for part in [body, b"\n\n"] {
            scanner.feed(part, |event| {
                if let Ok(value) = serde_json::from_slice(&event.data) {
                    shape.event(endpoint, &value);
                }
            });
        }
        return Some(shape);
    }
    let value = serde_json::from_slice(body).ok().filter(Value::is_object)?;
    shape.answer(endpoint, &value);
    Some(shape)
}

impl Shape {
    fn answer(&mut self, endpoint: Endpoint, value: &Value) {
        match endpoint {
            Endpoint::Responses => self.response(value),
            Endpoint::Messages => {
                self.finish(&value["stop_reason"]);
                for block in list(&value["content"]) {
                    self.block(block);
                }
            }
            _ => self.choices(value, "message"),
        }
    }

    fn event(&mut self, endpoint: Endpoint, value: &Value) {
        match endpoint {
            Endpoint::Responses => {
                if let Some(response) = value.get("response").filter(|response| response["status"] != "in_progress") {
                    *self = Self::default();
                    self.response(response);
                }
            }
            Endpoint::Messages => {
                self.block(&value["content_block"]);
                self.push(&value["delta"]["text"]);
                self.finish(&value["delta"]["stop_reason"]);
            }
            _ => self.choices(value, "delta"),
        }
    }

    /// OpenAI's chat completions and completions; `member` holds what an answer or a chunk brings.
    fn choices(&mut self, value: &Value, member: &str) {
        for choice in list(&value["choices"]) {
            let message = &choice[member];
            self.push(&choice["text"]);
            self.push(&message["content"]);
            for part in list(&message["content"]) {
                self.push(&part["text"]);
            }
            self.tools |= !list(&message["tool_calls"]).is_empty() || message["function_call"].is_object();
            self.finish(&choice["finish_reason"]);
        }
    }

    fn response(&mut self, value: &Value) {
        self.finish(&value["status"]);
        self.finish(&value["incomplete_details"]["reason"]);
        for item in list(&value["output"]) {
            self.tools |= item["type"].as_str().is_some_and(|kind| kind.ends_with("_call"));
            for part in list(&item["content"]) {
                self.push(&part["text"]);
            }
        }
    }

    /// A block of an Anthropic message.
    fn block(&mut self, block: &Value) {
        self.tools |= block["type"].as_str().is_some_and(|kind| kind.ends_with("tool_use"));
        self.push(&block["text"]);
    }

    fn push(&mut self, text: &Value) {
        self.text.push_str(text.as_str().unwrap_or_default());
    }

    fn finish(&mut self, word: &Value) {
        if let Some(word) = word.as_str() {
            word.clone_into(&mut self.finish);
        }
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// In what two shapes differ.
pub fn differences(one: &Shape, other: &Shape) -> Vec<Aspect> {
    let same = [
        (Aspect::Finish, one.finish == other.finish),
        (Aspect::Content, one.text.is_empty() == other.text.is_empty()),
        (Aspect::ToolCalls, one.tools == other.tools),
    ];
    same.into_iter().filter(|(_, same)| !same).map(|(aspect, _)| aspect).collect()
}

/// How many percent of the words of either text are in both. Two texts without words are alike.
pub fn similarity(one: &str, other: &str) -> u8 {
    let (one, other) = (words(one), words(other));
    let both = one.intersection(&other).count();
    let either = one.len() + other.len() - both;
    if either == 0 {
        return 100;
    }
    u8::try_from(both * 100 / either).unwrap_or(100)
}

/// The words of a text, whatever their case. Where a script has no blanks between words, each character is one.
fn words(text: &str) -> HashSet<String> {
    let text = &text[..text.floor_char_boundary(TEXT)];
    let mut words = HashSet::new();
    let mut word = String::new();
    for character in text.chars() {
        if character.is_ascii_alphanumeric() {
            word.push(character.to_ascii_lowercase());
            continue;
        }
        if !word.is_empty() {
            words.insert(std::mem::take(&mut word));
        }
        if character.is_alphanumeric() {
            words.insert(character.to_string());
        }
    }
    if !word.is_empty() {
        words.insert(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(endpoint: Endpoint, body: &str) -> Shape {
        shape(endpoint, false, body.as_bytes()).unwrap()
    }

    fn expected(finish: &str, tools: bool, text: &str) -> Shape {
        Shape { finish: finish.into(), tools, text: text.into() }
    }

    #[test]
    fn plain_answers_are_read_in_each_form() {
        let chat = r#"{"choices":[{"message":{"content":"Hi you"},"finish_reason":"stop"}]}"#;
        assert_eq!(plain(Endpoint::ChatCompletions, chat), expected("stop", false, "Hi you"));
        let tool = r#"{"choices":[{"message":{"content":null,"tool_calls":[{}]},"finish_reason":"tool_calls"}]}"#;
        assert_eq!(plain(Endpoint::ChatCompletions, tool), expected("tool_calls", true, ""));
        let text = r#"{"choices":[{"text":"Hi","finish_reason":"length"}]}"#;
        assert_eq!(plain(Endpoint::Completions, text), expected("length", false, "Hi"));
        let message = r#"{"stop_reason":"end_turn","content":[{"type":"text","text":"Hi"},{"type":"tool_use"}]}"#;
        assert_eq!(plain(Endpoint::Messages, message), expected("end_turn", true, "Hi"));
        let response = r#"{"status":"completed","output":[{"type":"message","content":[{"text":"Hi"}]},{"type":"function_call"}]}"#;
        assert_eq!(plain(Endpoint::Responses, response), expected("completed", true, "Hi"));
        assert_eq!(shape(Endpoint::Responses, false, b"[1]"), None);
        assert_eq!(shape(Endpoint::Responses, false, b"{"), None);
    }

    #[test]
    fn streams_are_read_in_each_form() {
        let stream = |endpoint, events: &[&str]| {
            let text: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
            shape(endpoint, true, text.trim_end().as_bytes()).unwrap()
        };
        let chat = [
            r#"{"choices":[{"delta":{"role":"assistant"}}]}"#,
            r#"{"choices":[{"delta":{"content":"Hi "}}]}"#,
            r#"{"choices":[{"delta":{"content":"you"}}]}"#,
            r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#,
            "[DONE]",
        ];
        assert_eq!(stream(Endpoint::ChatCompletions, &chat), expected("stop", false, "Hi you"));
        let messages = [
            r#"{"type":"content_block_start","content_block":{"type":"text","text":""}}"#,
            r#"{"type":"content_block_delta","delta":{"type":"text_delta","text":"Hi"}}"#,
            r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"}}"#,
        ];
        assert_eq!(stream(Endpoint::Messages, &messages), expected("end_turn", false, "Hi"));
        let responses = [
            r#"{"type":"response.created","response":{"status":"in_progress","output":[]}}"#,
            r#"{"type":"response.output_text.delta","delta":"Hi"}"#,
            r#"{"type":"response.completed","response":{"status":"completed","output":[{"content":[{"text":"Hi"}]}]}}"#,
        ];
        assert_eq!(stream(Endpoint::Responses, &responses), expected("completed", false, "Hi"));
    }

    #[test]
    fn differences_are_named() {
        let one = expected("stop", false, "Hi");
        assert!(differences(&one, &expected("stop", false, "Quite another text")).is_empty());
        assert_eq!(differences(&one, &expected("length", false, "Hi")), [Aspect::Finish]);
        let all = [Aspect::Finish, Aspect::Content, Aspect::ToolCalls];
        assert_eq!(differences(&one, &expected("tool_calls", true, "")), all);
    }

    #[test]
    fn similarity_counts_common_words() {
        assert_eq!(similarity("", " .!"), 100);
        assert_eq!(similarity("The cat sat.", "the CAT sat"), 100);
        assert_eq!(similarity("one two", "two three"), 33);
        assert_eq!(similarity("one", ""), 0);
        assert_eq!(similarity("你好", "你们"), 33);
        assert_eq!(similarity(&"é ".repeat(TEXT), "é"), 100);
    }

    #[test]
    fn aspects_are_numbered_in_their_order() {
        assert!(Aspect::ALL.iter().enumerate().all(|(number, aspect)| *aspect as usize == number));
    }
}
