//! One event: its name and its data.

use std::borrow::Cow;

use memchr::{memchr, memchr2};

/// One event of a stream. Comments, ids and retry times are not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event<'a> {
    /// The last `event:` field; empty if there is none.
    pub name: &'a [u8],
    /// The `data:` fields, joined by line feeds; borrowed if there is only one.
    pub data: Cow<'a, [u8]>,
    /// `false` for an event that was too long to be kept: `data` is then the last part of its bytes.
    pub whole: bool,
}

impl<'a> Event<'a> {
    /// Reads the lines of one event. `None` if no line has data: such an event is not dispatched to anybody.
    pub(super) fn parse(raw: &'a [u8]) -> Option<Self> {
        let mut name: &[u8] = b"";
        let mut data: Option<Cow<'a, [u8]>> = None;
        let mut rest = raw;
        while !rest.is_empty() {
            let end = memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
            let (line, after) = rest.split_at(end);
            // The two bytes of a CRLF make one empty line too many, and empty lines mean nothing here.
            rest = after.get(1..).unwrap_or_default();
            match field(line) {
                (b"data", value) => match &mut data {
                    None => data = Some(Cow::Borrowed(value)),
                    Some(lines) => {
                        let lines = lines.to_mut();
                        lines.push(b'\n');
                        lines.extend_from_slice(value);
                    }
                },
                (b"event", value) => name = value,
                _ => {}
            }
        }
        data.map(|data| Event { name, data, whole: true })
    }
}

/// A line's field name and value. One space after the colon does not belong to the value.
fn field(line: &[u8]) -> (&[u8], &[u8]) {
    match memchr(b':', line) {
        Some(colon) => {
            let (name, value) = line.split_at(colon);
            let value = value.get(1..).unwrap_or_default();
            (name, value.strip_prefix(b" ").unwrap_or(value))
        }
        None => (line, b""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(raw: &str) -> Option<(String, String)> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Event::parse(raw.as_bytes()).map(|event| (text(event.name), text(&event.data)))
    }

    fn some(name: &str, data: &str) -> Option<(String, String)> {
        Some((name.to_owned(), data.to_owned()))
    }

    #[test]
    fn fields_are_read_as_the_standard_says() {
        assert_eq!(parsed("data: a\n\n"), some("", "a"));
        assert_eq!(parsed("event:x\r\ndata:  a:b\r\n\r\n"), some("x", " a:b"));
        assert_eq!(parsed("data: a\rdata\rdata:b\r\r"), some("", "a\n\nb"));
        assert_eq!(parsed("id: 1\n: comment\nevent: a\nevent: b\ndata: c\nretry: 5\n\n"), some("b", "c"));
    }

    #[test]
    fn an_event_without_data_is_none() {
        for raw in ["\n", ": ping\n\n", "event: x\n\n", "datax: 1\n\n"] {
            assert_eq!(parsed(raw), None, "{raw:?}");
        }
        assert_eq!(parsed("data\n\n"), some("", ""));
    }

    #[test]
    fn one_data_line_is_borrowed() {
        let event = Event::parse(b"event: x\ndata: long\n\n").unwrap();
        assert!(matches!(event.data, Cow::Borrowed(b"long")));
    }
}
