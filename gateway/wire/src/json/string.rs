//! JSON strings: finding their end fast, checking their escapes, decoding them.

use super::{Fault, SyntaxReason, byte_at, fault};

/// The offset of the closing quote of the string whose content starts at `at`, and whether it has escapes.
#[inline]
pub(super) fn string_end(bytes: &[u8], at: usize) -> Result<(usize, bool), Fault> {
    let end = find_special(bytes, at);
    if byte_at(bytes, end) == b'"' { Ok((end, false)) } else { escaped_string_end(bytes, end) }
}

/// As [`string_end`], from the first special character that is no quote.
fn escaped_string_end(bytes: &[u8], mut at: usize) -> Result<(usize, bool), Fault> {
    loop {
        match byte_at(bytes, at) {
            b'"' => return Ok((at, true)),
            b'\\' => at = find_special(bytes, escape_end(bytes, at)?),
            _ => return Err(fault(bytes, at, SyntaxReason::ControlCharacter)),
        }
    }
}

/// The end of the escape whose backslash is at `at`.
#[inline]
fn escape_end(bytes: &[u8], at: usize) -> Result<usize, Fault> {
    match byte_at(bytes, at + 1) {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Ok(at + 2),
        b'u' => unicode_escape_end(bytes, at),
        _ if at + 1 >= bytes.len() => Err(fault(bytes, at + 1, SyntaxReason::UnexpectedEnd)),
        _ => Err(fault(bytes, at, SyntaxReason::InvalidEscape)),
    }
}

fn unicode_escape_end(bytes: &[u8], at: usize) -> Result<usize, Fault> {
    match hex4(bytes, at + 2) {
        None => Err(fault(bytes, at, SyntaxReason::InvalidEscape)),
        Some(0xd800..=0xdbff) => {
            let low = (bytes.get(at + 6..at + 8) == Some(b"\\u")).then(|| hex4(bytes, at + 8)).flatten();
            match low {
                Some(0xdc00..=0xdfff) => Ok(at + 12),
                _ => Err(fault(bytes, at, SyntaxReason::LoneSurrogate)),
            }
        }
        Some(0xdc00..=0xdfff) => Err(fault(bytes, at, SyntaxReason::LoneSurrogate)),
        Some(_) => Ok(at + 6),
    }
}

fn hex4(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.iter().try_fold(0, |value, &digit| Some(value << 4 | char::from(digit).to_digit(16)?))
}

/// Bytes that are looked at together in long strings.
const BLOCK: usize = 32;

/// The first `"`, `\` or control character from `from` on; the text's length if there is none.
///
/// Names and short values end within the first words; long texts go in blocks that the compiler turns into vector
/// instructions.
#[inline]
pub(super) fn find_special(bytes: &[u8], from: usize) -> usize {
    let mut at = from;
    for _ in 0..2 {
        let Some(word) = word_at(bytes, at) else { return find_special_in_tail(bytes, at) };
        let marks = special_marks(word);
        if marks != 0 {
            return at + first_mark(marks);
        }
        at += 8;
    }
    find_special_in_blocks(bytes, at)
}

fn find_special_in_blocks(bytes: &[u8], from: usize) -> usize {
    let mut at = from;
    let (blocks, _) = bytes.get(from..).unwrap_or_default().as_chunks::<BLOCK>();
    for block in blocks {
        if has_special(block) {
            break;
        }
        at += BLOCK;
    }
    while let Some(word) = word_at(bytes, at) {
        let marks = special_marks(word);
        if marks != 0 {
            return at + first_mark(marks);
        }
        at += 8;
    }
    find_special_in_tail(bytes, at)
}

fn find_special_in_tail(bytes: &[u8], from: usize) -> usize {
    let tail = bytes.get(from..).unwrap_or_default();
    tail.iter().position(|&byte| is_special(byte)).map_or(bytes.len(), |found| from + found)
}

#[inline]
fn is_special(byte: u8) -> bool {
    byte == b'"' || byte == b'\\' || byte < 0x20
}

