//! Copies of one arm's requests to the other: what the provider sees of them, and what the client does not.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bifrost_config::report::ShadowReport;
use bifrost_config::{ProviderType, Shadow, ShadowPrice, ShadowedArm};
use bifrost_fake_provider::{Match, Record, RecordQuery, Rule, Script};
use bifrost_gateway::snapshot::Snapshot;
use bifrost_gateway::telemetry::{Comparison, Metrics};
use bifrost_gateway::upstream::tls::TlsRoots;
use serde_json::{Value, json};
use support::{CLIENT_KEY, POOL_KEY, Pair};

const CHAT: &str = "/openai/v1/chat/completions";
const START: &str = r#"{"strategy":"Canary","canaryPercent":0}"#;
const LIMIT: Duration = Duration::from_secs(20);
/// The most that can be set: so much that it accrues in no time.
const MUCH: u64 = 999_999_000_000;

fn shadow() -> Shadow {
    Shadow {
        percent: 100,
        of: ShadowedArm::Baseline,
        daily_limit: MUCH,
        pods: 1,
        skip_tools: true,
        max_body: 64 * 1024,
        skip_header: Some("x-no-shadow".into()),
        currency: "USD".into(),
        prices: vec![ShadowPrice {
            provider: ProviderType::OpenAI,
            model: "gpt-4o*".into(),
            input: 150_000,
            output: 600_000,
        }],
    }
}

fn chat(extra: Value) -> String {
    let mut body = json!({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "test"}]});
    for (name, value) in extra.as_object().unwrap() {
        body[name] = value.clone();
    }
    body.to_string()
}

impl Pair {
    async fn copying(percent: u8, shadow: Shadow) -> Self {
        let pair = Self::start(START, "{}").await;
        let mut parts = pair.shared.current.load_full().unwrap().parts.clone();
        parts.traffic.percent = percent;
        parts.traffic.shadow = Some(shadow.clone());
        pair.shared.current.store(Some(Snapshot::build(parts, &TlsRoots::with_file(None).unwrap()).unwrap()));
        if shadow.daily_limit == MUCH {
            // Enough for all copies of a test.
            pair.wait("money", |pair| pair.shared.gatherer.shadow().money().1 > 1.0).await;
        }
        pair
    }

