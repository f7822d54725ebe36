//! The rules of a gradual migration, resolved once for each snapshot so that evaluating them allocates nothing: patterns taken
//! apart, header names parsed, providers as indices, lists sorted. Their meaning stands with [`MatchRule`].

use bifrost_config::{EndpointKind, MatchRule};
use bifrost_wire::takes_bifrost;
use http::HeaderName;
use http::header::InvalidHeaderName;

use crate::front::route::Endpoint;
use crate::http::Head;

/// Header by which an application names the feature that asks.
const FEATURE_HEADER: HeaderName = HeaderName::from_static("x-bf-feature");

/// The rules of one traffic table.
#[derive(Debug, Default)]
pub struct Rules(Box<[Rule]>);

/// What rules are asked about: an eligible request.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// What it asks for, where its body is understood.
    pub endpoint: Option<Endpoint>,
    /// Index of the provider it would go to.
    pub provider: usize,
    /// The vendor's version, `/v1`: its path begins with it.
    pub version: &'static str,
    /// The path behind that.
    pub rest: &'a str,
    /// The model, as the request names it.
    pub model: Option<&'a str>,
    /// Its headers, as they came.
    pub head: &'a Head,
    /// What holds its user on an arm.
    pub user: Option<&'a [u8]>,
    /// The user's bucket; without a user a random one.
    pub bucket: u16,
}

/// One rule. The cheapest conditions come first, and are looked at first.
#[derive(Debug)]
struct Rule {
    /// A bit for each endpoint; none at all: every request.
    endpoints: u8,
    user_percent: Option<u8>,
    providers: Option<Box<[usize]>>,
    paths: Patterns,
    models: Patterns,
    features: Texts,
    headers: Box<[Line]>,
    users: Texts,
}

/// A header line that must be there.
#[derive(Debug)]
struct Line {
    name: HeaderName,
    value: Option<Box<[u8]>>,
}

/// Texts of which one must fit; empty: every text does, and none at all.
#[derive(Debug)]
struct Patterns(Box<[Pattern]>);

#[derive(Debug)]
struct Pattern {
    text: Box<str>,
    /// Whether more may follow.
    open: bool,
}

/// Exact texts, sorted; empty: no condition.
#[derive(Debug)]
struct Texts(Box<[Box<str>]>);

impl Rules {
    /// Resolves rules. `provider` finds the index of a provider by its name; a rule for providers that are not there fits nothing.
    pub fn build(rules: &[MatchRule], provider: impl Fn(&str) -> Option<usize>) -> Result<Self, InvalidHeaderName> {
        rules.iter().map(|rule| Rule::build(rule, &provider)).collect::<Result<_, _>>().map(Self)
    }

    /// Whether one of them fits.
    pub fn fit(&self, subject: &Subject<'_>) -> bool {
        self.0.iter().any(|rule| rule.fits(subject))
    }

    /// Whether one of them fits that fits every turn of a conversation.
    pub fn fit_every_turn(&self, subject: &Subject<'_>) -> bool {
        self.0.iter().any(|rule| rule.is_same_every_turn(subject.user) && rule.fits(subject))
    }

    /// Whether none of them may fit one turn of this user's conversation and not the next.
    pub fn are_same_every_turn(&self, user: Option<&[u8]>) -> bool {
        self.0.iter().all(|rule| rule.is_same_every_turn(user))
    }
}

impl Rule {
    fn build(rule: &MatchRule, provider: impl Fn(&str) -> Option<usize>) -> Result<Self, InvalidHeaderName> {
        let indices = || rule.providers.iter().filter_map(|name| provider(name)).collect();
        let headers = rule.headers.iter().map(|header| {
            let value = header.value.as_ref().map(|value| value.as_bytes().into());
            Ok(Line { name: HeaderName::try_from(header.name.as_str())?, value })
        });
        Ok(Self {
            endpoints: rule.endpoints.iter().fold(0, |bits, kind| bits | bit(endpoint(*kind))),
            // A percent of everybody leaves nothing to chance.
            user_percent: rule.user_percent.filter(|percent| *percent < 100),
            providers: (!rule.providers.is_empty()).then(indices),
            paths: Patterns::build(&rule.paths),
            models: Patterns::build(&rule.models),
            features: Texts::build(&rule.features),
            headers: headers.collect::<Result<_, _>>()?,
            users: Texts::build(&rule.users),
        })
    }

