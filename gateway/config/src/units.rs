//! Durations (`10s`, `1m30s`, `500ms`) and sizes (`100Mi`) as the resource writes them.

use std::time::Duration;

/// Reads a duration: one or more of a whole number with `ms`, `s`, `m` or `h`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest.get(..digits)?.parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let part = match &rest[..letters] {
            "ms" => Duration::from_millis(number),
            "s" => Duration::from_secs(number),
            "m" => Duration::from_secs(number.checked_mul(60)?),
            "h" => Duration::from_secs(number.checked_mul(3600)?),
            _ => return None,
        };
        rest = &rest[letters..];
        total = total.checked_add(part)?;
    }
    Some(total)
}

/// Reads a size in bytes: a whole number, alone or with `Ki`, `Mi` or `Gi`.
pub fn parse_size(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = text.get(..digits)?.parse().ok()?;
    let factor = match &text[digits..] {
        "" => 1,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_add_up_their_parts() {
        assert_eq!(parse_duration("10s"), Some(Duration::from_secs(10)));
        assert_eq!(parse_duration("1m30s"), Some(Duration::from_secs(90)));
        assert_eq!(parse_duration("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(parse_duration("2h"), Some(Duration::from_secs(7200)));
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in ["", "10", "s", "1d", "-1s", "1.5s", "1s ", "99999999999999999999s"] {
            assert_eq!(parse_duration(text), None, "{text:?}");
        }
    }

    #[test]
    fn sizes_know_binary_units() {
        assert_eq!(parse_size("100Mi"), Some(100 << 20));
        assert_eq!(parse_size("7"), Some(7));
        assert_eq!(parse_size("1Gi"), Some(1 << 30));
        for text in ["", "Mi", "1M", "1.5Gi", "18446744073709551615Gi"] {
            assert_eq!(parse_size(text), None, "{text:?}");
        }
    }
}
