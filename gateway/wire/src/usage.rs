//! Tokens used, as answers and streams report them.

use memchr::memmem;

use crate::json::Cursor;

/// The tokens of one answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Tokens of the prompt, those read from or written to the vendor's prompt cache included.
    pub input_tokens: u64,
    /// Tokens of the answer; 0 for embeddings.
    pub output_tokens: u64,
}

/// The usage of a whole JSON answer: the top-level member `usage`, in OpenAI's or Anthropic's form.
pub fn usage_from_json(answer: &[u8]) -> Option<Usage> {
    let start = answer.len() - answer.trim_ascii_start().len();
    let at = find_member(answer, start, "usage")?;
    PartialUsage::read(answer, at).total()
}

/// The usage of a JSON answer of which only the end is there (see [`crate::Tail`]): the last member named `usage` with
/// tokens in it. An answer's text cannot look like one, since quotes in strings are escaped.
pub fn usage_from_tail(tail: &[u8]) -> Option<Usage> {
    PartialUsage::read_last(tail).total()
}

/// The offset of the value of the first member `name` of the object that starts at `at`.
pub(crate) fn find_member(bytes: &[u8], at: usize, name: &str) -> Option<usize> {
    let mut cursor = Cursor::at(bytes, at);
    cursor.enter_object().ok()?;
    let mut first = true;
    while let Some(token) = cursor.next_name(first).ok()? {
        first = false;
        if token.is(bytes, name) {
            return Some(cursor.offset());
        }
        cursor.skip_value().ok()?;
    }
    None
}

/// What one `usage` object says; a stream says it in parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct PartialUsage {
    input: Option<u64>,
    cache_write: Option<u64>,
    cache_read: Option<u64>,
    output: Option<u64>,
}

impl PartialUsage {
    /// Reads the object at `at`; of anything else, and of what is no JSON, nothing.
    pub(crate) fn read(bytes: &[u8], at: usize) -> Self {
        let mut usage = PartialUsage::default();
        let mut cursor = Cursor::at(bytes, at);
        // A text that breaks off leaves what was read before.
        let _ = usage.read_members(&mut cursor);
        usage
    }

    /// Reads the last object named `usage` with tokens in it, in a text of which only the end is there.
    pub(crate) fn read_last(tail: &[u8]) -> Self {
        const NAME: &[u8] = br#""usage""#;
        let mut before = tail;
        while let Some(found) = memmem::rfind(before, NAME) {
            let after = tail.get(found + NAME.len()..).unwrap_or_default().trim_ascii_start();
            if let Some(value) = after.strip_prefix(b":") {
                let usage = PartialUsage::read(value.trim_ascii_start(), 0);
                if usage.is_known() {
                    return usage;
                }
            }
            before = before.get(..found).unwrap_or_default();
        }
        PartialUsage::default()
    }

    fn read_members(&mut self, cursor: &mut Cursor<'_>) -> Result<(), crate::json::Fault> {
        cursor.enter_object()?;
        let mut first = true;
        while let Some(token) = cursor.next_name(first)? {
            first = false;
            let field = match token.raw(cursor.bytes()) {
                b"prompt_tokens" | b"input_tokens" => Some(&mut self.input),
                b"completion_tokens" | b"output_tokens" => Some(&mut self.output),
                b"cache_creation_input_tokens" => Some(&mut self.cache_write),
                b"cache_read_input_tokens" => Some(&mut self.cache_read),
                _ => None,
            };
            let value = cursor.skip_value()?;
            if let Some(field) = field
                && let Some(number) = number(cursor.bytes().get(value).unwrap_or_default())
            {
                *field = Some(number);
            }
        }
        Ok(())
    }

    /// Takes over what `later` says; counts in streams are cumulative.
    pub(crate) fn update(&mut self, later: PartialUsage) {
        self.input = later.input.or(self.input);
        self.cache_write = later.cache_write.or(self.cache_write);
        self.cache_read = later.cache_read.or(self.cache_read);
        self.output = later.output.or(self.output);
    }

    pub(crate) fn is_known(&self) -> bool {
        self.input.is_some() || self.output.is_some()
    }

    /// Anthropic counts cached tokens apart, OpenAI within the input; the two names of the parts are Anthropic's.
    pub(crate) fn total(&self) -> Option<Usage> {
        let input = [self.input, self.cache_write, self.cache_read].into_iter().flatten().fold(0, u64::saturating_add);
        self.is_known().then(|| Usage { input_tokens: input, output_tokens: self.output.unwrap_or(0) })
    }
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHAT: &str = r#"{"id":"c","choices":[{"message":{"content":"\"usage\":{\"prompt_tokens\":1}"}}],
        "usage":{"prompt_tokens":12,"completion_tokens":5,"total_tokens":17,"prompt_tokens_details":{"cached_tokens":4}}}"#;
    const RESPONSE: &str = r#"{"id":"r","tools":[{"parameters":{"properties":{"usage":{"type":"object"}}}}],
        "usage" : {"input_tokens":3,"output_tokens":4},"metadata":{"usage":"x"}}"#;
    const MESSAGE: &str = r#"{"type":"message","usage":{"input_tokens":10,"cache_creation_input_tokens":200,
        "cache_read_input_tokens":3000,"output_tokens":7,"server_tool_use":{"output_tokens":99}}}"#;
    const EMBEDDINGS: &str =
        r#"{"object":"list","data":[{"embedding":[0.1,-2e-3]}],"usage":{"prompt_tokens":8,"total_tokens":8}}"#;

    fn usage(input_tokens: u64, output_tokens: u64) -> Option<Usage> {
        Some(Usage { input_tokens, output_tokens })
    }

    #[test]
    fn each_kind_of_answer_is_read_whole_and_from_its_tail() {
        for (answer, expected) in
            [(CHAT, usage(12, 5)), (RESPONSE, usage(3, 4)), (MESSAGE, usage(3210, 7)), (EMBEDDINGS, usage(8, 0))]
        {
            assert_eq!(usage_from_json(answer.as_bytes()), expected, "{answer}");
            assert_eq!(usage_from_json(format!("\n {answer}").as_bytes()), expected, "{answer}");
            assert_eq!(usage_from_tail(answer.as_bytes()), expected, "{answer}");
            let end = answer.rfind("\"usage\"").map_or(0, |found| found.min(answer.len() - 60));
            assert_eq!(usage_from_tail(&answer.as_bytes()[end.saturating_sub(20)..]), expected, "{answer}");
        }
    }

    #[test]
    fn answers_without_tokens_have_no_usage() {
        for answer in [
            "",
            "{}",
            "[]",
            "oops",
            r#"{"usage":null}"#,
            r#"{"usage":{}}"#,
            r#"{"usage":{"input_tokens":null}}"#,
            r#"{"usage":{"input_tokens":-1}}"#,
            r#"{"usage":"#,
            r#"{"error":{"message":"no"}}"#,
        ] {
            assert_eq!(usage_from_json(answer.as_bytes()), None, "{answer}");
            assert_eq!(usage_from_tail(answer.as_bytes()), None, "{answer}");
        }
    }

    #[test]
    fn a_nested_usage_is_not_the_answers() {
        assert_eq!(usage_from_json(br#"{"a":{"usage":{"input_tokens":1}}}"#), None);
    }
}
