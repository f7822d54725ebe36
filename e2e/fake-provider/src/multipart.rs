//! As much of multipart/form-data as the vendors' upload calls need: names, file names and sizes of the parts.

use http::{HeaderMap, header};
use memchr::memmem;

/// One part of a form.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Part<'a> {
    pub(crate) name: String,
    pub(crate) filename: Option<String>,
    pub(crate) data: &'a [u8],
}

/// The parts, or `None` if this is no complete form.
pub(crate) fn parts<'a>(headers: &HeaderMap, body: &'a [u8]) -> Option<Vec<Part<'a>>> {
    let kind = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    if !kind.starts_with("multipart/form-data") {
        return None;
    }
    let delimiter = format!("--{}", parameter(kind, "boundary")?);
    let mut rest = body.strip_prefix(delimiter.as_bytes())?;
    let delimiter = format!("\r\n{delimiter}");
    let finder = memmem::Finder::new(&delimiter);
    let mut parts = Vec::new();
    while !rest.starts_with(b"--") {
        let end = finder.find(rest)?;
        parts.push(part(rest.get(..end)?)?);
        rest = rest.get(end + delimiter.len()..)?;
    }
    Some(parts)
}

/// `\r\nheaders\r\n\r\ndata`
fn part(bytes: &[u8]) -> Option<Part<'_>> {
    let split = memmem::find(bytes, b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(bytes.get(..split)?);
    let disposition = head.lines().find(|l| l.to_ascii_lowercase().starts_with("content-disposition:"))?;
    Some(Part {
        name: parameter(disposition, "name")?,
        filename: parameter(disposition, "filename"),
        data: bytes.get(split + 4..)?,
    })
}

fn parameter(of: &str, name: &str) -> Option<String> {
    let value = of.split(';').filter_map(|p| p.trim().split_once('=')).find(|(n, _)| n.eq_ignore_ascii_case(name))?.1;
    Some(value.trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(body: &[u8]) -> Option<Vec<Part<'_>>> {
        let kind = http::HeaderValue::from_static("multipart/form-data; boundary=XX");
        parts(&HeaderMap::from_iter([(header::CONTENT_TYPE, kind)]), body)
    }

    #[test]
    fn names_and_data_are_read() {
        let body = b"--XX\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n--XX\r\n\
            content-disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\nContent-Type: audio/wav\r\n\r\n\x00\r\n-\r\n--XX--\r\n";
        let parts = form(body).unwrap();
        assert_eq!(parts.len(), 2);
        assert_eq!((parts[0].name.as_str(), parts[0].data), ("model", &b"whisper-1"[..]));
        assert_eq!((parts[1].filename.as_deref(), parts[1].data), (Some("a.wav"), &b"\x00\r\n-"[..]));
    }

    #[test]
    fn a_form_without_its_end_is_refused() {
        assert_eq!(form(b"--XX\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nhalf"), None);
    }
}
