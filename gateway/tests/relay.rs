//! Requests through a gateway to a provider that behaves like the vendors, bad days included.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::time::Duration;

use bifrost_fake_provider::{Cut, RecordQuery, Rule, Script};
use bifrost_gateway::telemetry::Metrics;
use serde_json::{Value, json};
use support::{CLIENT_KEY, POOL_KEY, Pair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const CHAT: &str = "/openai/v1/chat/completions";
const DROP_IN: &str = r#"{"strategy":"DropIn"}"#;
const BASELINE: &str = r#"{"strategy":"Canary","canaryPercent":0}"#;

fn chat(extra: Value) -> String {
    let mut body = json!({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "test"}]});
    for (name, value) in extra.as_object().unwrap() {
        body[name] = value.clone();
    }
    body.to_string()
}

fn header<'a>(response: &'a reqwest::Response, name: &str) -> Option<&'a str> {
    response.headers().get(name).and_then(|value| value.to_str().ok())
}

#[tokio::test]
async fn the_bifrost_arm_calls_with_a_pool_key_and_nothing_of_the_clients() {
    let pair = Pair::start(DROP_IN, "{}").await;
    let request = pair
        .post(CHAT, &chat(json!({})))
        .header("cookie", "a=b")
        .header("openai-organization", "org-x")
        .header("x-bf-session-id", "s");
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(
        (header(&response, "x-bf-arm"), header(&response, "x-bf-arm-reason")),
        (Some("bifrost"), Some("drop_in"))
    );
    assert_eq!(header(&response, "x-bf-revision"), Some("test"));
    assert!(header(&response, "x-request-id").is_some() && header(&response, "x-bf-request-id").is_some());
    assert!(header(&response, "set-cookie").is_none() && header(&response, "openai-organization").is_none());
    let record = pair.only_record().await;
    assert_eq!((record.key.as_deref(), record.path.as_str()), (Some(POOL_KEY), "/v1/chat/completions"));
    assert_eq!(record.header("accept-encoding"), Some("identity"));
    for name in ["cookie", "openai-organization", "x-bf-session-id", "x-api-key"] {
        assert_eq!(record.header(name), None, "{name}");
    }
}

#[tokio::test]
async fn the_baseline_arm_passes_bytes_and_credential_as_they_came() {
    let pair = Pair::start(BASELINE, "{}").await;
    // White space, a number's form and the order of members survive only if nobody writes the JSON anew.
    let body = "{ \"model\" :\"gpt-4o-mini\",\n \"temperature\":1.0e0, \"messages\":[{\"content\":\"a\\u0062\",\"role\":\"user\"}] }";
    let response =
        pair.post("/openai/chat/completions?x=1", body).header("accept-encoding", "gzip").send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(
        (header(&response, "x-bf-arm"), header(&response, "x-bf-arm-reason")),
        (Some("baseline"), Some("canary"))
    );
    assert_eq!(header(&response, "content-encoding"), Some("gzip"));
    assert!(header(&response, "set-cookie").is_some());
    let record = pair.only_record().await;
    assert_eq!((record.key.as_deref(), record.body.as_str()), (Some(CLIENT_KEY), body));
    assert_eq!((record.path.as_str(), record.query.as_deref()), ("/v1/chat/completions", Some("x=1")));
    assert_eq!(record.header("accept-encoding"), Some("gzip"));
}

