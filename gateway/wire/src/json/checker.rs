//! Whether a text that comes in pieces is JSON, with none of it kept.
//!
//! The same grammar as the scanner's, but for one thing: half of a surrogate pair is let through, as most parsers do.

use memchr::memchr;

use super::string::find_special;
use super::{MAX_DEPTH, byte_at};

/// The state after some pieces of a text.
#[derive(Debug, Clone)]
pub(crate) struct Checker {
    next: Next,
    open: u32,
    /// The open containers, the innermost in the lowest bit: 1 for an object.
    kinds: u128,
}

/// What may come next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Value,
    ElementOrEnd,
    Name,
    NameOrEnd,
    Colon,
    /// What may follow a value: a comma or the end of the container, after the outermost one nothing.
    After,
    Text {
        name: bool,
    },
    Escape {
        name: bool,
    },
    Hex {
        name: bool,
        left: u8,
    },
    Literal(&'static [u8]),
    Number(Number),
    /// It is no JSON.
    Fault,
}

/// What of a number was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Number {
    Minus,
    Zero,
    Integer,
    Point,
    Fraction,
    Exponent,
    Sign,
    Power,
}

impl Number {
    fn after(self, byte: u8) -> Option<Self> {
        Some(match (self, byte) {
            (Self::Minus, b'0') => Self::Zero,
            (Self::Minus, b'1'..=b'9') | (Self::Integer, b'0'..=b'9') => Self::Integer,
            (Self::Zero | Self::Integer, b'.') => Self::Point,
            (Self::Point | Self::Fraction, b'0'..=b'9') => Self::Fraction,
            (Self::Zero | Self::Integer | Self::Fraction, b'e' | b'E') => Self::Exponent,
            (Self::Exponent, b'+' | b'-') => Self::Sign,
            (Self::Exponent | Self::Sign | Self::Power, b'0'..=b'9') => Self::Power,
            _ => return None,
        })
    }

    fn is_whole(self) -> bool {
        matches!(self, Self::Zero | Self::Integer | Self::Fraction | Self::Power)
    }
}

impl Checker {
    /// Nothing read yet.
    pub(crate) fn new() -> Self {
        Checker { next: Next::Value, open: 0, kinds: 0 }
    }

    /// Whether nothing but blanks was read.
    pub(crate) fn is_blank(&self) -> bool {
        self.next == Next::Value && self.open == 0
    }

    /// Whether what was read is one whole JSON value.
    pub(crate) fn is_whole(&self) -> bool {
        self.open == 0
            && match self.next {
                Next::After => true,
                Next::Number(number) => number.is_whole(),
                _ => false,
            }
    }

    /// Reads on.
    pub(crate) fn feed(&mut self, text: &[u8]) {
        let mut at = 0;
        while at < text.len() {
            if let Next::Text { .. } = self.next {
                at = find_special(text, at);
                if at >= text.len() {
                    return;
                }
            }
            self.next = self.after(byte_at(text, at));
            at += 1;
        }
    }

    /// Reads on, in what a JSON string says, given as it is written between its quotes. The scanner has found it valid.
    pub(crate) fn feed_escaped(&mut self, written: &[u8]) {
        let mut rest = written;
        while let Some(at) = memchr(b'\\', rest) {
            self.feed(rest.get(..at).unwrap_or_default());
            let (byte, length) = match byte_at(rest, at + 1) {
                b'n' => (b'\n', 2),
                b'r' => (b'\r', 2),
                b't' => (b'\t', 2),
                b'b' | b'f' => (0x08, 2),
                b'u' => (unicode(rest.get(at + 2..at + 6).unwrap_or_default()), 6),
                plain => (plain, 2),
            };
            self.feed(&[byte]);
            rest = rest.get(at + length..).unwrap_or_default();
        }
        self.feed(rest);
    }

    fn after(&mut self, byte: u8) -> Next {
        let blank = matches!(byte, b' ' | b'\n' | b'\r' | b'\t');
        match self.next {
            Next::Text { name } => match byte {
                b'"' if name => Next::Colon,
                b'"' => Next::After,
                b'\\' => Next::Escape { name },
                _ => Next::Fault,
            },
            Next::Escape { name } => match byte {
                b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Next::Text { name },
                b'u' => Next::Hex { name, left: 4 },
                _ => Next::Fault,
            },
            Next::Hex { name, left } => match (byte.is_ascii_hexdigit(), left) {
                (true, 1) => Next::Text { name },
                (true, _) => Next::Hex { name, left: left - 1 },
                (false, _) => Next::Fault,
            },
            Next::Literal(rest) => match rest.split_first() {
                Some((expected, [])) if *expected == byte => Next::After,
                Some((expected, rest)) if *expected == byte => Next::Literal(rest),
                _ => Next::Fault,
            },
            Next::Number(number) => match number.after(byte) {
                Some(number) => Next::Number(number),
                None if number.is_whole() => {
                    self.next = Next::After;
                    self.after(byte)
                }
                None => Next::Fault,
            },
            Next::Fault => Next::Fault,
            same if blank => same,
            Next::Value => self.value(byte),
            Next::ElementOrEnd if byte == b']' => self.close(),
            Next::ElementOrEnd => self.value(byte),
            Next::NameOrEnd if byte == b'}' => self.close(),
            Next::Name | Next::NameOrEnd if byte == b'"' => Next::Text { name: true },
            Next::Colon if byte == b':' => Next::Value,
            Next::Name | Next::NameOrEnd | Next::Colon => Next::Fault,
            Next::After => match (byte, self.open > 0, self.kinds & 1 == 1) {
                (b',', true, true) => Next::Name,
                (b',', true, false) => Next::Value,
                (b'}', true, true) | (b']', true, false) => self.close(),
                _ => Next::Fault,
            },
        }
    }

