//! Words of the command line that clap cannot place by itself: a name that may stand before a value, wherever options stand, and a
//! gateway's name as kubectl writes it.

use std::ffi::OsStr;

use clap::builder::{PossibleValue, StringValueParser, TypedValueParser};
use clap::{Arg, Command, Error, ValueEnum as _};

use super::{ColourArg, GatewayArg};
use crate::failure::Failure;

/// The kind, as kubectl takes it before a slash.
const KINDS: [&str; 4] = ["bgw", "bifrostgateway", "bifrostgateways", "bifrostgateways.bifrost.dev"];

/// A gateway's name, also as `bgw/NAME`.
pub(super) fn name(text: &str) -> Result<String, String> {
    match text.split_once('/') {
        None if text.is_empty() => Err("is empty: leave it out where the namespace has one gateway only".to_owned()),
        None => Ok(text.to_owned()),
        Some((kind, name)) if is_kind(kind) && !name.is_empty() && !name.contains('/') => Ok(name.to_owned()),
        Some(_) => Err("names no gateway: write NAME or bgw/NAME".to_owned()),
    }
}

fn is_kind(text: &str) -> bool {
    KINDS.iter().any(|kind| text.eq_ignore_ascii_case(kind))
}

/// The gateway and the value of `[NAME] VALUE`. `usage`: what is to be written.
fn place<'a>(words: &'a [String], usage: &str) -> Result<(GatewayArg, &'a str), Failure> {
    let fault = |why: String| Failure::Usage(format!("{why}; usage: kubectl bifrost {usage}"));
    match words {
        [value] => Ok((GatewayArg { name: None }, value)),
        [gateway, value] => {
            let name = name(gateway).map_err(|why| fault(format!("{gateway:?} {why}")))?;
            Ok((GatewayArg { name: Some(name) }, value))
        }
        [] => Err(fault("the value is missing".to_owned())),
        [_, _, more @ ..] => Err(fault(format!("unexpected: {}", more.join(" ")))),
    }
}

/// `[NAME] PERCENT`.
pub(super) fn percent(words: &[String]) -> Result<(GatewayArg, u8), Failure> {
    const USAGE: &str = "set-percent [NAME] PERCENT";
    let (gateway, value) = place(words, USAGE)?;
    let percent = value.strip_suffix('%').unwrap_or(value).trim_end().parse().ok().filter(|percent| *percent <= 100);
    let fault = || {
        let hint = if words.len() == 1 { ", and the percent is missing if that is the gateway's name" } else { "" };
        Failure::Usage(format!(
            "{value:?} is no whole number from 0 to 100, such as 25 or 25%{hint}; usage: kubectl bifrost {USAGE}"
        ))
    };
    Ok((gateway, percent.ok_or_else(fault)?))
}

/// `[NAME] COLOUR`.
pub(super) fn colour(words: &[String]) -> Result<(GatewayArg, ColourArg), Failure> {
    const USAGE: &str = "switch [NAME] blue|green";
    let (gateway, value) = place(words, USAGE)?;
    let fault = |_| {
        let hint = if words.len() == 1 { ", and the colour is missing if that is the gateway's name" } else { "" };
        Failure::Usage(format!("{value:?} is no colour: blue or green{hint}; usage: kubectl bifrost {USAGE}"))
    };
    Ok((gateway, ColourArg::from_str(value, true).map_err(fault)?))
}

/// `[NAME] PHASE`.
pub(super) fn phase(words: &[String]) -> Result<(GatewayArg, &str), Failure> {
    place(words, "set-phase [NAME] PHASE|none")
}

/// Takes any word, as it may be the gateway's name, and offers the colours for completion.
#[derive(Clone)]
pub(super) struct NameOrColour;

impl TypedValueParser for NameOrColour {
    type Value = String;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<String, Error> {
        StringValueParser::new().parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(ColourArg::value_variants().iter().filter_map(ColourArg::to_possible_value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn a_name_may_have_its_kind_before_it() {
        for text in ["ai", "bgw/ai", "bifrostgateway/ai", "bifrostgateways/ai", "bifrostgateways.bifrost.dev/ai"] {
            assert_eq!(name(text).as_deref(), Ok("ai"), "{text}");
        }
        for text in ["pod/ai", "bgw/", "/ai", "bgw/ai/x"] {
            assert!(name(text).unwrap_err().contains("bgw/NAME"), "{text}");
        }
        assert!(name("").unwrap_err().contains("leave it out"));
    }

    #[test]
    fn one_word_is_the_value_and_of_two_the_first_is_the_name() {
        let percent = |line: &str| percent(&words(line)).map(|(gateway, percent)| (gateway.name, percent));
        assert_eq!(percent("25").unwrap(), (None, 25));
        assert_eq!(percent("bgw/ai 40%").unwrap(), (Some("ai".to_owned()), 40));
        let colour = |line: &str| colour(&words(line)).map(|(gateway, colour)| (gateway.name, colour));
        assert_eq!(colour("ai Green").unwrap(), (Some("ai".to_owned()), ColourArg::Green));
        assert_eq!(phase(&words("ai chat")).unwrap().1, "chat");
    }

    #[test]
    fn what_does_not_fit_is_told_with_the_usage() {
        let usage = "usage: kubectl bifrost set-percent [NAME] PERCENT";
        for line in ["ai 101", "ai", "ai -1", "ai 25 50", "pod/ai 25", "25%%", ""] {
            let failure = percent(&words(line)).unwrap_err();
            assert!(matches!(failure, Failure::Usage(_)) && failure.to_string().ends_with(usage), "{line}: {failure}");
        }
        let missing = percent(&words("ai")).unwrap_err().to_string();
        assert!(missing.contains("the percent is missing if that is the gateway's name"), "{missing}");
        let failure = colour(&words("ai red")).unwrap_err().to_string();
        assert!(failure.starts_with("\"red\" is no colour: blue or green; usage: "), "{failure}");
    }
}