    fn fits(&self, subject: &Subject<'_>) -> bool {
        (self.endpoints == 0 || subject.endpoint.is_some_and(|endpoint| self.endpoints & bit(endpoint) != 0))
            && self.user_percent.is_none_or(|percent| takes_bifrost(subject.bucket, percent))
            && self.providers.as_ref().is_none_or(|providers| providers.contains(&subject.provider))
            && (self.paths.is_empty() || self.paths.fit(subject.version, subject.rest))
            && (self.models.is_empty() || subject.model.is_some_and(|model| self.models.fit("", model)))
            && (self.users.is_empty() || subject.user.is_some_and(|user| self.users.has(user)))
            && (self.features.is_empty() || subject.head.lines(&FEATURE_HEADER).any(|line| self.features.has(line)))
            && self.headers.iter().all(|line| line.is_in(subject.head))
    }

    /// Whether its conditions are on what stays the same in a conversation. A model, a feature or a header may change with each turn, and
    /// without a user so does the bucket.
    fn is_same_every_turn(&self, user: Option<&[u8]>) -> bool {
        self.models.is_empty()
            && self.features.is_empty()
            && self.headers.is_empty()
            && (self.user_percent.is_none() || user.is_some())
    }
}

impl Line {
    fn is_in(&self, head: &Head) -> bool {
        head.lines(&self.name).any(|value| self.value.as_ref().is_none_or(|wanted| **wanted == *value))
    }
}

impl Patterns {
    fn build(texts: &[String]) -> Self {
        let pattern = |text: &String| match text.strip_suffix('*') {
            Some(start) => Pattern { text: start.into(), open: true },
            None => Pattern { text: text.as_str().into(), open: false },
        };
        Self(texts.iter().map(pattern).collect())
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of them fits `first` and `second` put together.
    fn fit(&self, first: &str, second: &str) -> bool {
        self.0.iter().any(|pattern| pattern.fits(first, second))
    }
}

impl Pattern {
    fn fits(&self, first: &str, second: &str) -> bool {
        match self.text.strip_prefix(first) {
            Some(rest) if self.open => second.starts_with(rest),
            Some(rest) => second == rest,
            None => self.open && first.starts_with(&*self.text),
        }
    }
}

impl Texts {
    fn build(texts: &[String]) -> Self {
        let mut texts: Box<[Box<str>]> = texts.iter().map(|text| text.as_str().into()).collect();
        texts.sort_unstable();
        Self(texts)
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn has(&self, wanted: &[u8]) -> bool {
        self.0.binary_search_by(|text| text.as_bytes().cmp(wanted)).is_ok()
    }
}

const fn bit(endpoint: Endpoint) -> u8 {
    1 << endpoint as u8
}

const fn endpoint(kind: EndpointKind) -> Endpoint {
    match kind {
        EndpointKind::ChatCompletions => Endpoint::ChatCompletions,
        EndpointKind::Completions => Endpoint::Completions,
        EndpointKind::Responses => Endpoint::Responses,
        EndpointKind::Embeddings => Endpoint::Embeddings,
        EndpointKind::Messages => Endpoint::Messages,
        EndpointKind::CountTokens => Endpoint::CountTokens,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_compared_with_two_parts_as_with_one_text() {
        let texts =
            ["/v1/chat", "/v1/chat*", "/v1*", "/v*", "/*", "/v1/*", "/v1", "/v2*", "/v1/chat/completions*", "*"];
        for pattern in texts.map(str::to_owned) {
            let patterns = Patterns::build(std::slice::from_ref(&pattern));
            for rest in ["/chat", "/chat/completions", "", "/", "/embeddings"] {
                let whole = format!("/v1{rest}");
                let expected = match pattern.strip_suffix('*') {
                    Some(start) => whole.starts_with(start),
                    None => whole == pattern,
                };
                assert_eq!(patterns.fit("/v1", rest), expected, "{pattern} {whole}");
                assert_eq!(patterns.fit("", &whole), expected, "{pattern} {whole}");
            }
        }
    }

    #[test]
    fn a_name_that_is_no_headers_is_an_error() {
        let header = bifrost_config::HeaderMatch { name: "a b".into(), value: None };
        let rule = MatchRule { headers: vec![header], ..MatchRule::default() };
        assert!(Rules::build(&[rule], |_| None).is_err());
    }
}