    async fn wait(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let until = Instant::now() + LIMIT;
        while !is_so(self) {
            assert!(Instant::now() < until, "{what}: {:?}", self.report());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn report(&self) -> ShadowReport {
        self.shared.gatherer.shadow().report().unwrap_or_default()
    }

    /// Waits until so many requests were copied or left out.
    async fn judged(&self, count: u64) -> ShadowReport {
        self.wait("judged", |pair| pair.report().copied + pair.report().skipped.values().sum::<u64>() >= count).await;
        self.report()
    }

    async fn records(&self) -> Vec<Record> {
        self.control.records(&RecordQuery::default()).await.unwrap()
    }

    async fn keys(&self) -> Vec<String> {
        self.records().await.into_iter().filter_map(|record| record.key).collect()
    }

    /// What comes with this key is answered like this.
    async fn answer(&self, key: &str, script: Script) {
        let matches = Match { key: Some(key.to_owned()), ..Match::default() };
        self.control.add_rule(&Rule { name: None, matches, times: None, used: 0, script }).await.unwrap();
    }

    /// The text of the answer, which must be the baseline arm's.
    async fn ask(&self, body: &str) -> String {
        let response = self.post(CHAT, body).send().await.unwrap();
        assert_eq!((response.status().as_u16(), &response.headers()["x-bf-arm"]), (200, &"baseline".parse().unwrap()));
        response.text().await.unwrap()
    }
}

fn skipped(report: &ShadowReport) -> BTreeMap<&str, u64> {
    report.skipped.iter().map(|(why, count)| (why.as_str(), *count)).collect()
}

#[tokio::test]
async fn a_copy_begins_when_the_answer_is_over_and_goes_with_the_pools_key() {
    let pair = Pair::copying(0, shadow()).await;
    for stream in [false, true] {
        pair.control.reset().await.unwrap();
        let script = json!({"gap_ms": 30, "chunks": 8, "text": "one two three"});
        let content = format!("[[fake {script}]]");
        let body = chat(json!({"stream": stream, "messages": [{"role": "user", "content": content}]}));
        let before = pair.report().copied;
        let answer = pair.ask(&body).await;
        assert!(answer.contains(if stream { "[DONE]" } else { "\"usage\"" }), "{answer}");
        assert!(!answer.contains("\"choices\":[]"), "the client did not ask for a usage chunk: {answer}");
        pair.wait("copy", |pair| pair.report().copied > before).await;
        let records = pair.records().await;
        let [first, copy] = records.as_slice() else { panic!("{records:?}") };
        assert_eq!((first.key.as_deref(), copy.key.as_deref()), (Some(CLIENT_KEY), Some(POOL_KEY)));
        assert!(first.ended.unwrap() <= copy.time, "{first:?} {copy:?}");
        assert_ne!(first.conn, copy.conn, "a copy takes no connection of the clients' requests");
        assert_eq!(first.body, body);
        assert_eq!(copy.header("x-bf-arm"), None);
    }
    let report = pair.report();
    assert_eq!((report.copied, report.agreed, report.failed, report.similarity[9]), (2, 2, 0, 2));
    assert!(report.spent > 0 && report.skipped.is_empty(), "{report:?}");
    // Each beside its request, for the analysis.
    let window = pair.shared.gatherer.window(Comparison::Arms).await.window;
    let strata = window.strata().iter().map(|stats| {
        let copies = stats.arm(bifrost_analysis::Arm::Bifrost).unwrap().groups.iter().map(|group| group.copies);
        let requests = stats.arm(bifrost_analysis::Arm::Baseline).map_or(0, bifrost_analysis::ArmStats::requests);
        (stats.stratum.stream, requests, copies.fold((0, 0), |sum, one| (sum.0 + one.n, sum.1 + one.bad)))
    });
    assert_eq!(strata.collect::<Vec<_>>(), [(false, 1, (1, 0)), (true, 1, (1, 0))]);
}

#[tokio::test]
async fn copies_of_the_bifrost_arm_go_with_the_callers_credential() {
    let pair = Pair::copying(100, Shadow { of: ShadowedArm::Bifrost, ..shadow() }).await;
    let request =
        pair.post(CHAT, &chat(json!({}))).header("openai-organization", "org-fake").header("x-bf-session-id", "s");
    let request = request.header("idempotency-key", "once");
    let response = request.send().await.unwrap();
    assert_eq!(&response.headers()["x-bf-arm"], "bifrost");
    response.bytes().await.unwrap();
    pair.judged(1).await;
    let records = pair.records().await;
    assert_eq!(records.len(), 2, "{records:?}");
    assert_eq!((records[0].key.as_deref(), records[1].key.as_deref()), (Some(POOL_KEY), Some(CLIENT_KEY)));
    assert_eq!(records[1].header("openai-organization"), Some("org-fake"));
    assert_eq!((records[0].header("openai-organization"), records[1].header("x-bf-session-id")), (None, None));
    assert_eq!((records[0].header("idempotency-key"), records[1].header("idempotency-key")), (Some("once"), None));
}

#[tokio::test]
async fn tools_state_headers_and_sizes_are_never_copied() {
    let pair = Pair::copying(0, shadow()).await;
    let tool = json!({"type": "function", "function": {"name": "pay", "parameters": {"type": "object"}}});
    pair.ask(&chat(json!({"tools": [tool]}))).await;
    pair.ask(&chat(json!({"tools": [tool], "stream": true}))).await;
    pair.ask(&chat(json!({"store": true}))).await;
    pair.ask(&chat(json!({"messages": [{"role": "user", "content": "x".repeat(70_000)}]}))).await;
    let response = pair.post(CHAT, &chat(json!({}))).header("x-no-shadow", "1").send().await.unwrap();
    response.bytes().await.unwrap();
    // Responses are stored unless they say otherwise; this one counts as left to the caller, not to the split.
    let response = pair.post("/openai/v1/responses", r#"{"model":"gpt-4o-mini","input":"test","store":true}"#);
    response.send().await.unwrap().bytes().await.unwrap();
    let report = pair.judged(6).await;
    assert_eq!(
        skipped(&report),
        BTreeMap::from([("tools", 2), ("state", 2), ("size", 1), ("header", 1)]),
        "{report:?}"
    );
    assert_eq!(report.copied, 0);
    assert!(pair.keys().await.iter().all(|key| key == CLIENT_KEY));
    // What is asked for by name is copied.
    pair.ask(&chat(json!({"tools": [], "store": false}))).await;
    assert_eq!(pair.judged(7).await.copied, 1);
}

#[tokio::test]
async fn what_has_no_price_or_no_money_is_not_copied() {
    let pair = Pair::copying(0, Shadow { prices: Vec::new(), ..shadow() }).await;
    pair.ask(&chat(json!({}))).await;
    assert_eq!(skipped(&pair.judged(1).await), BTreeMap::from([("price", 1)]));
    assert_eq!(pair.keys().await, [CLIENT_KEY]);

    let pair = Pair::copying(0, Shadow { daily_limit: 1, ..shadow() }).await;
    pair.ask(&chat(json!({}))).await;
    assert_eq!(skipped(&pair.judged(1).await), BTreeMap::from([("limit", 1)]));
    assert_eq!(pair.keys().await, [CLIENT_KEY]);
}

#[tokio::test]
async fn copies_stop_at_the_limit() {
    // A copy takes up to 1000 tokens of the answer: 0.0006. So much accrues in half a second.
    let began = Instant::now();
    let pair = Pair::copying(0, Shadow { daily_limit: 104_000_000, ..shadow() }).await;
    let usage = json!({"usage": {"input": 0, "output": 1000}});
    let content = format!("[[fake {usage}]]");
    let body = chat(json!({"max_tokens": 1000, "messages": [{"role": "user", "content": content}]}));
    let mut sent = 0;
    while pair.report().copied < 2 || skipped(&pair.report()).get("limit").is_none_or(|count| *count < 20) {
        assert!(began.elapsed() < LIMIT, "{:?}", pair.report());
        pair.ask(&body).await;
        sent += 1;
    }
    let report = pair.judged(sent).await;
    let accrued = 104.0 * began.elapsed().as_secs_f64() / 86_400.0;
    let (spent, _) = pair.shared.gatherer.shadow().money();
    assert!(spent > 0.0 && spent <= accrued, "{spent} of {accrued} {report:?}");
    let copies = pair.keys().await.iter().filter(|key| *key == POOL_KEY).count() as u64;
    assert_eq!((copies, report.copied + report.skipped["limit"]), (report.copied, sent));
}

#[tokio::test]
async fn a_client_that_leaves_early_is_not_copied() {
    let pair = Pair::copying(0, shadow()).await;
    let content = format!("[[fake {}]]", json!({"gap_ms": 20, "chunks": 200}));
    let body = chat(json!({"stream": true, "messages": [{"role": "user", "content": content}]}));
    let mut response = pair.post(CHAT, &body).send().await.unwrap();
    response.chunk().await.unwrap().unwrap();
    drop(response);
    assert_eq!(skipped(&pair.judged(1).await), BTreeMap::from([("unanswered", 1)]));
    // Nor what the vendor refused.
    let content = format!("[[fake {}]]", json!({"status": 429}));
    let refused = pair.post(CHAT, &chat(json!({"messages": [{"role": "user", "content": content}]}))).send().await;
    assert_eq!(refused.unwrap().status(), 429);
    assert_eq!(skipped(&pair.judged(2).await), BTreeMap::from([("unanswered", 2)]));
    assert!(pair.keys().await.iter().all(|key| key == CLIENT_KEY));
}

#[tokio::test]
async fn copies_that_fail_or_hang_touch_nothing_and_count_nowhere_else() {
    let pair = Pair::copying(0, shadow()).await;
    pair.answer(POOL_KEY, Script { status: Some(500), ..Script::default() }).await;
    for _ in 0..3 {
        pair.ask(&chat(json!({}))).await;
    }
    let report = pair.judged(3).await;
    assert_eq!((report.copied, report.failed, report.agreed, report.spent), (3, 3, 0, 0), "{report:?}");

    // More copies that hang than may be under way: the clients see nothing of it.
    pair.control.clear_rules().await.unwrap();
    pair.answer(POOL_KEY, Script { hang: true, ..Script::default() }).await;
    let began = Instant::now();
    for _ in 0..20 {
        pair.ask(&chat(json!({}))).await;
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    pair.wait("busy", |pair| skipped(&pair.report()).get("busy") == Some(&4)).await;
    assert_eq!(pair.shared.gatherer.shadow().running(), 16);

    let eligible = pair.shared.gatherer.eligible().await;
    assert_eq!((eligible.baseline, eligible.bifrost), (23, 0));
    let window = pair.shared.gatherer.window(Comparison::Arms).await.window;
    assert_eq!(
        [bifrost_analysis::Arm::Baseline, bifrost_analysis::Arm::Bifrost].map(|arm| window.requests(arm)),
        [23, 0]
    );
    assert_eq!(window.copies(), 3, "those that hang are not compared yet");
    let text = Metrics::new(pair.shared.gatherer.clone(), Default::default).render().await;
    for line in [
        r#"bifrost_shadow_requests_total{outcome="failed"} 3"#,
        r#"bifrost_shadow_requests_total{outcome="skipped_busy"} 4"#,
        r#"bifrost_shadow_differences_total{aspect="status"} 3"#,
        "bifrost_shadow_in_flight 16",
        "bifrost_shadow_cost_total 0",
        "bifrost_requests_in_flight 0",
    ] {
        assert!(text.lines().any(|shown| shown == line), "{line}\nnot in\n{text}");
    }
    assert!(!text.contains(r#"arm="bifrost""#), "{text}");
}

#[tokio::test]
async fn answers_are_compared_by_structure_and_words() {
    let pair = Pair::copying(0, shadow()).await;
    pair.answer(CLIENT_KEY, Script { text: Some("one two three four".into()), ..Script::default() }).await;
    pair.answer(POOL_KEY, Script { text: Some("one two three five".into()), ..Script::default() }).await;
    pair.ask(&chat(json!({}))).await;
    let report = pair.judged(1).await;
    // Three of five words.
    assert_eq!((report.agreed, report.similarity[6], report.median_similarity()), (1, 1, Some(60)), "{report:?}");

    pair.control.clear_rules().await.unwrap();
    let error = json!({"choices": [{"message": {"content": ""}, "finish_reason": "content_filter"}]});
    pair.answer(POOL_KEY, Script { status: Some(200), body: Some(error), ..Script::default() }).await;
    pair.ask(&chat(json!({}))).await;
    let report = pair.judged(2).await;
    assert_eq!((report.copied, report.agreed, report.failed), (2, 1, 0), "{report:?}");
    let text = Metrics::new(pair.shared.gatherer.clone(), Default::default).render().await;
    for aspect in ["finish", "content"] {
        let line = format!(r#"bifrost_shadow_differences_total{{aspect="{aspect}"}} 1"#);
        assert!(text.lines().any(|shown| shown == line), "{line}\nnot in\n{text}");
    }
}

#[tokio::test]
async fn without_a_shadow_nothing_is_copied_or_shown() {
    let pair = Pair::start(START, "{}").await;
    pair.ask(&chat(json!({}))).await;
    assert_eq!(pair.only_record().await.key.as_deref(), Some(CLIENT_KEY));
    assert_eq!(pair.shared.gatherer.shadow().report(), None);
    let text = Metrics::new(pair.shared.gatherer.clone(), Default::default).render().await;
    assert!(!text.contains("shadow"), "{text}");
}

#[tokio::test]
async fn a_pod_on_its_way_out_begins_no_copies() {
    let mut pair = Pair::copying(0, shadow()).await;
    let drained = tokio::spawn(pair.serving.take().unwrap().drain());
    while !pair.shared.drain.has_begun() {
        tokio::task::yield_now().await;
    }
    pair.ask(&chat(json!({}))).await;
    assert_eq!(skipped(&pair.judged(1).await), BTreeMap::from([("withdrawn", 1)]));
    assert_eq!(pair.only_record().await.key.as_deref(), Some(CLIENT_KEY));
    drained.abort();
}

#[tokio::test]
async fn after_a_429_copies_leave_the_account_alone() {
    let pair = Pair::copying(0, shadow()).await;
    pair.answer(POOL_KEY, Script { status: Some(429), ..Script::default() }).await;
    pair.ask(&chat(json!({}))).await;
    assert_eq!(pair.judged(1).await.failed, 1);
    pair.ask(&chat(json!({}))).await;
    assert_eq!(skipped(&pair.judged(2).await), BTreeMap::from([("rate_limited", 1)]));
    let copies = pair.keys().await.iter().filter(|key| *key == POOL_KEY).count();
    assert_eq!(copies, 1);
}

#[tokio::test]
async fn a_compressed_answer_is_compared_too() {
    let pair = Pair::copying(0, shadow()).await;
    let content = format!("[[fake {}]]", json!({"text": "one two three"}));
    let messages = json!([{"role": "user", "content": content}]);
    for stream in [false, true] {
        let request = pair.post(CHAT, &chat(json!({"stream": stream, "messages": messages})));
        let response = request.header("accept-encoding", "gzip").send().await.unwrap();
        assert_eq!(response.headers()["content-encoding"], "gzip");
        response.bytes().await.unwrap();
    }
    let report = pair.judged(2).await;
    assert_eq!((report.copied, report.agreed, report.similarity[9]), (2, 2, 2), "{report:?}");
}
