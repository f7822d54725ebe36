//! Rules of the control port: the first that fits a request and is not used up lends it its script.

use std::collections::BTreeMap;

use http::HeaderMap;
use serde::{Deserialize, Serialize};

use crate::{api::Vendor, script::Script};

/// Which requests a rule is for. All given members must fit; none fits every request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Match {
    /// The vendor addressed.
    pub vendor: Option<Vendor>,
    /// HTTP method.
    pub method: Option<String>,
    /// The path; a trailing `*` makes it a prefix.
    pub path: Option<String>,
    /// The credential as received.
    pub key: Option<String>,
    /// Headers with exactly these values; names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Only (`true`) or never (`false`) on a connection that carried a request before.
    pub reused: Option<bool>,
    /// `model` of the body.
    pub model: Option<String>,
    /// The user named in the body.
    pub user: Option<String>,
    /// Whether the body asks for a stream.
    pub stream: Option<bool>,
}

/// A script for the requests that fit.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Name, for reading; rules are not replaced by it.
    #[serde(default)]
    pub name: Option<String>,
    /// Which requests.
    #[serde(rename = "match", default)]
    pub matches: Match,
    /// How often it may be used; unlimited when absent.
    #[serde(default)]
    pub times: Option<u64>,
    /// How often it was used (answered by the server).
    #[serde(default)]
    pub used: u64,
    /// What happens.
    #[serde(default)]
    pub script: Script,
}

/// What a rule looks at in the head of a request.
pub(crate) struct HeadView<'a> {
    pub(crate) vendor: Vendor,
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) key: Option<&'a str>,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) reused: bool,
}

/// What a rule looks at in the body.
#[derive(Default)]
pub(crate) struct BodyView<'a> {
    pub(crate) model: Option<&'a str>,
    pub(crate) user: Option<&'a str>,
    pub(crate) stream: bool,
}

impl Match {
    fn fits_head(&self, head: &HeadView<'_>) -> bool {
        self.vendor.is_none_or(|v| v == head.vendor)
            && self.method.as_deref().is_none_or(|m| m.eq_ignore_ascii_case(head.method))
            && self.path.as_deref().is_none_or(|p| path_fits(p, head.path))
            && self.key.as_deref().is_none_or(|k| head.key == Some(k))
            && self.reused.is_none_or(|r| r == head.reused)
            && self.headers.iter().all(|(n, v)| head.headers.get_all(n).iter().any(|h| h.as_bytes() == v.as_bytes()))
    }

    fn fits_body(&self, body: &BodyView<'_>) -> bool {
        self.model.as_deref().is_none_or(|m| body.model == Some(m))
            && self.user.as_deref().is_none_or(|u| body.user == Some(u))
            && self.stream.is_none_or(|s| s == body.stream)
    }

    fn needs_body(&self) -> bool {
        self.model.is_some() || self.user.is_some() || self.stream.is_some()
    }
}

fn path_fits(pattern: &str, path: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == path, |prefix| path.starts_with(prefix))
}

/// The rules in force, in the order they were added.
#[derive(Default)]
pub(crate) struct Rules(Vec<Rule>);

impl Rules {
    pub(crate) fn add(&mut self, rule: Rule) {
        self.0.push(Rule { used: 0, ..rule });
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    pub(crate) fn list(&self) -> &[Rule] {
        &self.0
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The script that decides how the body is read: of the first rule that fits by the head alone. Not counted.
    pub(crate) fn peek(&self, head: &HeadView<'_>) -> Option<&Script> {
        self.0.iter().find(|r| r.live() && !r.matches.needs_body() && r.matches.fits_head(head)).map(|r| &r.script)
    }

    /// The script of the first rule that fits; counts its use.
    pub(crate) fn take(&mut self, head: &HeadView<'_>, body: &BodyView<'_>) -> Option<Script> {
        let rule = self.0.iter_mut().find(|r| r.live() && r.matches.fits_head(head) && r.matches.fits_body(body))?;
        rule.used += 1;
        Some(rule.script.clone())
    }
}

impl Rule {
    fn live(&self) -> bool {
        self.times.is_none_or(|times| self.used < times)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(json: &str) -> Rule {
        serde_json::from_str(json).unwrap()
    }

    fn take(rules: &mut Rules, key: &str, model: &str) -> Option<u16> {
        let headers = HeaderMap::new();
        let path = "/v1/chat/completions";
        let head =
            HeadView { vendor: Vendor::OpenAi, method: "POST", path, key: Some(key), headers: &headers, reused: false };
        rules.take(&head, &BodyView { model: Some(model), ..BodyView::default() }).and_then(|s| s.status)
    }

    #[test]
    fn a_counted_rule_gives_way_to_the_next_one() {
        let mut rules = Rules::default();
        rules.add(rule(r#"{"match":{"key":"a"},"times":2,"script":{"status":500}}"#));
        rules.add(rule(r#"{"match":{"path":"/v1/chat/*"},"script":{"status":503}}"#));
        let seen: Vec<_> = ["a", "b", "a", "a"].iter().map(|k| take(&mut rules, k, "m")).collect();
        assert_eq!(seen, [Some(500), Some(503), Some(500), Some(503)]);
    }

    #[test]
    fn every_given_member_must_fit() {
        let mut rules = Rules::default();
        rules.add(rule(
            r#"{"match":{"key":"a","model":"m","vendor":"openai","method":"post"},"script":{"status":500}}"#,
        ));
        assert_eq!(take(&mut rules, "a", "other"), None);
        assert_eq!(take(&mut rules, "b", "m"), None);
        assert_eq!(take(&mut rules, "a", "m"), Some(500));
    }

    #[test]
    fn a_rule_about_the_body_says_nothing_before_the_body_is_read() {
        let mut rules = Rules::default();
        rules.add(rule(r#"{"match":{"model":"m"},"script":{"early":true}}"#));
        let headers = HeaderMap::new();
        let head =
            HeadView { vendor: Vendor::OpenAi, method: "POST", path: "/", key: None, headers: &headers, reused: false };
        assert!(rules.peek(&head).is_none());
    }
}
