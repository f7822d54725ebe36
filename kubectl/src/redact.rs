//! Takes out of a text what looks like a credential. Made for logs and errors: rather too much than too little.

/// What stands for what was taken out.
const GONE: &str = "[redacted]";
/// Beginnings of vendors' keys and of tokens.
const BEGINNINGS: [&str; 12] =
    ["sk-", "sk_", "rk-", "pk-", "xai-", "gsk_", "AIza", "AKIA", "ASIA", "hf_", "eyJ", "ghp_"];
/// Names whose value is a credential, in lower case without `-` and `_`.
const NAMES: [&str; 11] = [
    "authorization",
    "xapikey",
    "apikey",
    "xgoogapikey",
    "token",
    "accesstoken",
    "admintoken",
    "secret",
    "password",
    "cookie",
    "setcookie",
];

/// The text without its credentials.
pub(crate) fn redact(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    // Whether the word is the value of the name before it; a scheme such as Bearer is passed over.
    let mut is_value = false;
    for (word, separator) in words(text) {
        let is_scheme = ["bearer", "basic"].contains(&word.to_ascii_lowercase().as_str());
        if word.is_empty() || (is_scheme && is_value) {
            out.push_str(word);
        } else if is_scheme {
            out.push_str(word);
            is_value = true;
        } else if is_value || looks_like_a_key(word) {
            out.push_str(GONE);
            is_value = false;
        } else {
            out.push_str(word);
            // A name is one where a value follows: `name: value`, `name=value`, `"name":"value"`.
            is_value = is_name(word) && separator.contains([':', '=']);
        }
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

fn is_name(word: &str) -> bool {
    let plain: String = word.to_ascii_lowercase().chars().filter(|c| !"-_".contains(*c)).collect();
    NAMES.iter().any(|name| plain.ends_with(name))
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
