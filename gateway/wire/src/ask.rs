//! What a request asks for beyond what the [`crate::peek()`] looks at: tools, state at the vendor, how much output. For requests
//! that are to be sent a second time; whatever is not understood here counts as a reason not to.

use crate::json::{Cursor, Fault};
use crate::peek::names_vendor_state;

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ask {
    /// It brings tools: what a model does with them may happen in the world, and would happen twice.
    pub tools: bool,
    /// It makes or names what belongs to one account at the vendor.
    pub state: bool,
    /// Most tokens of one answer, if it says so.
    pub most_output: Option<u64>,
    /// How many answers it asks for.
    pub answers: u64,
}

impl Ask {
    /// Reads a request's JSON body. `None`: it is none.
    pub fn read(body: &[u8]) -> Option<Self> {
        let mut ask = Self { answers: 1, state: names_vendor_state(body), ..Self::default() };
        let mut cursor = Cursor::new(body);
        cursor.skip_whitespace();
        ask.members(&mut cursor).ok()?;
        Some(ask)
    }

    fn members(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Fault> {
        cursor.enter_object()?;
        let mut first = true;
        while let Some(name) = cursor.next_name(first)? {
            first = false;
            let name = name.decode(cursor.bytes()).to_ascii_lowercase();
            let value = cursor.skip_value()?;
            let value = cursor.bytes().get(value).unwrap_or_default();
            if matches!(value, b"null" | b"false" | b"[]" | b"{}" | b"\"\"") {
                continue;
            }
            match name.as_str() {
                "tools" | "functions" | "mcp_servers" | "web_search_options" => self.tools = true,
                "store" | "background" | "previous_response_id" | "conversation" | "container" => self.state = true,
                // A stored prompt may bring tools as well; a text is a prompt of text completions.
                "prompt" => self.state |= value.starts_with(b"{"),
                "max_tokens" | "max_completion_tokens" | "max_output_tokens" => {
                    self.most_output = self.most_output.max(number(value));
                }
                "n" | "best_of" => self.answers = self.answers.max(number(value).unwrap_or(1)),
                _ => {}
            }
        }
        Ok(())
    }
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Ask {
        Ask::read(body.as_bytes()).unwrap()
    }

    #[test]
    fn tools_are_seen_however_they_are_spelled_and_empty_ones_are_none() {
        for body in [
            r#"{"tools":[{"type":"function"}]}"#,
            r#" {"a":1,"functions" : [1]}"#,
            r#"{"\u0074ools":[1]}"#,
            r#"{"Tools":[1]}"#,
            r#"{"mcp_servers":[{}]}"#,
            r#"{"web_search_options":{"a":1}}"#,
        ] {
            assert!(read(body).tools, "{body}");
        }
        for body in ["{}", r#"{"tools":[]}"#, r#"{"tools":null}"#, r#"{"messages":[{"tools":[1]}]}"#] {
            assert!(!read(body).tools, "{body}");
        }
        assert_eq!(Ask::read(b"{"), None);
        assert_eq!(Ask::read(b"[]"), None);
    }

    #[test]
    fn what_belongs_to_an_account_is_seen() {
        for body in [
            r#"{"store":true}"#,
            r#"{"previous_response_id":"r"}"#,
            r#"{"background":true}"#,
            r#"{"prompt":{"id":"p"}}"#,
            r#"{"messages":[{"content":[{"type":"file","file":{"file_id":"f"}}]}]}"#,
        ] {
            assert!(read(body).state, "{body}");
        }
        for body in [r#"{"store":false}"#, r#"{"prompt":"text"}"#, r#"{"previous_response_id":null}"#] {
            assert!(!read(body).state, "{body}");
        }
    }

    #[test]
    fn the_most_output_and_the_answers_are_read() {
        let ask = read(r#"{"max_tokens":100,"max_completion_tokens":200,"n":3}"#);
        assert_eq!((ask.most_output, ask.answers), (Some(200), 3));
        let ask = read(r#"{"max_tokens":null,"n":null}"#);
        assert_eq!((ask.most_output, ask.answers), (None, 1));
    }
}
