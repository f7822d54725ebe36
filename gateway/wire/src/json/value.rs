//! Stepping over a value of any kind, validated to its end.

use super::string::string_end;
use super::{Fault, SyntaxReason, byte_at, fault, skip_name, skip_whitespace};

/// The end of the value at `at`, which may open at most `levels` (≤ 127) levels of containers.
///
/// Not recursive: the open containers are the low bits of one word, 1 for an object.
pub(super) fn skip_value(bytes: &[u8], mut at: usize, levels: u32) -> Result<usize, Fault> {
    let mut kinds: u128 = 0;
    let mut open: u32 = 0;
    loop {
        match byte_at(bytes, at) {
            b'"' => at = string_end(bytes, at + 1)?.0 + 1,
            byte @ (b'{' | b'[') => {
                if open >= levels {
                    return Err(fault(bytes, at, SyntaxReason::TooDeep));
                }
                let object = byte == b'{';
                at = skip_whitespace(bytes, at + 1);
                if byte_at(bytes, at) == if object { b'}' } else { b']' } {
                    at += 1;
                } else {
                    open += 1;
                    kinds = kinds << 1 | u128::from(object);
                    if object {
                        at = skip_name(bytes, at)?;
                    }
                    continue;
                }
            }
            b'-' | b'0'..=b'9' => at = number_end(bytes, at)?,
            b't' => at = literal_end(bytes, at, b"true")?,
            b'f' => at = literal_end(bytes, at, b"false")?,
            b'n' => at = literal_end(bytes, at, b"null")?,
            _ => return Err(fault(bytes, at, SyntaxReason::ExpectedValue)),
        }
        // After a value: close what ends here, then go on to the next element or member.
        loop {
            if open == 0 {
                return Ok(at);
            }
            at = skip_whitespace(bytes, at);
            let object = kinds & 1 == 1;
            match (byte_at(bytes, at), object) {
                (b',', _) => {
                    at = skip_whitespace(bytes, at + 1);
                    if object {
                        at = skip_name(bytes, at)?;
                    }
                    break;
                }
                (b'}', true) | (b']', false) => {
                    at += 1;
                    open -= 1;
                    kinds >>= 1;
                }
                (_, true) => return Err(fault(bytes, at, SyntaxReason::ExpectedCommaOrBrace)),
                (_, false) => return Err(fault(bytes, at, SyntaxReason::ExpectedCommaOrBracket)),
            }
        }
    }
}

fn literal_end(bytes: &[u8], at: usize, literal: &[u8]) -> Result<usize, Fault> {
    let rest = bytes.get(at..).unwrap_or_default();
    if rest.starts_with(literal) {
        return Ok(at + literal.len());
    }
    let same = rest.iter().zip(literal).take_while(|(a, b)| a == b).count();
    Err(if same == rest.len() {
        fault(bytes, bytes.len(), SyntaxReason::UnexpectedEnd)
    } else {
        fault(bytes, at, SyntaxReason::ExpectedValue)
    })
}

fn digits_end(bytes: &[u8], mut at: usize) -> usize {
    while byte_at(bytes, at).is_ascii_digit() {
        at += 1;
    }
    at
}

/// At least one digit from `at` on.
fn some_digits(bytes: &[u8], at: usize) -> Result<usize, Fault> {
    let end = digits_end(bytes, at);
    if end == at { Err(fault(bytes, at, SyntaxReason::InvalidNumber)) } else { Ok(end) }
}

fn number_end(bytes: &[u8], mut at: usize) -> Result<usize, Fault> {
    if byte_at(bytes, at) == b'-' {
        at += 1;
    }
    if byte_at(bytes, at) == b'0' {
        at += 1;
        if byte_at(bytes, at).is_ascii_digit() {
            return Err(fault(bytes, at, SyntaxReason::InvalidNumber));
        }
    } else {
        at = some_digits(bytes, at)?;
    }
    if byte_at(bytes, at) == b'.' {
        at = some_digits(bytes, at + 1)?;
    }
    if matches!(byte_at(bytes, at), b'e' | b'E') {
        at += 1;
        if matches!(byte_at(bytes, at), b'+' | b'-') {
            at += 1;
        }
        at = some_digits(bytes, at)?;
    }
    Ok(at)
}
