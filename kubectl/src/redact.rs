//! Takes out of a text what looks like a credential. Made for logs and errors: rather too much than too little.

/// What stands for what was taken out.
const GONE: &str = "[redacted]";
/// Beginnings of vendors' keys and of tokens.
const BEGINNINGS: [&str; 12] =
    ["sk-", "sk_", "rk-", "pk-", "xai-", "gsk_", "AIza", "AKIA", "ASIA", "hf_", "eyJ", "ghp_"];
/// Names whose value is a credential, in lower case without `-` and `_`.
const NAMES: [&str; 8] =
    ["xapikey", "apikey", "xgoogapikey", "token", "accesstoken", "admintoken", "secret", "password"];

/// Names of which not only the next word is a credential, but all up to the end of the line or of the text in quotes.
const LONG: [&str; 2] = ["authorization", "cookie"];

/// What the words that follow are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Plain,
    /// The next one is a credential.
    Value,
    /// All up to the end are.
    Rest,
}

/// The text without its credentials.
pub(crate) fn redact(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut next = Next::Plain;
    for (word, separator) in words(text) {
        let is_scheme = ["bearer", "basic"].contains(&word.to_ascii_lowercase().as_str());
        let is_gone = !is_scheme && !word.is_empty() && (next != Next::Plain || looks_like_a_key(word));
        out.push_str(if is_gone { GONE } else { word });
        next = match next {
            Next::Rest if separator.contains(['\n', '"', '\'']) => Next::Plain,
            Next::Rest => Next::Rest,
            // A scheme stands between a name and its value, or before a value without a name.
            _ if is_scheme => Next::Value,
            // Nothing but a separator stands before the first word.
            _ if word.is_empty() => next,
            _ if is_gone => Next::Plain,
            // A name is one where a value follows: `name: value`, `name=value`, `"name":"value"`.
            _ if separator.contains([':', '=']) => after(word),
            _ => Next::Plain,
        };
        out.push_str(separator);
    }
    out
}

/// Words, each with what separates it from the next.
fn words(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let is_word = |c: char| c.is_alphanumeric() || "-_./+~%@".contains(c);
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        let next = after.find(is_word).unwrap_or(after.len());
        let (separator, after) = after.split_at(next);
        rest = after;
        Some((word, separator))
    })
}

/// What follows a name.
fn after(name: &str) -> Next {
    let plain: String = name.to_ascii_lowercase().chars().filter(|c| !"-_".contains(*c)).collect();
    if LONG.iter().any(|name| plain.ends_with(name)) {
        Next::Rest
    } else if NAMES.iter().any(|name| plain.ends_with(name)) {
        Next::Value
    } else {
        Next::Plain
    }
}

fn looks_like_a_key(word: &str) -> bool {
    BEGINNINGS.iter().any(|beginning| word.strip_prefix(beginning).is_some_and(|rest| rest.len() >= 6))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_looks_like_a_credential_is_left() {
        for (text, expected) in [
            ("key sk-proj-abc123DEF used", "key [redacted] used"),
            ("authorization: Bearer abcdef", "authorization: Bearer [redacted]"),
            (r#"{"Authorization":"Bearer xyz","a":1}"#, r#"{"Authorization":"Bearer [redacted]","a":1}"#),
            ("x-api-key: 12345", "x-api-key: [redacted]"),
            (r#"{"x_api_key":"12345"}"#, r#"{"x_api_key":"[redacted]"}"#),
            ("OPENAI_API_KEY=abc next", "OPENAI_API_KEY=[redacted] next"),
            ("sent Bearer abc.def-ghi to", "sent Bearer [redacted] to"),
            ("Cookie: a=b; c=d\nnext line", "Cookie: [redacted]=[redacted]; [redacted]=[redacted]\nnext line"),
            ("Authorization: AWS4 Signature=abc", "Authorization: [redacted] [redacted]=[redacted]"),
            ("GET /v1?api_key=abc&x=1", "GET /v1?api_key=[redacted]&x=1"),
            ("token=eyJhbGciOi.J9.x", "token=[redacted]"),
        ] {
            assert_eq!(redact(text), expected);
        }
    }

    #[test]
    fn what_is_none_stays() {
        for text in ["3 tokens in 2 ms", "the key main is in use", "model gpt-4o, task sk-1", "ä: ö\n\n{}"] {
            assert_eq!(redact(text), text);
        }
    }
}