    fn value(&mut self, byte: u8) -> Next {
        match byte {
            b'"' => Next::Text { name: false },
            b'{' => self.open(true),
            b'[' => self.open(false),
            b'-' => Next::Number(Number::Minus),
            b'0' => Next::Number(Number::Zero),
            b'1'..=b'9' => Next::Number(Number::Integer),
            b't' => Next::Literal(b"rue"),
            b'f' => Next::Literal(b"alse"),
            b'n' => Next::Literal(b"ull"),
            _ => Next::Fault,
        }
    }

    fn open(&mut self, object: bool) -> Next {
        if self.open >= MAX_DEPTH {
            return Next::Fault;
        }
        self.open += 1;
        self.kinds = self.kinds << 1 | u128::from(object);
        if object { Next::NameOrEnd } else { Next::ElementOrEnd }
    }

    fn close(&mut self) -> Next {
        self.open = self.open.saturating_sub(1);
        self.kinds >>= 1;
        Next::After
    }
}

/// The character of four hexadecimal digits, if it is ASCII; any other means the same to the grammar.
fn unicode(digits: &[u8]) -> u8 {
    let digits = std::str::from_utf8(digits).unwrap_or_default();
    u8::from_str_radix(digits, 16).ok().filter(u8::is_ascii).unwrap_or(0x80)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn is_whole(pieces: &[&[u8]]) -> bool {
        let mut checker = Checker::new();
        for piece in pieces {
            checker.feed(piece);
        }
        checker.is_whole()
    }

    #[test]
    fn values_are_whole_and_what_is_cut_or_wrong_is_not() {
        for text in [
            r#"{"city":"Paris \"x\" \u00e9","days":[1,-2.5e+3,0],"deep":{"a":[]},"b":true}"#,
            " null ",
            "12",
            "-0.5E7",
            r#""text""#,
            "[[],{}]",
        ] {
            assert!(is_whole(&[text.as_bytes()]), "{text}");
        }
        for text in [
            "",
            "{",
            r#"{"a"}"#,
            r#"{"a":1,}"#,
            "[1,]",
            "01",
            "-",
            "1.",
            "1e",
            "truth",
            "nul",
            r#"{"a":1}}"#,
            "{} {}",
            r#"{"a":"b"#,
            r#""\x""#,
            r#""\u12g4""#,
            "\"\n\"",
            "{'a':1}",
            "[1}",
        ] {
            assert!(!is_whole(&[text.as_bytes()]), "{text}");
        }
        let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(is_whole(&[deep(127).as_bytes()]));
        assert!(!is_whole(&[deep(128).as_bytes()]));
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_parser_however_the_text_is_cut(
            text in r#"[-{}\[\],:"\\ \n0-9.eEa+tu]{0,24}|\{"[a-z]{1,3}":(\{\}|\[[0-9,]{0,5}\]|"[^"\\]{0,4}"|-?[0-9]{1,3})\}"#,
            cut in any::<prop::sample::Index>(),
        ) {
            let (first, second) = text.as_bytes().split_at(cut.index(text.len() + 1));
            let expected = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
            prop_assert_eq!(is_whole(&[first, second]), expected, "{:?}", text);
            prop_assert_eq!(is_whole(&[text.as_bytes()]), expected, "{:?}", text);
        }

        #[test]
        fn a_string_says_the_same_however_it_is_written(text in r#"\{"[a-z"]{0,3}":"(é|\\"|x|😀|\\n){0,4}"\}"#) {
            let written = serde_json::to_string(&text).unwrap();
            let mut checker = Checker::new();
            checker.feed_escaped(&written.as_bytes()[1..written.len() - 1]);
            prop_assert_eq!(checker.is_whole(), serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok());
        }
    }

    #[test]
    fn escapes_of_every_kind_are_read() {
        let mut checker = Checker::new();
        assert!(checker.is_blank());
        checker.feed_escaped(br#"\u007b\"a\/\ud83d\ude00\u00e9\\n\":\t[\n1\r]\u007d"#);
        assert!(checker.is_whole());
    }
}
