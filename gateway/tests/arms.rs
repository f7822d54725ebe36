//! Which arm serves: rules, colours and the preview, through a gateway to a provider.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use bifrost_analysis::{Arm, Failure, GroupSums};
use bifrost_config::published::TrafficTable;
use bifrost_config::{EndpointKind, MatchRule, Strategy};
use bifrost_fake_provider::RecordQuery;
use bifrost_gateway::snapshot::Snapshot;
use bifrost_gateway::telemetry::{Comparison, Metrics};
use bifrost_gateway::upstream::tls::TlsRoots;
use serde_json::{Value, json};
use support::{CLIENT_KEY, POOL_KEY, Pair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const CHAT: &str = "/openai/v1/chat/completions";
const BODY: &str = r#"{"model":"gpt-4o-mini","messages":[{"role":"user","content":"test"}]}"#;
const START: &str = r#"{"strategy":"Canary","canaryPercent":0}"#;

/// Arm and reason, as the answer's headers tell them.
fn arm(response: &reqwest::Response) -> (String, String) {
    let header = |name: &str| response.headers().get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
    (header("x-bf-arm"), header("x-bf-arm-reason"))
}

fn told(arm: &str, reason: &str) -> (String, String) {
    (arm.to_owned(), reason.to_owned())
}

async fn ask(request: reqwest::RequestBuilder) -> (String, String) {
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 200);
    arm(&response)
}

/// Status, code and message of a refusal.
async fn refusal(request: reqwest::RequestBuilder) -> (u16, String, String) {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    assert_eq!(arm(&response).0, "none");
    let error: Value = response.json().await.unwrap();
    let text = |member: &str| error["error"][member].as_str().unwrap_or_default().to_owned();
    (status, text("code"), text("message"))
}

impl Pair {
    /// Takes another traffic table into use.
    fn change(&self, edit: impl FnOnce(&mut TrafficTable)) {
        let mut parts = self.shared.current.load_full().unwrap().parts.clone();
        parts.traffic.epoch += 1;
        edit(&mut parts.traffic);
        self.shared.current.store(Some(Snapshot::build(parts, &TlsRoots::with_file(None).unwrap()).unwrap()));
    }

    fn preview_base(&self) -> String {
        format!("http://{}", self.serving.as_ref().unwrap().preview.unwrap())
    }

    fn preview(&self, path: &str) -> reqwest::RequestBuilder {
        let request =
            self.client.post(format!("{}{path}", self.preview_base())).header("content-type", "application/json");
        request.bearer_auth(CLIENT_KEY).body(BODY)
    }

    fn colour(&self, percent: u8) {
        self.change(|table| {
            table.strategy = Strategy::BlueGreen;
            table.percent = percent;
        });
    }

    async fn keys_seen(&self) -> Vec<String> {
        let records = self.control.records(&RecordQuery::default()).await.unwrap();
        records.into_iter().filter_map(|record| record.key).collect()
    }
}

