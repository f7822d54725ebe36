//! Whether a plain answer has output: what counts in a stream counts here.

use crate::json::{Cursor, Fault};
use crate::stream::{StreamFormat, is_not_empty};

/// Whether an answer has output: text, reasoning, a refusal or a tool call. `None` where nobody can tell: it is not whole, no JSON object,
/// or of work that goes on in the background. It is read to the first byte of output.
pub fn has_output(answer: &[u8], format: StreamFormat) -> Option<bool> {
    let mut cursor = Cursor::new(answer);
    cursor.skip_whitespace();
    match format {
        StreamFormat::OpenAiChat => chat(&mut cursor).ok(),
        StreamFormat::AnthropicMessages => messages(&mut cursor).ok(),
        StreamFormat::OpenAiResponses => responses(&mut cursor).ok().flatten(),
    }
}

fn chat(cursor: &mut Cursor<'_>) -> Result<bool, Fault> {
    any_member(cursor, |cursor, name| match name {
        b"choices" => any_element(cursor, |cursor| {
            any_member(cursor, |cursor, name| match name {
                b"message" if cursor.byte() == b'{' => says_something(cursor, b"role"),
                b"text" => has_something(cursor),
                _ => skip(cursor),
            })
        }),
        _ => skip(cursor),
    })
}

fn messages(cursor: &mut Cursor<'_>) -> Result<bool, Fault> {
    any_member(cursor, |cursor, name| match name {
        b"content" => any_element(cursor, |cursor| says_something(cursor, b"type")),
        _ => skip(cursor),
    })
}