/// No early exit: this form compiles to vector comparisons.
#[inline]
fn has_special(block: &[u8; BLOCK]) -> bool {
    block.iter().fold(false, |found, &byte| found | (byte == b'"') | (byte == b'\\') | (byte < 0x20))
}

#[inline]
fn word_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..).and_then(<[u8]>::first_chunk::<8>).map(|word| u64::from_le_bytes(*word))
}

const ONES: u64 = u64::MAX / 255;
const HIGHS: u64 = ONES << 7;

/// The high bit of each byte that is special. Borrows may mark bytes above the lowest such byte by mistake, but never
/// below it, so the lowest mark is exact.
#[inline]
fn special_marks(word: u64) -> u64 {
    let quote = word ^ (ONES * b'"' as u64);
    let backslash = word ^ (ONES * b'\\' as u64);
    let marks = (quote.wrapping_sub(ONES) & !quote)
        | (backslash.wrapping_sub(ONES) & !backslash)
        | (word.wrapping_sub(ONES * 0x20) & !word);
    marks & HIGHS
}

#[inline]
fn first_mark(marks: u64) -> usize {
    (marks.trailing_zeros() / 8) as usize
}

/// Decodes the content of a string that [`string_end`] accepted.
pub(super) fn decode(text: &str) -> String {
    let mut decoded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((plain, escape)) = rest.split_once('\\') {
        decoded.push_str(plain);
        let (character, length) = decode_escape(escape);
        decoded.push(character);
        rest = escape.get(length..).unwrap_or_default();
    }
    decoded.push_str(rest);
    decoded
}

/// The character that the escape stands for and the escape's length, both without the backslash.
fn decode_escape(escape: &str) -> (char, usize) {
    let bytes = escape.as_bytes();
    match byte_at(bytes, 0) {
        b'b' => ('\u{8}', 1),
        b'f' => ('\u{c}', 1),
        b'n' => ('\n', 1),
        b'r' => ('\r', 1),
        b't' => ('\t', 1),
        b'u' => match (hex4(bytes, 1), hex4(bytes, 7)) {
            (Some(high @ 0xd800..=0xdbff), Some(low @ 0xdc00..=0xdfff)) => {
                (to_char(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00)), 11)
            }
            (Some(code), _) => (to_char(code), 5),
            (None, _) => (char::REPLACEMENT_CHARACTER, 1),
        },
        other => (char::from(other), 1),
    }
}

fn to_char(code: u32) -> char {
    char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_special_byte_is_found_at_each_place_and_no_other_is() {
        for length in 0..120 {
            for place in 0..length {
                for byte in 0..=255u8 {
                    let mut text = vec![0x80u8; length];
                    text[place] = byte;
                    let expected = if is_special(byte) { place } else { length };
                    assert_eq!(find_special(&text, 0), expected, "byte {byte} at {place} of {length}");
                }
            }
        }
    }

    #[test]
    fn the_first_of_several_special_bytes_wins() {
        for (first, second) in [(b'"', 0x1f), (0x00, b'"'), (b'\\', b'\\'), (0x1f, 0x00), (b'"', 0x23)] {
            for gap in 1..70 {
                let mut text = vec![b'a'; 100];
                text[5] = first;
                text[5 + gap] = second;
                assert_eq!(find_special(&text, 0), 5);
                assert_eq!(find_special(&text, 5), 5);
            }
        }
    }

    #[test]
    fn escapes_decode_as_serde_json_decodes_them() {
        for raw in [r"\u00e9\n\t\r\b\f\/\\\q"; 1].iter().map(|raw| raw.replace(r"\q", "\\\"")) {
            let expected: String = serde_json::from_str(&format!("\"{raw}\"")).unwrap();
            assert_eq!(decode(&raw), expected);
        }
        assert_eq!(decode(r"a\ud83d\ude00b\u0041"), "a😀bA");
        assert_eq!(decode("ä\\u00fc漢"), "äü漢");
    }
}
