//! The text of an answer, its pieces, and the tokens it counts as.

use std::{ops::Range, vec};

use crate::script::Script;

/// What is answered unless a script says otherwise.
const DEFAULT: &str = "Hello! This is the fake provider, how can I help you today?";
const FILLER: &str = "All work and no play makes Jack a dull boy. ";

/// The answer's text for a script.
pub(crate) fn answer(script: &Script) -> String {
    let base = script.text.as_deref().unwrap_or(DEFAULT);
    let wanted = script.answer_bytes.or_else(|| {
        let chunks = script.chunks?;
        let least = chunks.saturating_mul(script.chunk_bytes.unwrap_or(1));
        (script.chunk_bytes.is_some() || base.len() < least).then_some(least)
    });
    match wanted {
        Some(len) if script.text.is_none() => FILLER.chars().cycle().take(len).collect(),
        Some(len) => base.chars().chain(FILLER.chars().cycle()).take(len).collect(),
        None => base.to_owned(),
    }
}

/// The pieces in which a stream sends `text`: as scripted, else word by word.
pub(crate) fn pieces(text: &str, script: &Script) -> vec::IntoIter<Range<usize>> {
    let ends: Vec<usize> = match (script.chunks, script.chunk_bytes) {
        (_, Some(size)) => every(text.len(), size.max(1)),
        (Some(0), None) => Vec::new(),
        (Some(n), None) => (1..=n).map(|i| text.len() * i / n).collect(),
        (None, None) => words(text),
    };
    let mut start = 0;
    let mut out = Vec::with_capacity(ends.len());
    for end in ends {
        let end = char_boundary(text, end);
        out.push(start..end);
        start = end;
    }
    out.into_iter()
}

fn every(len: usize, size: usize) -> Vec<usize> {
    (1..=len.div_ceil(size)).map(|i| (i * size).min(len)).collect()
}

fn words(text: &str) -> Vec<usize> {
    let mut ends: Vec<usize> = text.match_indices(' ').map(|(at, _)| at).filter(|&at| at > 0).collect();
    ends.push(text.len());
    ends
}

fn char_boundary(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at += 1;
    }
    at
}

/// A plausible token count of so many bytes of text.
pub(crate) fn tokens(bytes: usize) -> u64 {
    (bytes as u64).div_ceil(4).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(script: &Script) -> Vec<String> {
        let text = answer(script);
        pieces(&text, script).map(|r| text[r].to_owned()).collect()
    }

    #[test]
    fn pieces_make_up_the_whole_text() {
        for script in [
            Script::default(),
            Script { chunks: Some(7), ..Script::default() },
            Script { chunks: Some(500), ..Script::default() },
            Script { chunk_bytes: Some(3), answer_bytes: Some(100), ..Script::default() },
            Script { text: Some("grüße an alle ✓✓✓".to_owned()), chunk_bytes: Some(2), ..Script::default() },
        ] {
            assert_eq!(split(&script).concat(), answer(&script));
        }
    }

    #[test]
    fn number_size_and_length_are_as_scripted() {
        assert_eq!(split(&Script { chunks: Some(500), ..Script::default() }).len(), 500);
        let sized = split(&Script { chunks: Some(4), chunk_bytes: Some(10), ..Script::default() });
        assert_eq!(sized.iter().map(String::len).collect::<Vec<_>>(), [10, 10, 10, 10]);
        assert_eq!(answer(&Script { answer_bytes: Some(12_345), ..Script::default() }).len(), 12_345);
    }
}