fn responses(cursor: &mut Cursor<'_>) -> Result<Option<bool>, Fault> {
    let mut goes_on = false;
    let found = any_member(cursor, |cursor, name| match name {
        b"output" => any_element(cursor, item),
        b"status" => {
            let value = cursor.skip_value()?;
            goes_on = matches!(cursor.bytes().get(value), Some(br#""queued""# | br#""in_progress""#));
            Ok(false)
        }
        _ => skip(cursor),
    })?;
    Ok((found || !goes_on).then_some(found))
}

/// An item of a response: a message is what is in it, anything else is output by itself.
fn item(cursor: &mut Cursor<'_>) -> Result<bool, Fault> {
    let mut is_message = false;
    let says = any_member(cursor, |cursor, name| match name {
        b"content" => any_element(cursor, |cursor| says_something(cursor, b"type")),
        b"type" => {
            let value = cursor.skip_value()?;
            is_message = cursor.bytes().get(value) == Some(br#""message""#);
            Ok(false)
        }
        _ => skip(cursor),
    })?;
    Ok(says || !is_message)
}

/// Whether a member of the object at the position, other than `but`, has something in it.
fn says_something(cursor: &mut Cursor<'_>, but: &[u8]) -> Result<bool, Fault> {
    any_member(cursor, |cursor, name| if name == but { skip(cursor) } else { has_something(cursor) })
}

/// Whether the value at the position is a string, an array or an object with something in it. A text, which may be long, is not read: it has
/// something if it does not end where it begins.
fn has_something(cursor: &mut Cursor<'_>) -> Result<bool, Fault> {
    let is_text = cursor.byte() == b'"' && cursor.bytes().get(cursor.offset() + 1).is_some_and(|next| *next != b'"');
    if is_text { Ok(true) } else { is_not_empty(cursor) }
}

/// Whether a member of the object at the position has output. The position is of no more use once one has.
fn any_member<'a>(
    cursor: &mut Cursor<'a>,
    mut has: impl FnMut(&mut Cursor<'a>, &[u8]) -> Result<bool, Fault>,
) -> Result<bool, Fault> {
    cursor.enter_object()?;
    let mut first = true;
    while let Some(name) = cursor.next_name(first)? {
        first = false;
        let name = name.raw(cursor.bytes());
        if has(cursor, name)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The same of an array's elements; anything else has none.
fn any_element<'a>(
    cursor: &mut Cursor<'a>,
    mut has: impl FnMut(&mut Cursor<'a>) -> Result<bool, Fault>,
) -> Result<bool, Fault> {
    if cursor.byte() != b'[' {
        return skip(cursor);
    }
    cursor.enter_array()?;
    let mut first = true;
    while cursor.next_element(first)? {
        first = false;
        if has(cursor)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn skip(cursor: &mut Cursor<'_>) -> Result<bool, Fault> {
    cursor.skip_value().map(|_| false)
}

#[cfg(test)]
mod tests {
    use StreamFormat::{AnthropicMessages, OpenAiChat, OpenAiResponses};

    use super::*;

    const CASES: [(StreamFormat, &str, Option<bool>); 26] = [
        (OpenAiChat, r#"{"choices":[{"message":{"role":"assistant","content":"Hi"}}],"usage":{}}"#, Some(true)),
        (OpenAiChat, r#" {"choices":[{"index":0,"message":{"content":"Hi"#, Some(true)),
        (OpenAiChat, r#"{"choices":[{"message":{"content":"Hi","role":"assistant"}},"#, Some(true)),
        (OpenAiChat, r#"{"choices":[{"message":{"role":"assistant","content":"","annotations":[]}}]}"#, Some(false)),
        (OpenAiChat, r#"{"choices":[{"message":{"role":"assistant","content":null,"refusal":null}}]}"#, Some(false)),
        (OpenAiChat, r#"{"choices":[{"message":{"content":null,"refusal":"No."}}]}"#, Some(true)),
        (OpenAiChat, r#"{"choices":[{"message":{"content":null,"tool_calls":[{"id":"c"}]}}]}"#, Some(true)),
        (OpenAiChat, r#"{"choices":[{"message":{"content":""}},{"message":{"content":"Hi"}}]}"#, Some(true)),
        (OpenAiChat, r#"{"choices":[{"text":""}]}"#, Some(false)),
        (OpenAiChat, r#"{"choices":[{"text":"Hi"}]}"#, Some(true)),
        (OpenAiChat, r#"{"choices":[]}"#, Some(false)),
        (OpenAiChat, "{}", Some(false)),
        (OpenAiChat, r#"{"choices":[{"message":{"content":""}}]"#, None),
        (OpenAiChat, "[]", None),
        (OpenAiChat, "", None),
        (AnthropicMessages, r#"{"type":"message","content":[{"type":"text","text":"Hi"}]}"#, Some(true)),
        (AnthropicMessages, r#"{"type":"message","content":[{"type":"text","text":""}]}"#, Some(false)),
        (AnthropicMessages, r#"{"type":"message","content":[]}"#, Some(false)),
        (AnthropicMessages, r#"{"content":[{"type":"tool_use","id":"t","input":{}}]}"#, Some(true)),
        (OpenAiResponses, r#"{"output":[{"id":"m","type":"message","content":[{"text":"Hi"}]}]}"#, Some(true)),
        (
            OpenAiResponses,
            r#"{"output":[{"type":"message","id":"m","content":[{"type":"t","text":""}]}]}"#,
            Some(false),
        ),
        (OpenAiResponses, r#"{"output":[{"type":"reasoning","id":"r","summary":[]}]}"#, Some(true)),
        (OpenAiResponses, r#"{"status":"incomplete","output":[]}"#, Some(false)),
        (OpenAiResponses, r#"{"output":[],"status":"queued"}"#, None),
        (OpenAiResponses, r#"{"status":"in_progress","output":[]}"#, None),
        (OpenAiResponses, r#"{"output":["#, None),
    ];

    #[test]
    fn output_is_found_and_emptiness_only_where_all_of_it_was_seen() {
        for (format, answer, expected) in CASES {
            assert_eq!(has_output(answer.as_bytes(), format), expected, "{answer}");
        }
    }

    #[test]
    fn what_is_cut_short_is_never_empty() {
        for (format, answer, expected) in CASES {
            for end in 0..answer.trim_end().len() {
                let cut = has_output(&answer.as_bytes()[..end], format);
                assert!(cut.is_none() || (cut == Some(true) && cut == expected), "{}", &answer[..end]);
            }
        }
    }
}
