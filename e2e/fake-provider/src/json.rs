//! JSON text with its members in the order they were written, as the vendors send it (`type` first, `usage` last).
//! serde_json's own maps are sorted, and an honest order matters to clients that look only at the start or the end.

use serde_json::Value;

/// A finished JSON value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Json(String);

impl Json {
    /// A literal of this source, `{}` or `0.5`.
    pub(crate) fn raw(text: &str) -> Self {
        Self(text.to_owned())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0.into_bytes()
    }

    /// The same with line breaks and two spaces of indentation: how OpenAI sends plain answers.
    pub(crate) fn pretty(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.0.len() * 5 / 4);
        let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
        let bytes = self.0.as_bytes();
        for (at, &byte) in bytes.iter().enumerate() {
            if in_string {
                in_string = escaped || byte != b'"';
                escaped = !escaped && byte == b'\\';
                out.push(byte);
                continue;
            }
            match byte {
                b'{' | b'[' => {
                    out.push(byte);
                    if !matches!(bytes.get(at + 1), Some(b'}' | b']')) {
                        depth += 1;
                        break_line(&mut out, depth);
                    }
                }
                b'}' | b']' => {
                    if !matches!(bytes.get(at.wrapping_sub(1)), Some(b'{' | b'[')) {
                        depth = depth.saturating_sub(1);
                        break_line(&mut out, depth);
                    }
                    out.push(byte);
                }
                b',' => {
                    out.push(byte);
                    break_line(&mut out, depth);
                }
                b':' => out.extend_from_slice(b": "),
                _ => {
                    in_string = byte == b'"';
                    out.push(byte);
                }
            }
        }
        out
    }
}

fn break_line(out: &mut Vec<u8>, depth: usize) {
    out.push(b'\n');
    out.resize(out.len() + depth * 2, b' ');
}

/// What `object!` and [`list`] accept as a value.
pub(crate) trait Write {
    fn write(&self, out: &mut String);
}

impl Write for str {
    fn write(&self, out: &mut String) {
        // A string always serialises.
        out.push_str(&serde_json::to_string(self).unwrap_or_default());
    }
}

impl Write for String {
    fn write(&self, out: &mut String) {
        self.as_str().write(out);
    }
}

impl Write for Json {
    fn write(&self, out: &mut String) {
        out.push_str(&self.0);
    }
}

impl Write for Value {
    fn write(&self, out: &mut String) {
        out.push_str(&self.to_string());
    }
}

impl Write for bool {
    fn write(&self, out: &mut String) {
        out.push_str(if *self { "true" } else { "false" });
    }
}

impl Write for u64 {
    fn write(&self, out: &mut String) {
        out.push_str(&self.to_string());
    }
}

impl Write for usize {
    fn write(&self, out: &mut String) {
        out.push_str(&self.to_string());
    }
}

/// `null`.
impl Write for () {
    fn write(&self, out: &mut String) {
        out.push_str("null");
    }
}

impl<T: Write + ?Sized> Write for &T {
    fn write(&self, out: &mut String) {
        (*self).write(out);
    }
}

impl<T: Write> Write for Option<T> {
    fn write(&self, out: &mut String) {
        match self {
            Some(value) => value.write(out),
            None => ().write(out),
        }
    }
}

/// An array.
pub(crate) fn list<T: Write>(items: impl IntoIterator<Item = T>) -> Json {
    let mut out = String::from("[");
    for item in items {
        if out.len() > 1 {
            out.push(',');
        }
        item.write(&mut out);
    }
    out.push(']');
    Json(out)
}

/// An object whose members come in this order; mostly used through the macro `object!`.
pub(crate) fn members(members: &[(&str, &dyn Write)]) -> Json {
    let mut out = String::with_capacity(256);
    out.push('{');
    for (name, value) in members {
        if out.len() > 1 {
            out.push(',');
        }
        out.push('"');
        out.push_str(name);
        out.push_str("\":");
        value.write(&mut out);
    }
    out.push('}');
    Json(out)
}

/// `object! { "type": "text", "text": text }`
macro_rules! object {
    ($($name:literal : $value:expr),* $(,)?) => {
        $crate::json::members(&[$(($name, &$value as &dyn $crate::json::Write)),*])
    };
}
pub(crate) use object;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_keep_their_order_and_text_is_escaped() {
        let json = object! { "z": "a\"\n", "a": object! { "n": 1_u64, "none": () }, "l": list(["x", "y"]) };
        assert_eq!(json.as_str(), r#"{"z":"a\"\n","a":{"n":1,"none":null},"l":["x","y"]}"#);
    }

    #[test]
    fn the_pretty_form_means_the_same() {
        let json =
            object! { "text": "a{\"b\\", "empty": Json::raw("{}"), "l": list([1_u64, 2]), "none": Json::raw("[]") };
        let pretty = String::from_utf8(json.pretty()).unwrap();
        assert!(pretty.starts_with("{\n  \"text\": "), "{pretty}");
        let (a, b): (Value, Value) =
            (serde_json::from_str(&pretty).unwrap(), serde_json::from_str(json.as_str()).unwrap());
        assert_eq!(a, b);
    }
}
