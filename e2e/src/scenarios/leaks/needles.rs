//! What is looked for: each value as it is, and what base64 makes of it wherever it stands in a longer text.

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};

/// Shorter values would be found by chance.
const SHORTEST: usize = 8;

/// Values that must be nowhere.
#[derive(Debug, Default)]
pub(super) struct Needles(Vec<Needle>);

struct Needle {
    /// What the value is, for messages, which must not show it.
    what: String,
    forms: [String; 4],
}

impl std::fmt::Debug for Needle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Needle").field("what", &self.what).finish_non_exhaustive()
    }
}

impl Needles {
    /// Looks for this value from now on; what is too short to be a credential is left out.
    pub(super) fn add(&mut self, what: &str, value: &str) {
        let forms = forms(value);
        if value.len() >= SHORTEST && !self.0.iter().any(|needle| needle.forms == forms) {
            self.0.push(Needle { what: what.to_owned(), forms });
        }
    }

    /// Which of them a text holds.
    pub(super) fn found_in(&self, text: &str) -> Vec<&str> {
        let held = |needle: &&Needle| needle.forms.iter().any(|form| text.contains(form));
        self.0.iter().filter(held).map(|needle| needle.what.as_str()).collect()
    }
}

/// The value itself, and the characters that are only its own in base64, when 0, 1 or 2 bytes stand before it in a group of three.
fn forms(value: &str) -> [String; 4] {
    let encoded = |before: usize| {
        let text = STANDARD_NO_PAD.encode([&[0; 2][..before], value.as_bytes()].concat());
        // A character holds six bits.
        let (first, end) = ((before * 8).div_ceil(6), (before + value.len()) * 8 / 6);
        text[first..end].to_owned()
    };
    [value.to_owned(), encoded(0), encoded(1), encoded(2)]
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    #[test]
    fn a_planted_value_is_found_in_plain_and_in_base64_wherever_it_stands() {
        let value = "sk-planted-0123456789";
        let mut needles = Needles::default();
        needles.add("the planted one", value);
        for around in ["", "a", "ab", "abc", "abcd"] {
            let plain = format!("{around}{value}{around}");
            for text in [plain.clone(), STANDARD.encode(&plain), format!("x: {}\n", STANDARD.encode(&plain))] {
                assert_eq!(needles.found_in(&text), ["the planted one"], "{text}");
            }
        }
    }

    #[test]
    fn other_texts_are_clean() {
        let mut needles = Needles::default();
        needles.add("a key", "sk-planted-0123456789");
        needles.add("too short", "yes");
        for text in ["sk-planted-012345678", "yes", &STANDARD.encode("sk-other-0123456789-0123456789")] {
            assert!(needles.found_in(text).is_empty(), "{text}");
        }
    }

    #[test]
    fn what_is_known_is_not_added_again() {
        let mut needles = Needles::default();
        needles.add("once", "sk-planted-0123456789");
        needles.add("twice", "sk-planted-0123456789");
        assert_eq!(needles.found_in("sk-planted-0123456789"), ["once"]);
        assert!(!format!("{needles:?}").contains("sk-planted"));
    }
}