#[tokio::test]
async fn the_baseline_arm_does_not_judge_bodies_and_the_other_does() {
    let broken = "{\"model\":\"gpt-4o-mini\",";
    let baseline = Pair::start(BASELINE, "{}").await;
    let response = baseline.post(CHAT, broken).send().await.unwrap();
    assert_eq!((response.status().as_u16(), header(&response, "x-bf-arm")), (400, Some("baseline")));
    assert_eq!(baseline.only_record().await.body, broken);

    let pair = Pair::start(DROP_IN, "{}").await;
    let cases = [
        (broken.to_owned(), 400, "invalid_body"),
        (r#"{"model":"a","Model":"b"}"#.to_owned(), 400, "invalid_body"),
        (r#"{"messages":[]}"#.to_owned(), 400, "model_missing"),
        (r#"{"model":"anthropic/claude-3-sonnet-20240229"}"#.to_owned(), 501, "format_not_served"),
        (String::new(), 400, "invalid_body"),
    ];
    for (body, status, code) in cases {
        let response = pair.post(CHAT, &body).send().await.unwrap();
        assert_eq!(response.status().as_u16(), status, "{body}");
        let error: Value = response.json().await.unwrap();
        assert_eq!(error["error"]["code"], code, "{body}: {error}");
    }
    assert!(pair.control.records(&RecordQuery::default()).await.unwrap().is_empty());
}

#[tokio::test]
async fn usage_is_asked_for_and_its_chunk_does_not_reach_the_client() {
    let pair = Pair::start(DROP_IN, "{}").await;
    let text = pair.post(CHAT, &chat(json!({"stream": true}))).send().await.unwrap().text().await.unwrap();
    assert!(text.trim_end().ends_with("data: [DONE]"), "{text}");
    assert!(!text.contains("\"usage\":{") && !text.contains("\"choices\":[]"), "{text}");
    let sent: Value = serde_json::from_str(&pair.only_record().await.body).unwrap();
    assert_eq!(sent["stream_options"]["include_usage"], true);
    pair.control.reset().await.unwrap();
    let asked = chat(json!({"stream": true, "stream_options": {"include_usage": true}}));
    let response = pair.post(CHAT, &asked).send().await.unwrap();
    assert_eq!(header(&response, "x-accel-buffering"), Some("no"));
    let text = response.text().await.unwrap();
    assert!(text.contains("\"choices\":[]"), "{text}");
    assert_eq!(pair.only_record().await.body, asked);
}

#[tokio::test]
async fn a_prefix_names_the_provider_and_is_taken_off() {
    let pair = Pair::start(BASELINE, "{}").await;
    let response = pair.post(CHAT, &chat(json!({"model": "openai/gpt-4o-mini"}))).send().await.unwrap();
    assert_eq!(
        (header(&response, "x-bf-arm"), header(&response, "x-bf-arm-reason")),
        (Some("bifrost"), Some("provider_prefix"))
    );
    assert_eq!(pair.only_record().await.model.as_deref(), Some("gpt-4o-mini"));
}

#[tokio::test]
async fn anthropic_is_served_with_its_own_key_version_and_errors() {
    let pair = Pair::start(DROP_IN, "{}").await;
    let body = r#"{"model":"claude-3-sonnet-20240229","max_tokens":100,"messages":[{"role":"user","content":"test"}]}"#;
    let url = format!("{}/anthropic/v1/messages", pair.base);
    let post =
        |body: &str| pair.client.post(&url).header("content-type", "application/json").body(body.to_owned()).send();
    assert_eq!(post(body).await.unwrap().status(), 200);
    let record = pair.only_record().await;
    assert_eq!(
        (record.header("x-api-key"), record.header("anthropic-version")),
        (Some("sk-ant-pool"), Some("2023-06-01"))
    );
    let response = post(&body.replace("sonnet-20240229", "opus-20240229")).await.unwrap();
    assert_eq!((response.status().as_u16(), header(&response, "x-bf-error-code")), (404, Some("model_not_found")));
    let error: Value = response.json().await.unwrap();
    assert_eq!((&error["type"], &error["error"]["type"]), (&json!("error"), &json!("not_found_error")));
    let message = error["error"]["message"].as_str().unwrap();
    assert!(message.contains("claude-3-opus-20240229") && message.contains("config.json"), "{message}");
}

#[tokio::test]
async fn a_vendors_refusal_of_the_request_passes_and_of_the_pools_key_does_not() {
    let pair = Pair::start(DROP_IN, "{}").await;
    let scripted =
        |script: Value| chat(json!({"messages": [{"role": "user", "content": format!("[[fake {script}]]")}]}));
    let response =
        pair.post(CHAT, &scripted(json!({"status": 429, "headers": {"retry-after": "7"}}))).send().await.unwrap();
    assert_eq!((response.status().as_u16(), header(&response, "retry-after")), (429, Some("7")));
    let response =
        pair.post(CHAT, &scripted(json!({"status": 401, "message": "key sk-pool-key is bad"}))).send().await.unwrap();
    assert_eq!((response.status().as_u16(), header(&response, "x-should-retry")), (502, Some("false")));
    let text = response.text().await.unwrap();
    assert!(text.contains("upstream_credentials_rejected") && !text.contains(POOL_KEY), "{text}");
    assert!(text.contains("its request id: req_"), "{text}");
    let response = pair.post(CHAT, &scripted(json!({"status": 402, "message": "your credit"}))).send().await.unwrap();
    assert_eq!(response.status(), 502);
    assert!(!response.text().await.unwrap().contains("credit"));
}

#[tokio::test]
async fn a_body_that_is_looked_at_elsewhere_is_changed_in_place_too() {
    let pair = Pair::start(DROP_IN, "{}").await;
    let body = chat(json!({"model": "openai/gpt-4o-mini", "stream": true, "padding": "x".repeat(3 << 20)}));
    let response = pair.post(CHAT, &body).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let record = pair.only_record().await;
    assert_eq!(record.model.as_deref(), Some("gpt-4o-mini"));
    let usage = r#""stream_options":{"include_usage":true},"#.len();
    assert_eq!(record.body_len as usize, body.len() - "openai/".len() + usage);
    assert_eq!(pair.shared.budget.used(), 0);
}

#[tokio::test]
async fn the_gateways_own_member_does_not_reach_the_vendor() {
    let pair = Pair::start(DROP_IN, "{}").await;
    let body = r#"{"model":"gpt-4o-mini","fallbacks":["anthropic/claude"],"messages":[]}"#;
    let response = pair.post(CHAT, body).send().await.unwrap();
    assert_eq!(header(&response, "x-bf-arm-reason"), Some("fallbacks"));
    assert_eq!(pair.only_record().await.body, r#"{"model":"gpt-4o-mini","messages":[]}"#);
}

#[tokio::test]
async fn every_answer_says_which_arm_it_is_of_and_metrics_know_those_of_none() {
    let pair = Pair::start(BASELINE, r#"{"max_request_body_size_mb":1}"#).await;
    let refused = pair.post(CHAT, &chat(json!({"padding": "x".repeat(3 << 20)}))).send().await.unwrap();
    assert_eq!((refused.status().as_u16(), header(&refused, "x-bf-arm")), (413, Some("none")));
    assert_eq!(header(&refused, "x-bf-revision"), Some("test"));
    pair.post(CHAT, &chat(json!({"stream": true}))).send().await.unwrap().text().await.unwrap();
    let text = Metrics::new(pair.shared.gatherer.clone(), Default::default).render().await;
    assert!(text.contains(r#"bifrost_requests_total{provider="",model="",status="413",arm="none"} 1"#), "{text}");
    assert!(text.contains(r#"method="chat_completion_stream",selected_key_name="",arm="baseline""#), "{text}");
}

#[tokio::test]
async fn a_body_over_the_limit_gets_an_answer_that_can_be_read() {
    let pair = Pair::start(DROP_IN, r#"{"max_request_body_size_mb":1}"#).await;
    let large = chat(json!({"padding": "x".repeat(3 << 20)}));
    let response = pair.post(CHAT, &large).send().await.unwrap();
    assert_eq!(response.status(), 413);
    let text = response.text().await.unwrap();
    assert!(text.contains("max_request_body_size_mb"), "{text}");
}

#[tokio::test]
async fn faults_of_the_provider_have_their_own_answers() {
    let pair = Pair::start(DROP_IN, "{}").await;
    let scripted =
        |script: Value| chat(json!({"messages": [{"role": "user", "content": format!("[[fake {script}]]")}]}));
    for (script, status, code) in
        [(json!({"hang": true}), 504, "upstream_timeout"), (json!({"drop": "reset"}), 502, "upstream_broken")]
    {
        let response = pair.post(CHAT, &scripted(script)).send().await.unwrap();
        assert_eq!((response.status().as_u16(), header(&response, "x-should-retry")), (status, Some("false")));
        let error: Value = response.json().await.unwrap();
        assert_eq!(error["error"]["code"], code);
    }
    // A port that nothing listens on.
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (_, serving) = support::gateway(&support::config(unused, DROP_IN, "{}")).await;
    let url = format!("http://{}{CHAT}", serving.address);
    let response = pair.client.post(url).body(chat(json!({}))).send().await.unwrap();
    assert_eq!(response.status(), 502);
    let text = response.text().await.unwrap();
    assert!(text.contains("upstream_unreachable") && text.contains(&unused.port().to_string()), "{text}");
}

#[tokio::test]
async fn a_stream_that_dies_ends_with_an_error_event() {
    let pair = Pair::start(DROP_IN, "{}").await;
    let dies = |cut: Cut| Rule {
        script: Script { chunks: Some(20), cut_after: Some(5), cut, ..Script::default() },
        ..Rule::default()
    };
    for cut in [Cut::Reset, Cut::Close] {
        pair.control.reset_all().await.unwrap();
        pair.control.add_rule(&dies(cut)).await.unwrap();
        let text = pair.post(CHAT, &chat(json!({"stream": true}))).send().await.unwrap().text().await.unwrap();
        let last = text.trim_end().rsplit("\n\n").next().unwrap();
        assert!(last.starts_with("data: {\"error\"") && last.contains("upstream_stream_broken"), "{text}");
        assert!(!text.contains("[DONE]"));
    }
    pair.control.reset_all().await.unwrap();
    pair.control
        .add_rule(&Rule { script: Script { first_byte_delay_ms: 5000, ..Script::default() }, ..Rule::default() })
        .await
        .unwrap();
    let text = pair.post(CHAT, &chat(json!({"stream": true}))).send().await.unwrap().text().await.unwrap();
    assert!(text.contains("upstream_timeout"), "{text}");
}

#[tokio::test]
async fn a_baseline_stream_that_dies_is_cut_as_the_vendor_cut_it() {
    let pair = Pair::start(BASELINE, "{}").await;
    pair.control
        .add_rule(&Rule {
            script: Script { chunks: Some(20), cut_after: Some(5), ..Script::default() },
            ..Rule::default()
        })
        .await
        .unwrap();
    let response = pair.post(CHAT, &chat(json!({"stream": true}))).send().await.unwrap();
    assert!(response.text().await.is_err());
}

#[tokio::test]
async fn a_client_that_leaves_cancels_the_call() {
    let pair = Pair::start(DROP_IN, "{}").await;
    pair.control
        .add_rule(&Rule { script: Script { chunks: Some(1000), gap_ms: 20, ..Script::default() }, ..Rule::default() })
        .await
        .unwrap();
    let mut response = pair.post(CHAT, &chat(json!({"stream": true}))).send().await.unwrap();
    response.chunk().await.unwrap().unwrap();
    drop(response);
    let ended = tokio::time::timeout(Duration::from_secs(5), async {
        loop {
            let record = pair.only_record().await;
            if record.ended.is_some() {
                break record;
            }
            tokio::task::yield_now().await;
        }
    });
    assert!(!ended.await.expect("the call goes on").completed, "the provider gave its whole answer");
}

#[tokio::test]
async fn connections_to_the_provider_are_used_again() {
    let pair = Pair::start(DROP_IN, "{}").await;
    for stream in [false, true, false, false] {
        pair.post(CHAT, &chat(json!({"stream": stream}))).send().await.unwrap().bytes().await.unwrap();
    }
    let records = pair.control.records(&RecordQuery::default()).await.unwrap();
    let connections: std::collections::BTreeSet<_> = records.iter().map(|r| r.conn).collect();
    assert_eq!((records.len(), connections.len()), (4, 1));
}

#[tokio::test]
async fn a_kept_connection_that_the_provider_closed_costs_no_request() {
    let pair = Pair::start(DROP_IN, "{}").await;
    pair.control
        .add_rule(&Rule { script: Script { close: true, ..Script::default() }, ..Rule::default() })
        .await
        .unwrap();
    for _ in 0..20 {
        let response = pair.post(CHAT, &chat(json!({}))).send().await.unwrap();
        assert_eq!(response.status(), 200);
        response.bytes().await.unwrap();
    }
}

#[tokio::test]
async fn paths_of_an_account_ask_for_the_callers_own_credential() {
    let pair = Pair::start(DROP_IN, "{}").await;
    let url = format!("{}/openai/v1/files", pair.base);
    let response = pair.client.get(&url).send().await.unwrap();
    assert_eq!(response.status(), 403);
    assert!(response.text().await.unwrap().contains("credential_required"));
    let response = pair.client.get(&url).bearer_auth(CLIENT_KEY).send().await.unwrap();
    assert_eq!(
        (header(&response, "x-bf-arm"), header(&response, "x-bf-arm-reason")),
        (Some("baseline"), Some("account"))
    );
    assert_eq!(pair.only_record().await.key.as_deref(), Some(CLIENT_KEY));
}

#[tokio::test]
async fn other_calls_are_relayed_raw() {
    let pair = Pair::start(DROP_IN, "{}").await;
    let body = "--b\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n--b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\nRIFF\r\n--b--\r\n";
    let url = format!("{}/openai/v1/audio/transcriptions", pair.base);
    let request = pair.client.post(url).header("content-type", "multipart/form-data; boundary=b").body(body);
    let response = request.send().await.unwrap();
    assert_eq!((response.status().as_u16(), header(&response, "x-bf-arm")), (200, Some("bifrost")));
    let record = pair.only_record().await;
    assert_eq!((record.key.as_deref(), record.body_len), (Some(POOL_KEY), body.len() as u64));
    let models = pair.client.get(format!("{}/openai/models", pair.base)).send().await.unwrap();
    assert_eq!(models.json::<Value>().await.unwrap()["object"], "list");
}

#[tokio::test]
async fn pages_and_paths_that_are_no_front_are_answered_here() {
    let pair = Pair::start(DROP_IN, "{}").await;
    let get = |path: &str| pair.client.get(format!("{}{path}", pair.base)).send();
    assert_eq!(get("/health").await.unwrap().json::<Value>().await.unwrap()["status"], "ok");
    let response = get("/v2/anything").await.unwrap();
    assert_eq!(response.status(), 404);
    assert!(response.text().await.unwrap().contains("/openai"));
    let upgrade = pair
        .client
        .get(format!("{}/openai/v1/responses", pair.base))
        .header("connection", "upgrade")
        .header("upgrade", "websocket");
    assert_eq!(upgrade.send().await.unwrap().status(), 501);
}

/// A request on a socket of its own, kept open.
async fn keep_alive(address: std::net::SocketAddr) -> (tokio::net::TcpStream, String) {
    let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
    let head = exchange(&mut socket).await;
    (socket, head)
}

async fn exchange(socket: &mut tokio::net::TcpStream) -> String {
    socket.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut buffer = vec![0; 4096];
    let n = socket.read(&mut buffer).await.unwrap();
    String::from_utf8_lossy(&buffer[..n]).into_owned()
}

#[tokio::test]
async fn a_drain_cuts_no_stream_and_refuses_no_request_on_the_way() {
    let mut pair = Pair::start(DROP_IN, "{}").await;
    pair.control
        .add_rule(&Rule { script: Script { chunks: Some(30), gap_ms: 50, ..Script::default() }, ..Rule::default() })
        .await
        .unwrap();
    let mut response = pair.post(CHAT, &chat(json!({"stream": true}))).send().await.unwrap();
    response.chunk().await.unwrap().unwrap();
    let serving = pair.serving.take().unwrap();
    let (mut socket, head) = keep_alive(serving.address).await;
    assert!(!head.to_ascii_lowercase().contains("connection: close"), "{head}");
    let drained = tokio::spawn(serving.drain());
    // A request on an idle connection during the readiness delay is served, as the last one.
    while !pair.shared.drain.has_begun() {
        tokio::task::yield_now().await;
    }
    let head = exchange(&mut socket).await;
    assert!(head.starts_with("HTTP/1.1 200") && head.to_ascii_lowercase().contains("connection: close"), "{head}");
    let mut text = String::new();
    while let Some(chunk) = response.chunk().await.unwrap() {
        text.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    assert!(text.trim_end().ends_with("data: [DONE]"), "{text}");
    drop(response);
    // The client's pool still holds an idle connection; the drain closes it after a short silence.
    tokio::time::timeout(Duration::from_secs(10), drained).await.expect("the drain does not end").unwrap();
}

#[tokio::test]
async fn a_drain_lasts_until_a_slow_client_has_the_last_byte() {
    const ANSWER: usize = 200_000;
    let mut pair = Pair::start(DROP_IN, "{}").await;
    let script = Script { answer_bytes: Some(ANSWER), ..Script::default() };
    pair.control.add_rule(&Rule { script, ..Rule::default() }).await.unwrap();
    let serving = pair.serving.take().unwrap();
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    // Nearly all of the answer stays with the gateway's kernel.
    socket.set_recv_buffer_size(4096).unwrap();
    let mut socket = socket.connect(serving.address).await.unwrap();
    let mut drained = tokio::spawn(serving.drain());
    while !pair.shared.drain.has_begun() {
        tokio::task::yield_now().await;
    }
    let body = chat(json!({}));
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {CLIENT_KEY}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    socket.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(1500), &mut drained).await.is_err(), "the drain has ended");
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.unwrap();
    assert!(answer.len() > ANSWER, "{} bytes", answer.len());
    tokio::time::timeout(Duration::from_secs(10), drained).await.expect("the drain does not end").unwrap();
}

#[tokio::test]
async fn at_the_end_of_the_drain_streams_get_an_error_event() {
    let mut pair = Pair::start(DROP_IN, "{}").await;
    pair.control
        .add_rule(&Rule { script: Script { chunks: Some(2000), gap_ms: 20, ..Script::default() }, ..Rule::default() })
        .await
        .unwrap();
    let response = pair.post(CHAT, &chat(json!({"stream": true}))).send().await.unwrap();
    let drained = tokio::spawn(pair.serving.take().unwrap().drain());
    let text = response.text().await.unwrap();
    let last = text.trim_end().rsplit("\n\n").next().unwrap();
    assert!(last.contains("shutting_down"), "{last}");
    tokio::time::timeout(Duration::from_secs(10), drained).await.expect("the drain does not end").unwrap();
}

#[tokio::test]
async fn usage_is_counted_on_both_arms_even_where_the_answer_is_compressed() {
    for migration in [DROP_IN, BASELINE] {
        let pair = Pair::start(migration, "{}").await;
        for stream in [false, true] {
            let script = json!({"usage": {"input": 7, "output": 11}});
            let body = chat(json!({"stream": stream, "stream_options": {"include_usage": true},
                "messages": [{"role": "user", "content": format!("[[fake {script}]]")}]}));
            let response = pair.post(CHAT, &body).header("accept-encoding", "gzip").send().await.unwrap();
            assert_eq!(response.status(), 200);
            response.bytes().await.unwrap();
        }
        let text = Metrics::new(pair.shared.gatherer.clone(), Default::default).render().await;
        for (name, tokens) in [("bifrost_input_tokens_total", 7), ("bifrost_output_tokens_total", 11)] {
            let lines: Vec<_> = text.lines().filter(|line| line.starts_with(name)).collect();
            assert_eq!(lines.len(), 2, "{migration}: {text}");
            assert!(lines.iter().all(|line| line.ends_with(&format!(" {tokens}"))), "{lines:?}");
        }
    }
}