#[tokio::test]
async fn a_rule_for_a_feature_sends_that_feature_and_its_header_stays_here() {
    let pair = Pair::start(START, "{}").await;
    pair.change(|table| {
        table.strategy = Strategy::Gradual;
        table.rules = vec![MatchRule {
            features: vec!["search".into()],
            endpoints: vec![EndpointKind::ChatCompletions],
            ..MatchRule::default()
        }];
    });
    assert_eq!(ask(pair.post(CHAT, BODY)).await, told("baseline", "gradual"));
    assert_eq!(pair.only_record().await.key.as_deref(), Some(CLIENT_KEY));
    assert_eq!(ask(pair.post(CHAT, BODY).header("x-bf-feature", "search")).await, told("bifrost", "gradual"));
    let other = pair.post("/openai/v1/completions", r#"{"model":"gpt-4o-mini","prompt":"x"}"#);
    assert_eq!(ask(other.header("x-bf-feature", "search")).await, told("baseline", "gradual"));
    let records = pair.control.records(&RecordQuery::default()).await.unwrap();
    assert_eq!(records.len(), 3);
    assert!(records.iter().all(|record| record.header("x-bf-feature").is_none()));
    assert_eq!(records.iter().filter(|record| record.key.as_deref() == Some(POOL_KEY)).count(), 1);
}

#[tokio::test]
async fn the_preview_serves_the_other_colour_at_once_after_a_switch() {
    let pair = Pair::start(START, "{}").await;
    for (percent, main, preview) in
        [(0, "baseline", "bifrost"), (100, "bifrost", "baseline"), (0, "baseline", "bifrost")]
    {
        pair.colour(percent);
        // The same kept connections as before the switch.
        assert_eq!(ask(pair.post(CHAT, BODY)).await, told(main, "blue_green"));
        assert_eq!(ask(pair.preview(CHAT)).await, told(preview, "preview"));
    }
    let keys = pair.keys_seen().await;
    assert_eq!(keys, [CLIENT_KEY, POOL_KEY, POOL_KEY, CLIENT_KEY, CLIENT_KEY, POOL_KEY]);
    assert_eq!(pair.shared.gatherer.eligible().await.baseline, 2);
    assert_eq!(pair.shared.gatherer.eligible().await.bifrost, 1);
    let text = Metrics::new(pair.shared.gatherer.clone(), Default::default).render().await;
    assert!(text.contains(r#"bifrost_arm_requests_total{front="openai",arm="bifrost",reason="preview"} 2"#), "{text}");
}

#[tokio::test]
async fn without_blue_green_there_is_no_preview_and_the_answer_says_why() {
    let pair = Pair::start(START, "{}").await;
    let (status, code, message) = refusal(pair.preview(CHAT)).await;
    assert_eq!((status, code.as_str()), (503, "no_preview"));
    assert!(message.contains("strategy is Canary") && message.contains("BlueGreen"), "{message}");
    let (status, code, _) = refusal(pair.client.get(format!("{}/openai/v1/models", pair.preview_base()))).await;
    assert_eq!((status, code.as_str()), (503, "no_preview"));
    assert!(pair.keys_seen().await.is_empty());
}

#[tokio::test]
async fn the_preview_never_serves_what_only_the_active_colour_can() {
    let pair = Pair::start(START, "{}").await;
    let post = |path: &str, body: &str| {
        pair.client
            .post(format!("{}{path}", pair.preview_base()))
            .header("content-type", "application/json")
            .body(body.to_owned())
    };
    let get = |path: &str| pair.client.get(format!("{}{path}", pair.preview_base()));
    let in_front = BODY.replace("gpt-4o-mini", "openai/gpt-4o-mini");
    let fallbacks = BODY.replace("\"messages\"", "\"fallbacks\":[\"openai/x\"],\"messages\"");

    // Green is active: the preview is straight to the provider.
    pair.colour(100);
    for (request, way_out) in [
        (post(CHAT, BODY), "send your own key"),
        (post(CHAT, BODY).bearer_auth("sk-bf-1"), "one of the gateway's"),
        (post(CHAT, &in_front).bearer_auth(CLIENT_KEY), "name it as the provider does"),
        (post(CHAT, &fallbacks).bearer_auth(CLIENT_KEY), "\"fallbacks\""),
        (get("/openai/v1/models"), "send your own key"),
    ] {
        let (status, code, message) = refusal(request).await;
        assert_eq!((status, code.as_str()), (400, "not_in_preview"));
        assert!(message.contains("is blue") && message.contains(way_out), "{message}");
    }
    assert!(pair.keys_seen().await.is_empty());
    assert_eq!(ask(get("/openai/v1/models").bearer_auth(CLIENT_KEY)).await, told("baseline", "preview"));
    assert_eq!(ask(get("/openai/v1/files").bearer_auth(CLIENT_KEY)).await, told("baseline", "account"));

    // Blue is active: the preview is the gateway's own way.
    pair.control.reset().await.unwrap();
    pair.colour(0);
    let (status, code, message) = refusal(get("/openai/v1/files").bearer_auth(CLIENT_KEY)).await;
    assert_eq!((status, code.as_str()), (400, "not_in_preview"));
    assert!(message.contains("is green") && message.contains("/files"), "{message}");
    assert_eq!(ask(post(CHAT, BODY)).await, told("bifrost", "no_credential"));
    assert_eq!(ask(get("/openai/v1/models").bearer_auth(CLIENT_KEY)).await, told("bifrost", "preview"));
    assert!(pair.keys_seen().await.iter().all(|key| key == POOL_KEY));
}

#[tokio::test]
async fn a_request_may_choose_its_arm_where_that_is_allowed() {
    let pair = Pair::start(START, "{}").await;
    let ask_for = |arm: &str| pair.post(CHAT, BODY).header("x-bf-arm", arm);
    assert_eq!(ask(ask_for("bifrost")).await, told("baseline", "canary"));
    assert_eq!(ask(ask_for("neither")).await, told("baseline", "canary"));

    pair.change(|table| table.allow_arm_header = true);
    assert_eq!(ask(pair.post(CHAT, BODY)).await, told("baseline", "canary"));
    assert_eq!(ask(ask_for(" Bifrost")).await, told("bifrost", "header"));
    // Also where its conversation may be in the other account: an explicit choice wins.
    let stored = pair.post("/openai/v1/responses", r#"{"model":"gpt-4o-mini","input":"test"}"#);
    assert_eq!(ask(stored.header("x-bf-arm", "bifrost")).await, told("bifrost", "header"));
    let (status, code, message) = refusal(ask_for("neither")).await;
    assert_eq!((status, code.as_str()), (400, "invalid_arm"));
    assert!(["x-bf-arm", "bifrost", "baseline"].into_iter().all(|word| message.contains(word)), "{message}");
    // What is not eligible has no choice.
    let keyless = pair.client.post(format!("{}{CHAT}", pair.base)).header("content-type", "application/json");
    assert_eq!(ask(keyless.body(BODY).header("x-bf-arm", "baseline")).await, told("bifrost", "no_credential"));

    pair.change(|table| {
        table.strategy = Strategy::DropIn;
        table.percent = 100;
    });
    assert_eq!(ask(ask_for("BASELINE")).await, told("baseline", "header"));
    let seen = pair.shared.gatherer.eligible().await;
    assert_eq!((seen.baseline, seen.bifrost), (3, 0));
    let records = pair.control.records(&RecordQuery::default()).await.unwrap();
    assert!(records.iter().all(|record| record.header("x-bf-arm").is_none()));
}

#[tokio::test]
async fn on_the_preview_nobody_chooses() {
    let pair = Pair::start(START, "{}").await;
    pair.colour(0);
    pair.change(|table| table.allow_arm_header = true);
    for arm in ["baseline", "neither"] {
        assert_eq!(ask(pair.preview(CHAT).header("x-bf-arm", arm)).await, told("bifrost", "preview"));
    }
}

/// A chat request whose answer the provider gives by this script.
fn scripted(script: Value, stream: bool) -> String {
    let content = format!("[[fake {script}]]");
    json!({"model": "gpt-4o-mini", "stream": stream, "messages": [{"role": "user", "content": content}]}).to_string()
}

#[tokio::test]
async fn both_arms_are_measured_alike() {
    for (percent, arm, asked) in [(0, Arm::Baseline, true), (100, Arm::Bifrost, true), (100, Arm::Bifrost, false)] {
        let pair = Pair::start(START, "{}").await;
        pair.change(|table| (table.percent, table.empty_answers) = (percent, asked));
        let send = async |script: Value, stream: bool| {
            let response = pair.post(CHAT, &scripted(script, stream)).send().await.unwrap();
            let _ = response.bytes().await;
        };
        for stream in [false, true] {
            send(json!({"usage": {"input": 7, "output": 11}}), stream).await;
            send(json!({"status": 503}), stream).await;
            send(json!({"status": 429}), stream).await;
            send(json!({"status": 404}), stream).await;
        }
        // Of what is too long to be looked at, the tokens tell.
        for padding in [0, 100_000] {
            let nothing = json!({
                "padding": "x".repeat(padding), "choices": [{"message": {"role": "assistant", "content": ""}}],
                "usage": {"prompt_tokens": 3, "completion_tokens": 0},
            });
            send(json!({"status": 200, "body": nothing}), false).await;
        }
        send(json!({"drop": "reset"}), false).await;
        send(json!({"hang": true}), false).await;
        send(json!({"chunks": 20, "cut_after": 5}), true).await;
        send(json!({"chunks": 20, "error_after": 5}), true).await;
        pair.post(CHAT, "{").send().await.unwrap().bytes().await.unwrap();

        let report = pair.shared.gatherer.window(Comparison::Arms).await;
        let strata = report.window.strata();
        let told = |stream: bool| {
            let found =
                strata.iter().find(|stats| stats.stratum.stream == stream && stats.stratum.model == "gpt-4o-mini");
            let stats = found.unwrap().arm(arm).unwrap();
            let sum = |of: &dyn Fn(&GroupSums) -> u64| stats.groups.iter().map(of).sum::<u64>();
            let failures = Failure::ALL.map(|class| sum(&|group| group.failed(&[class])));
            let share = [sum(&|group| group.empty.n.into()), sum(&|group| group.empty.bad.into())];
            (failures, share, sum(&|group| group.first_output.n.into()), sum(&|group| group.usage.output))
        };
        // Timeout, Unreachable, Upstream5xx, RateLimited, ClientError, Gateway, BrokenStream
        let plain = if asked { [3, 2] } else { [0, 0] };
        assert_eq!(told(false), ([1, 1, 1, 1, 1, 0, 0], plain, 0, 11), "{percent}");
        let streamed = told(true);
        assert_eq!((streamed.0, streamed.1, streamed.2), ([0, 0, 1, 1, 1, 0, 2], [1, 0], 1), "{percent}");
        let other = if arm == Arm::Baseline { Arm::Bifrost } else { Arm::Baseline };
        assert_eq!((report.window.requests(other), report.epoch_mark), (0, 0));
        let mistake = strata.iter().find(|stats| stats.stratum.model.is_empty()).unwrap().arm(arm).unwrap();
        assert_eq!(mistake.groups.iter().map(|group| group.failed(&[Failure::ClientError])).sum::<u64>(), 1);
    }
}

/// A plain chat answer, or a stream, that calls a tool with these arguments.
fn calls_a_tool(arguments: &str, stream: bool) -> Value {
    let call = |text: &str| json!([{"index": 0, "id": "c", "function": {"name": "f", "arguments": text}}]);
    let usage = json!({"prompt_tokens": 1, "completion_tokens": 2});
    if !stream {
        let message = json!({"choices": [{"message": {"tool_calls": call(arguments)}}], "usage": usage});
        return json!({"status": 200, "body": message});
    }
    let (first, second) = arguments.split_at(arguments.len() / 2);
    let event =
        |text: &str| format!("data: {}\n\n", json!({"choices": [{"index": 0, "delta": {"tool_calls": call(text)}}]}));
    let body = format!("{}{}data: [DONE]\n\n", event(first), event(second));
    json!({"status": 200, "body": body, "headers": {"content-type": "text/event-stream"}})
}

#[tokio::test]
async fn tool_calls_are_looked_at_where_a_check_asks_for_it_and_the_request_named_tools() {
    for (percent, arm, asked) in [(0, Arm::Baseline, true), (100, Arm::Bifrost, true), (100, Arm::Bifrost, false)] {
        let pair = Pair::start(START, "{}").await;
        pair.change(|table| (table.percent, table.tool_calls) = (percent, asked));
        for stream in [false, true] {
            for (arguments, tools) in [(r#"{"a":1}"#, true), (r#"{"a":"#, true), (r#"{"a":"#, false)] {
                let mut body: Value = serde_json::from_str(&scripted(calls_a_tool(arguments, stream), stream)).unwrap();
                if tools {
                    body["tools"] = json!([{"type": "function", "function": {"name": "f"}}]);
                }
                let response = pair.post(CHAT, &body.to_string()).send().await.unwrap();
                assert!(response.text().await.unwrap().contains("tool_calls"));
            }
        }
        let report = pair.shared.gatherer.window(Comparison::Arms).await;
        for stats in report.window.strata() {
            let groups = &stats.arm(arm).unwrap().groups;
            let calls: u32 = groups.iter().map(|group| group.invalid_tool_call.n).sum();
            let invalid: u32 = groups.iter().map(|group| group.invalid_tool_call.bad).sum();
            assert_eq!((calls, invalid), if asked { (2, 1) } else { (0, 0) }, "{arm:?} {}", stats.stratum);
        }
        assert_eq!(report.window.strata().len(), 2);
    }
}

#[tokio::test]
async fn only_what_was_left_to_the_split_or_the_preview_is_measured() {
    let pair = Pair::start(START, "{}").await;
    pair.colour(0);
    pair.change(|table| table.allow_arm_header = true);
    ask(pair.post(CHAT, BODY)).await;
    ask(pair.preview(CHAT)).await;
    ask(pair.preview(CHAT)).await;
    ask(pair.post(CHAT, BODY).header("x-bf-arm", "bifrost")).await;
    let keyless = pair.client.post(format!("{}{CHAT}", pair.base)).header("content-type", "application/json");
    ask(keyless.body(BODY)).await;
    ask(pair.client.get(format!("{}/openai/v1/files", pair.base)).bearer_auth(CLIENT_KEY)).await;
    pair.client.get(format!("{}/health", pair.base)).send().await.unwrap();
    pair.change(|table| table.strategy = Strategy::DropIn);
    ask(pair.post(CHAT, BODY)).await;
    let window = pair.shared.gatherer.window(Comparison::Arms).await.window;
    assert_eq!([Arm::Baseline, Arm::Bifrost].map(|arm| window.requests(arm)), [1, 2]);
}

#[tokio::test]
async fn the_preview_has_health_and_no_metrics() {
    let pair = Pair::start(START, "{}").await;
    let get = |path: &str| pair.client.get(format!("{}{path}", pair.preview_base())).send();
    assert_eq!(get("/health").await.unwrap().text().await.unwrap(), r#"{"status":"ok","components":{}}"#);
    assert_eq!(get("/metrics").await.unwrap().status(), 404);
    assert_eq!(pair.client.get(format!("{}/metrics", pair.base)).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_drain_takes_the_preview_along() {
    let mut pair = Pair::start(START, "{}").await;
    pair.colour(0);
    let address = pair.serving.as_ref().unwrap().preview.unwrap();
    let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
    let health = async |socket: &mut tokio::net::TcpStream| {
        socket.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut buffer = vec![0; 4096];
        let n = socket.read(&mut buffer).await.unwrap();
        String::from_utf8_lossy(&buffer[..n]).to_ascii_lowercase()
    };
    assert!(!health(&mut socket).await.contains("connection: close"));
    let drained = tokio::spawn(pair.serving.take().unwrap().drain());
    while !pair.shared.drain.has_begun() {
        tokio::task::yield_now().await;
    }
    let last = health(&mut socket).await;
    assert!(last.starts_with("http/1.1 200") && last.contains("connection: close"), "{last}");
    tokio::time::timeout(std::time::Duration::from_secs(10), drained).await.expect("the drain does not end").unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}
