//! The split against a second implementation that is slow and obviously right.

use std::sync::Arc;

use bifrost_config::published::TrafficTable;
use bifrost_config::{EndpointKind, HeaderMatch, MatchRule, Migration, StickyKey};
use bifrost_wire::{bucket, peek};
use http::header::HeaderMap;
use http::{HeaderName, HeaderValue, Method};
use proptest::prelude::{ProptestConfig, Strategy as Generated, any, prop_assert_eq, proptest};

use super::*;
use crate::front::route::route;
use crate::http::Head;
use crate::pipeline::choose::choose;
use crate::snapshot::tests::snapshot_with;

/// A snapshot with providers `openai` and `anthropic` under this split.
fn snapshot(strategy: Strategy, percent: u8, rules: &[MatchRule]) -> Arc<Snapshot> {
    let provider = r#"{"keys":[{"value":"sk-1"}],"network_config":{"base_url":"http://127.0.0.1:1"}}"#;
    let text = format!(r#"{{"providers":{{"openai":{provider},"anthropic":{provider}}}}}"#);
    let migration = Migration {
        strategy,
        percent,
        rules: rules.to_vec(),
        sticky_key: StickyKey::Auto,
        salt: "llm/ai".into(),
        allow_arm_header: false,
        shadow: None,
        tool_calls: false,
        empty_answers: false,
    };
    snapshot_with(&text, |traffic| *traffic = TrafficTable::new(&migration, "", 1, "rev"))
}

/// A request as a client sends it.
#[derive(Debug, Clone)]
struct Sent {
    place: Place,
    headers: Vec<(&'static str, String)>,
    model: Option<&'static str>,
    user: Option<&'static str>,
    chance: u64,
}

/// Where a request goes, and what the rules may call that.
#[derive(Debug, Clone, Copy)]
struct Place {
    method: &'static str,
    path: &'static str,
    vendors_path: &'static str,
    provider: &'static str,
    endpoint: Option<EndpointKind>,
    /// Members of the body beside model and user.
    body: &'static str,
    /// Whether the vendor keeps something of it for the caller's account.
    kept: bool,
}

const fn place(
    path: &'static str,
    vendors_path: &'static str,
    provider: &'static str,
    endpoint: Option<EndpointKind>,
) -> Place {
    Place { method: "POST", path, vendors_path, provider, endpoint, body: "", kept: false }
}

const PLACES: &[Place] = &[
    place("/openai/v1/chat/completions", "/v1/chat/completions", "openai", Some(EndpointKind::ChatCompletions)),
    place("/openai/chat/completions", "/v1/chat/completions", "openai", Some(EndpointKind::ChatCompletions)),
    place("/openai/v1/completions", "/v1/completions", "openai", Some(EndpointKind::Completions)),
    place("/openai/v1/embeddings", "/v1/embeddings", "openai", Some(EndpointKind::Embeddings)),
    Place { kept: true, ..place("/openai/v1/responses", "/v1/responses", "openai", Some(EndpointKind::Responses)) },
    Place {
        body: r#","store":false"#,
        ..place("/openai/responses", "/v1/responses", "openai", Some(EndpointKind::Responses))
    },
    Place {
        body: r#","store":false,"previous_response_id":"resp_1""#,
        kept: true,
        ..place("/openai/v1/responses", "/v1/responses", "openai", Some(EndpointKind::Responses))
    },
    place("/openai/v1/moderations", "/v1/moderations", "openai", None),
    place("/anthropic/v1/messages", "/v1/messages", "anthropic", Some(EndpointKind::Messages)),
    place(
        "/anthropic/messages/count_tokens",
        "/v1/messages/count_tokens",
        "anthropic",
        Some(EndpointKind::CountTokens),
    ),
    Place { method: "GET", ..place("/openai/v1/models", "/v1/models", "openai", None) },
];

impl Sent {
    fn to(place: Place) -> Self {
        Self { place, headers: Vec::new(), model: Some("gpt-4o"), user: None, chance: 0 }
    }

    fn body(&self) -> String {
        let model = self.model.map(|model| format!(r#","model":"{model}""#)).unwrap_or_default();
        let user = self.user.map(|user| format!(r#","user":"{user}""#)).unwrap_or_default();
        format!(r#"{{"x":1{model}{user}{}}}"#, self.place.body)
    }

    /// What the gateway decides.
    fn decided(&self, snapshot: &Snapshot) -> (Arm, Reason) {
        let mut map = HeaderMap::new();
        map.insert("authorization", HeaderValue::from_static("Bearer sk-x"));
        for (name, value) in &self.headers {
            map.append(HeaderName::from_static(name), value.parse().unwrap());
        }
        let head = Head::new(map);
        let method: Method = self.place.method.parse().unwrap();
        let body = self.body();
        // A list of models has no body.
        let peek = (method == Method::POST).then(|| peek(body.as_bytes()).unwrap());
        let caller = Caller::of(&head, None, snapshot.traffic());
        let route = route(&method, self.place.path).unwrap();
        let choice = choose(&route, caller, peek.as_ref(), None, snapshot, self.chance).unwrap();
        (choice.arm, choice.reason)
    }

    /// What it should decide under Gradual.
    fn expected(&self, rules: &[MatchRule]) -> (Arm, Reason) {
        let fitting: Vec<_> = rules.iter().filter(|rule| self.is_meant_by(rule)).collect();
        if self.place.kept {
            // The next request of the conversation must go the same way.
            let holds = |rule: &MatchRule| {
                let by_chance = rule.user_percent.is_some_and(|percent| percent < 100) && self.seen_user().is_none();
                let by_turn = [rule.models.len(), rule.features.len(), rule.headers.len()];
                !by_chance && by_turn == [0; 3]
            };
            return match (fitting.iter().any(|rule| holds(rule)), rules.iter().all(holds)) {
                (true, _) => (Arm::Bifrost, Reason::Gradual),
                (false, true) => (Arm::Baseline, Reason::Gradual),
                (false, false) => (Arm::Baseline, Reason::VendorState),
            };
        }
        (if fitting.is_empty() { Arm::Baseline } else { Arm::Bifrost }, Reason::Gradual)
    }

    fn has_body(&self) -> bool {
        self.place.method == "POST"
    }

    fn seen_user(&self) -> Option<String> {
        let session = self.headers.iter().find(|(name, _)| *name == "x-bf-session-id").map(|(_, value)| value.clone());
        session.or_else(|| self.user.filter(|_| self.has_body()).map(str::to_owned))
    }

    fn is_meant_by(&self, rule: &MatchRule) -> bool {
        let values = |wanted: &str| {
            self.headers.iter().filter(|(name, _)| *name == wanted).map(|(_, value)| value.clone()).collect::<Vec<_>>()
        };
        let like = |pattern: &String, text: &str| match pattern.strip_suffix('*') {
            Some(start) => text.starts_with(start),
            None => pattern == text,
        };
        let model = self.model.filter(|_| self.has_body());
        let user = self.seen_user();
        let bucket = user.as_ref().map_or((self.chance % 10_000) as u16, |user| bucket("llm/ai", user));
        let conditions = [
            rule.paths.is_empty() || rule.paths.iter().any(|path| like(path, self.place.vendors_path)),
            rule.endpoints.is_empty() || self.place.endpoint.is_some_and(|endpoint| rule.endpoints.contains(&endpoint)),
            rule.models.is_empty() || rule.models.iter().any(|wanted| model.is_some_and(|model| like(wanted, model))),
            rule.providers.is_empty() || rule.providers.iter().any(|provider| provider == self.place.provider),
            rule.features.is_empty() || values("x-bf-feature").iter().any(|feature| rule.features.contains(feature)),
            rule.headers.iter().all(|header| match &header.value {
                Some(value) => values(&header.name).contains(value),
                None => !values(&header.name).is_empty(),
            }),
            rule.users.is_empty() || user.is_some_and(|user| rule.users.contains(&user)),
            rule.user_percent.is_none_or(|percent| f64::from(bucket) < f64::from(percent) * 100.0),
        ];
        conditions.into_iter().all(|condition| condition)
    }
}

fn texts(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

/// The rules of a migration as an author would write it; a phase has those of the ones before it too.
fn phases() -> Vec<Vec<MatchRule>> {
    let none = MatchRule::default;
    let tier = |value: Option<&str>| HeaderMatch { name: "x-tier".into(), value: value.map(str::to_owned) };
    vec![
        vec![],
        vec![MatchRule { features: texts(&["search", "beta"]), ..none() }],
        vec![MatchRule { users: texts(&["u-1"]), endpoints: vec![EndpointKind::ChatCompletions], ..none() }],
        vec![
            MatchRule { headers: vec![tier(Some("internal"))], providers: texts(&["openai", "gone"]), ..none() },
            MatchRule { models: texts(&["gpt-4o-*"]), headers: vec![tier(None)], ..none() },
        ],
        vec![MatchRule { paths: texts(&["/v1/embeddings", "/v1/messages*"]), ..none() }],
        vec![MatchRule { user_percent: Some(30), providers: texts(&["openai"]), ..none() }],
        vec![MatchRule { endpoints: vec![EndpointKind::Responses], models: texts(&["gpt-4o"]), ..none() }],
        vec![none()],
    ]
}

#[test]
fn every_phase_sends_what_its_rules_and_those_before_it_name_and_nothing_else() {
    let headers: [&[(&str, &str)]; 4] = [
        &[],
        &[("x-tier", "internal")],
        &[("x-tier", "public"), ("x-tier", "internal")],
        &[("x-tier", "Internal"), ("x-bf-session-id", "u-2")],
    ];
    let (mut rules, mut before, mut cases) = (Vec::new(), Vec::new(), 0);
    for phase in phases() {
        rules.extend(phase);
        let snapshot = snapshot(Strategy::Gradual, 0, &rules);
        let mut now = Vec::new();
        for place in PLACES {
            for feature in [None, Some("search"), Some("Search"), Some("searching")] {
                for headers in headers {
                    for (user, chance) in [(None, 0), (None, 9_999), (Some("u-1"), 0), (Some("u-3"), 5_000)] {
                        for model in [Some("gpt-4o"), Some("gpt-4o-mini"), None] {
                            let mut sent = Sent { model, user, chance, ..Sent::to(*place) };
                            let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned()));
                            sent.headers.extend(headers);
                            sent.headers.extend(feature.map(|feature| ("x-bf-feature", feature.to_owned())));
                            let decided = sent.decided(&snapshot);
                            assert_eq!(decided, sent.expected(&rules), "{sent:?}\n{rules:?}");
                            now.push(decided.0);
                            cases += 1;
                        }
                    }
                }
            }
        }
        // A phase only adds.
        assert!(before.iter().zip(&now).all(|(before, now)| *before == Arm::Baseline || *now == Arm::Bifrost));
        before = now;
    }
    assert!(before.iter().all(|arm| *arm == Arm::Bifrost));
    assert_eq!(cases, 8 * 11 * 4 * 4 * 4 * 3);
}

#[test]
fn a_conversation_without_a_user_is_never_left_to_chance() {
    let stored = PLACES.iter().find(|place| place.kept).copied().unwrap();
    let by_chance = snapshot(Strategy::Gradual, 0, &[MatchRule { user_percent: Some(99), ..MatchRule::default() }]);
    let all = snapshot(Strategy::Gradual, 0, &[MatchRule { user_percent: Some(100), ..MatchRule::default() }]);
    for chance in (0..10_000).step_by(100) {
        let sent = Sent { chance, ..Sent::to(stored) };
        assert_eq!(sent.decided(&by_chance), (Arm::Baseline, Reason::VendorState));
        assert_eq!(sent.decided(&all), (Arm::Bifrost, Reason::Gradual));
    }
}

#[test]
fn a_conversation_takes_no_rule_that_may_not_fit_its_next_turn() {
    let stored = PLACES.iter().find(|place| place.kept).copied().unwrap();
    let none = MatchRule::default;
    let header = HeaderMatch { name: "x-tier".into(), value: None };
    let passing = [
        MatchRule { models: texts(&["gpt-4o"]), ..none() },
        MatchRule { features: texts(&["search"]), users: texts(&["u-1"]), ..none() },
        MatchRule { headers: vec![header], user_percent: Some(100), ..none() },
    ];
    let lasting = [
        MatchRule { users: texts(&["u-1"]), ..none() },
        MatchRule { paths: texts(&["/v1/responses"]), providers: texts(&["openai"]), ..none() },
        MatchRule { user_percent: Some(99), endpoints: vec![EndpointKind::Responses], ..none() },
        none(),
    ];
    for user in [None, Some("u-1")] {
        let headers = vec![("x-tier", "a".to_owned()), ("x-bf-feature", "search".to_owned())];
        let sent = Sent { headers, user, ..Sent::to(stored) };
        for rule in &passing {
            let snapshot = snapshot(Strategy::Gradual, 0, std::slice::from_ref(rule));
            assert_eq!(sent.decided(&snapshot), (Arm::Baseline, Reason::VendorState), "{rule:?}");
        }
        let asks_for_a_user = |rule: &MatchRule| !rule.users.is_empty() || rule.user_percent.is_some();
        for rule in lasting.iter().filter(|rule| user.is_some() || !asks_for_a_user(rule)) {
            let snapshot = snapshot(Strategy::Gradual, 0, &[passing[0].clone(), rule.clone()]);
            assert_eq!(sent.decided(&snapshot), (Arm::Bifrost, Reason::Gradual), "{rule:?}");
        }
    }
    // What was not kept from any rule may be compared with what a rule took.
    let some = snapshot(Strategy::Gradual, 0, &[MatchRule { users: texts(&["u-1"]), ..none() }]);
    assert_eq!(Sent { user: Some("u-2"), ..Sent::to(stored) }.decided(&some), (Arm::Baseline, Reason::Gradual));
}

#[test]
fn the_gradual_percent_has_the_users_of_the_canary() {
    let gradual = snapshot(Strategy::Gradual, 0, &[MatchRule { user_percent: Some(37), ..MatchRule::default() }]);
    let canary = snapshot(Strategy::Canary, 37, &[]);
    for number in 0..2_000 {
        let headers = vec![("x-bf-session-id", format!("user-{number}"))];
        let sent = Sent { headers, ..Sent::to(PLACES[0]) };
        assert_eq!(sent.decided(&gradual).0, sent.decided(&canary).0);
    }
}

#[test]
fn blue_is_nothing_and_green_is_everything() {
    for (percent, arm) in [(0, Arm::Baseline), (100, Arm::Bifrost)] {
        let snapshot = snapshot(Strategy::BlueGreen, percent, &[]);
        for place in PLACES {
            for user in [None, Some("u-1")] {
                let sent = Sent { user, ..Sent::to(*place) };
                assert_eq!(sent.decided(&snapshot), (arm, Reason::BlueGreen), "{sent:?}");
            }
        }
    }
}

#[test]
fn a_drop_in_that_was_taken_back_moves_nothing() {
    for (percent, arm) in [(0, Arm::Baseline), (99, Arm::Baseline), (100, Arm::Bifrost)] {
        let snapshot = snapshot(Strategy::DropIn, percent, &[]);
        for place in PLACES {
            for user in [None, Some("u-1")] {
                let sent = Sent { user, ..Sent::to(*place) };
                assert_eq!(sent.decided(&snapshot), (arm, Reason::DropIn), "{sent:?}");
            }
        }
    }
}

fn some_of(values: &'static [&'static str], most: usize) -> impl Generated<Value = Vec<String>> {
    proptest::collection::vec(proptest::sample::select(values).prop_map(str::to_owned), 0..=most)
}

const KINDS: &[EndpointKind] = &[
    EndpointKind::ChatCompletions,
    EndpointKind::Completions,
    EndpointKind::Responses,
    EndpointKind::Embeddings,
    EndpointKind::Messages,
    EndpointKind::CountTokens,
];

fn any_rule() -> impl Generated<Value = MatchRule> {
    let header = (
        proptest::sample::select(&["x-tier", "x-team"][..]),
        proptest::option::of(proptest::sample::select(&["a", "b", ""][..])),
    )
        .prop_map(|(name, value)| HeaderMatch { name: name.to_owned(), value: value.map(str::to_owned) });
    (
        some_of(&["/v1/chat/completions", "/v1/chat*", "/v1/*", "/v1", "/chat*", "/*", "/v1/responses"], 2),
        proptest::collection::vec(proptest::sample::select(KINDS), 0..3),
        some_of(&["gpt-4o", "gpt-4o*", "gpt-*", "*", "claude-3", ""], 2),
        some_of(&["openai", "anthropic", "gone"], 2),
        some_of(&["search", "beta", ""], 2),
        proptest::collection::vec(header, 0..3),
        some_of(&["u-1", "u-2", "u-3"], 2),
        proptest::option::of(0u8..=100),
    )
        .prop_map(|(paths, endpoints, models, providers, features, headers, users, user_percent)| MatchRule {
            paths,
            endpoints,
            models,
            providers,
            features,
            headers,
            users,
            user_percent,
        })
}

fn any_request() -> impl Generated<Value = Sent> {
    let header = (
        proptest::sample::select(&["x-tier", "x-team", "x-bf-feature", "x-bf-session-id", "x-other"][..]),
        proptest::sample::select(&["a", "b", "search", "beta", "u-2", "u-3"][..]),
    )
        .prop_map(|(name, value)| (name, value.to_owned()));
    (
        proptest::sample::select(PLACES),
        proptest::collection::vec(header, 0..4),
        proptest::option::of(proptest::sample::select(&["gpt-4o", "gpt-4o-mini", "gpt-5", "claude-3", "o"][..])),
        proptest::option::of(proptest::sample::select(&["u-1", "u-2", "u-9"][..])),
        any::<u64>(),
    )
        .prop_map(|(place, headers, model, user, chance)| Sent { place, headers, model, user, chance })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn any_rules_mean_the_same_to_both(
        rules in proptest::collection::vec(any_rule(), 0..4),
        requests in proptest::collection::vec(any_request(), 1..8),
    ) {
        let snapshot = snapshot(Strategy::Gradual, 0, &rules);
        for sent in requests {
            prop_assert_eq!(sent.decided(&snapshot), sent.expected(&rules), "{:?}\n{:?}", sent, rules);
        }
    }
}
