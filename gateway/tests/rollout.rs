//! A rollout's candidate: its own configuration in the same pod, and pods of its own that requests are forwarded to.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bifrost_analysis::{Arm, Failure};
use bifrost_config::published::Rollout;
use bifrost_fake_provider::{Record, RecordQuery};
use bifrost_gateway::admin::reach::Reach;
use bifrost_gateway::server::{Serving, Shared};
use bifrost_gateway::snapshot::{Parts, Snapshot};
use bifrost_gateway::telemetry::Comparison;
use bifrost_gateway::upstream::tls::TlsRoots;
use serde_json::{Value, json};
use support::{CLIENT_KEY, POOL_KEY, Pair, config, parts, pod};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;

const CHAT: &str = "/openai/v1/chat/completions";
const BODY: &str = r#"{"model":"gpt-4o-mini","messages":[{"role":"user","content":"test"}]}"#;
const DROP_IN: &str = r#"{"strategy":"DropIn"}"#;
const BASELINE: &str = r#"{"strategy":"Canary","canaryPercent":0}"#;
const PATIENCE: Duration = Duration::from_secs(10);

fn rollout(percent: u8) -> Rollout {
    Rollout {
        revision: "next".into(),
        config: None,
        percent,
        since: 1,
        salt: "llm/ai/next".into(),
        forward: None,
        preview: false,
    }
}

/// The stable pod's parts with a rollout.
fn with(parts: &Parts, rollout: Rollout) -> Parts {
    let mut parts = parts.clone();
    parts.traffic.rollout = Some(rollout);
    parts
}

impl Pair {
    fn parts(&self) -> Parts {
        self.shared.current.load_full().unwrap().parts.clone()
    }

    /// Takes other parts into use, as a store does.
    fn take(&self, mut parts: Parts) {
        parts.traffic.epoch = self.parts().traffic.epoch + 1;
        let since = parts.traffic.rollout.as_ref().map_or(0, |rollout| rollout.since);
        self.shared.gatherer.mark(Comparison::Revisions, since);
        self.shared.current.store(Some(Snapshot::build(parts, &TlsRoots::with_file(None).unwrap()).unwrap()));
    }

    /// Sends this share to pods at this address.
    fn forward_to(&self, percent: u8, address: SocketAddr) {
        let rollout = Rollout { forward: Some(format!("http://{address}")), ..rollout(percent) };
        self.take(with(&self.parts(), rollout));
    }

    /// Sends everything to a pod of the candidate, which has the same configuration.
    async fn with_candidate(migration: &str) -> (Self, Arc<Shared>, Serving) {
        let pair = Self::start(migration, "{}").await;
        let (shared, serving) = pod(with(&pair.parts(), rollout(100)), Some("next")).await;
        pair.forward_to(100, serving.forward.unwrap());
        (pair, shared, serving)
    }

    /// Requests and failures of the stable revision and of the candidate, once there are so many in all.
    async fn compared(&self, requests: u64) -> [(u64, Vec<Failure>); 2] {
        let counted = async {
            loop {
                let window = self.shared.gatherer.window(Comparison::Revisions).await.window;
                let sides = [Arm::Baseline, Arm::Bifrost];
                if sides.map(|side| window.requests(side)).iter().sum::<u64>() < requests {
                    tokio::task::yield_now().await;
                    continue;
                }
                return sides.map(|side| {
                    let stats = window.strata().iter().filter_map(|stratum| stratum.arm(side));
                    let groups: Vec<_> = stats.flat_map(|stats| stats.groups.iter().copied()).collect();
                    let failed = |class: &Failure| groups.iter().any(|group| group.failed(&[*class]) > 0);
                    (window.requests(side), Failure::ALL.into_iter().filter(failed).collect())
                });
            }
        };
        timeout(PATIENCE, counted).await.expect("they are not counted")
    }

    async fn records(&self) -> Vec<Record> {
        self.control.records(&RecordQuery::default()).await.unwrap()
    }
}

/// Status, revision and arm of an answer.
fn told(response: &reqwest::Response) -> (u16, String, String) {
    let header = |name: &str| {
        let lines: Vec<_> = response.headers().get_all(name).iter().map(|value| value.to_str().unwrap()).collect();
        assert!(lines.len() < 2, "{name}: {lines:?}");
        lines.concat()
    };
    (response.status().as_u16(), header("x-bf-revision"), header("x-bf-arm"))
}

async fn ask(request: reqwest::RequestBuilder) -> (u16, String, String) {
    told(&request.send().await.unwrap())
}

fn by(status: u16, revision: &str, arm: &str) -> (u16, String, String) {
    (status, revision.to_owned(), arm.to_owned())
}

async fn code(request: reqwest::RequestBuilder) -> (u16, String) {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let error: Value = response.json().await.unwrap();
    (status, error["error"]["code"].as_str().unwrap().to_owned())
}

/// A server on raw sockets; `serve` gets each connection.
async fn server<F: Future<Output = ()> + Send + 'static>(
    serve: impl Fn(TcpStream) -> F + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    address
}

/// An address at which nobody listens.
async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// Reads until the text has this in it.
async fn read_until(stream: &mut TcpStream, text: &mut String, end: &str) {
    while !text.contains(end) {
        let mut chunk = [0; 8192];
        let read = timeout(PATIENCE, stream.read(&mut chunk)).await.expect("it does not come").unwrap();
        assert!(read > 0, "it ends before {end:?}: {text}");
        text.push_str(&String::from_utf8_lossy(&chunk[..read]));
    }
}

#[tokio::test]
async fn the_candidates_share_of_users_is_served_under_its_configuration() {
    let pair = Pair::start(BASELINE, "{}").await;
    let provider = bifrost_fake_provider::start(Default::default()).await.unwrap();
    let control = bifrost_fake_provider::Control::new(provider.control);
    let tried = parts(&config(provider.http.unwrap(), DROP_IN, "{}")).config;
    pair.take(Parts { tried: Some(Ok(tried)), ..with(&pair.parts(), rollout(30)) });
    let mut candidates = 0;
    for round in 0..2 {
        for user in 0..20 {
            let body = json!({"model": "gpt-4o-mini", "user": format!("u-{user}"), "messages": []}).to_string();
            let (status, revision, arm) = ask(pair.post(CHAT, &body)).await;
            assert_eq!((status, arm.as_str()), (200, "baseline"));
            candidates += usize::from(revision == "next");
            assert_eq!(control.records(&RecordQuery::default()).await.unwrap().len(), candidates, "{round} {user}");
        }
    }
    assert!(candidates > 2 && candidates < 24 && candidates.is_multiple_of(2), "{candidates}");
    let [stable, candidate] = pair.compared(40).await;
    assert_eq!((stable, candidate), ((40 - candidates as u64, vec![]), (candidates as u64, vec![])));
    // The comparison of the arms, and the seen share, are about the stable revision alone.
    let arms = pair.shared.gatherer.window(Comparison::Arms).await.window;
    assert_eq!(arms.requests(Arm::Baseline), 40 - candidates as u64);
    assert_eq!(pair.shared.gatherer.eligible().await.baseline, 40 - candidates as u64);
}

#[tokio::test]
async fn a_candidate_that_refuses_everything_is_seen() {
    let pair = Pair::start(DROP_IN, "{}").await;
    let mut tried = pair.parts().config;
    tried.keys.clear();
    pair.take(Parts { tried: Some(Ok(tried)), ..with(&pair.parts(), rollout(100)) });
    assert_eq!(ask(pair.post(CHAT, BODY)).await, by(503, "next", "bifrost"));
    assert_eq!(pair.compared(1).await, [(0, vec![]), (1, vec![Failure::Gateway])]);
}

#[tokio::test]
async fn each_revision_has_its_own_limit_of_bodies() {
    let pair = Pair::start(DROP_IN, r#"{"max_request_body_size_mb":1}"#).await;
    let mut tried = pair.parts().config;
    tried.client.max_request_body = 2 << 20;
    let large = json!({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "x".repeat(1_500_000)}]});
    for (percent, revision, status) in [(0, "test", 413), (100, "next", 200)] {
        pair.take(Parts { tried: Some(Ok(tried.clone())), ..with(&pair.parts(), rollout(percent)) });
        assert_eq!(ask(pair.post(CHAT, &large.to_string())).await.0, status, "{revision}");
        assert_eq!(ask(pair.post(CHAT, BODY)).await, by(200, revision, "bifrost"));
    }
    let huge = json!({"model": "gpt-4o-mini", "messages": "x".repeat(3_000_000)}).to_string();
    assert_eq!(code(pair.post(CHAT, &huge)).await, (413, "body_too_large".to_owned()));
}

#[tokio::test]
async fn a_candidate_that_cannot_be_used_gets_nobody() {
    let pair = Pair::start(DROP_IN, "{}").await;
    let shown = Rollout { preview: true, ..rollout(100) };
    pair.take(Parts { tried: Some(Err("it is missing".into())), ..with(&pair.parts(), shown) });
    assert_eq!(ask(pair.post(CHAT, BODY)).await, by(200, "test", "bifrost"));
    let preview = format!("http://{}{CHAT}", pair.serving.as_ref().unwrap().preview.unwrap());
    assert_eq!(code(pair.client.post(preview).body(BODY)).await, (503, "no_preview".to_owned()));
}

#[tokio::test]
async fn the_preview_serves_the_candidate_on_both_arms() {
    let pair = Pair::start(BASELINE, "{}").await;
    let shown = Rollout { preview: true, ..rollout(0) };
    pair.take(with(&pair.parts(), shown));
    let preview = format!("http://{}{CHAT}", pair.serving.as_ref().unwrap().preview.unwrap());
    let post = || pair.client.post(&preview).header("content-type", "application/json").body(BODY);
    assert_eq!(ask(post().bearer_auth(CLIENT_KEY)).await, by(200, "next", "baseline"));
    assert_eq!(ask(post()).await, by(200, "next", "bifrost"));
    assert_eq!(ask(pair.post(CHAT, BODY)).await, by(200, "test", "baseline"));
    assert_eq!(pair.compared(3).await, [(1, vec![]), (2, vec![])]);

    // Nobody takes the stable revision for the candidate.
    let forward = Some(format!("http://{}", nobody().await));
    pair.take(with(&pair.parts(), Rollout { forward, preview: true, ..rollout(0) }));
    assert_eq!(code(post()).await, (503, "candidate_failed".to_owned()));
}

#[tokio::test]
async fn a_forwarded_request_is_served_as_if_it_had_come_to_the_candidate() {
    let (pair, candidate, serving) = Pair::with_candidate(BASELINE).await;
    let body = "{ \"model\" :\"gpt-4o-mini\", \"messages\":[] }";
    let request = pair.post("/openai/chat/completions?x=1&y=%20", body);
    let request = request.header("cookie", "a=b").header("x-bf-rollout", "mine").header("x-bf-session-id", "s");
    let response = request.header("accept-encoding", "gzip").header("expect", "100-continue").send().await.unwrap();
    assert_eq!(told(&response), by(200, "next", "baseline"));
    assert_eq!(response.headers()["content-encoding"], "gzip");
    assert!(response.headers().contains_key("set-cookie") && response.headers().contains_key("x-bf-arm-reason"));
    assert!(!response.headers().contains_key("x-bf-overhead"));
    let record = pair.only_record().await;
    assert_eq!((record.key.as_deref(), record.body.as_str()), (Some(CLIENT_KEY), body));
    assert_eq!((record.path.as_str(), record.query.as_deref()), ("/v1/chat/completions", Some("x=1&y=%20")));
    assert_eq!((record.header("cookie"), record.header("accept-encoding")), (Some("a=b"), Some("gzip")));
    assert!(record.header("x-bf-rollout").is_none() && record.header("expect").is_none());

    // Without a credential of its own it takes the other arm there, and a stream passes as it is.
    let stream = BODY.replacen('{', r#"{"stream":true,"#, 1);
    let request = pair.client.post(format!("{}{CHAT}", pair.base)).header("content-type", "application/json");
    let response = request.body(stream).send().await.unwrap();
    assert_eq!(told(&response), by(200, "next", "bifrost"));
    let text = response.text().await.unwrap();
    assert!(text.trim_end().ends_with("data: [DONE]") && !text.contains("\"usage\":{"), "{text}");
    assert_eq!(pair.records().await[1].key.as_deref(), Some(POOL_KEY));
    assert_eq!(ask(pair.client.get(format!("{}/openai/v1/models", pair.base))).await, by(200, "next", "bifrost"));

    assert_eq!(pair.compared(3).await, [(0, vec![]), (3, vec![])]);
    // The time in the gateway is the candidate's own.
    let window = pair.shared.gatherer.window(Comparison::Revisions).await.window;
    let groups = window.strata().iter().flat_map(|stratum| stratum.arm(Arm::Bifrost).unwrap().groups.iter());
    assert_eq!(groups.map(|group| group.overhead.n).sum::<u32>(), 3);
    for shared in [&pair.shared, &candidate] {
        assert!(shared.gatherer.window(Comparison::Arms).await.window.strata().is_empty());
        assert_eq!(shared.gatherer.eligible().await.baseline, 0);
    }
    assert!(candidate.gatherer.window(Comparison::Revisions).await.window.strata().is_empty());
    drop(serving);
}

#[tokio::test]
async fn refusals_of_a_candidates_pods_pass_and_count_as_its_own() {
    let pair = Pair::start(DROP_IN, "{}").await;
    let mut tried = pair.parts();
    tried.config.keys.clear();
    let (_candidate, serving) = pod(with(&tried, rollout(100)), Some("next")).await;
    pair.forward_to(100, serving.forward.unwrap());
    assert_eq!(ask(pair.post(CHAT, BODY)).await, by(503, "next", "bifrost"));
    assert_eq!(pair.compared(1).await, [(0, vec![]), (1, vec![Failure::Gateway])]);
    assert_eq!(code(pair.post(CHAT, "no JSON")).await, (400, "invalid_body".to_owned()));
    assert_eq!(pair.compared(2).await[1], (2, vec![Failure::ClientError, Failure::Gateway]));
}

/// A server that answers every request with this head and nothing else.
async fn answers(head: &'static str) -> SocketAddr {
    let serve = move |mut stream| async move {
        read_until(&mut stream, &mut String::new(), "\r\n\r\n").await;
        stream.write_all(format!("HTTP/1.1 {head}\r\ncontent-length: 0\r\n\r\n").as_bytes()).await.unwrap();
    };
    server(serve).await
}

/// One that reads a request and leaves.
async fn dies() -> SocketAddr {
    server(async |mut stream: TcpStream| read_until(&mut stream, &mut String::new(), "\r\n\r\n").await).await
}

#[tokio::test]
async fn what_the_candidates_pods_do_not_take_is_served_here() {
    let busy = "503 x\r\nx-bf-revision: next\r\nx-bf-error-code: overloaded";
    let ends = "503 x\r\nx-bf-revision: next\r\nx-bf-error-code: shutting_down";
    for address in [
        nobody().await,
        dies().await,
        answers("421 x\r\nx-bf-error-code: wrong_revision").await,
        answers(busy).await,
        answers(ends).await,
        // Of something between the pods.
        answers("503 x").await,
    ] {
        let pair = Pair::start(DROP_IN, "{}").await;
        pair.forward_to(100, address);
        assert_eq!(ask(pair.post(CHAT, BODY)).await, by(200, "test", "bifrost"));
        assert_eq!(pair.only_record().await.body, BODY);
        assert_eq!(pair.compared(1).await, [(0, vec![]), (1, vec![Failure::Gateway])]);
        assert!(pair.shared.gatherer.window(Comparison::Arms).await.window.strata().is_empty());
    }
}

/// One that takes a request, says this at once, and nothing more until the time is over; then it answers.
async fn slow(first: &'static str, time: Duration) -> SocketAddr {
    let serve = move |mut stream| async move {
        read_until(&mut stream, &mut String::new(), "\r\n\r\n").await;
        stream.write_all(first.as_bytes()).await.unwrap();
        tokio::time::sleep(time).await;
        let answer = "HTTP/1.1 200 OK\r\nx-bf-revision: next\r\nx-bf-arm: bifrost\r\ncontent-length: 0\r\n\r\n";
        // Whoever waited for it may have left.
        let _ = stream.write_all(answer.as_bytes()).await;
    };
    server(serve).await
}

#[tokio::test]
async fn what_no_pod_begins_with_is_served_here_and_what_takes_its_time_is_waited_for() {
    let longer = Duration::from_secs(7);
    let of = async |address| {
        let pair = Pair::start(DROP_IN, "{}").await;
        pair.forward_to(100, address);
        pair
    };
    let (hanging, begun) =
        (of(slow("", longer).await).await, of(slow("HTTP/1.1 100 Continue\r\n\r\n", longer).await).await);
    let stored = hanging.post("/openai/v1/responses", r#"{"model":"gpt-4o-mini","input":"test"}"#);
    let (taken_back, given_up, served) =
        tokio::join!(ask(hanging.post(CHAT, BODY)), code(stored), ask(begun.post(CHAT, BODY)));
    assert_eq!(taken_back, by(200, "test", "bifrost"));
    assert_eq!(given_up, (502, "upstream_broken".to_owned()));
    assert_eq!(served, by(200, "next", "bifrost"));
    assert_eq!((hanging.only_record().await.body.as_str(), begun.records().await.len()), (BODY, 0));
    assert_eq!(hanging.compared(2).await, [(0, vec![]), (2, vec![Failure::Gateway])]);
}

#[tokio::test]
async fn what_may_have_been_carried_out_is_not_carried_out_again() {
    let pair = Pair::start(DROP_IN, "{}").await;
    pair.forward_to(100, dies().await);
    let stored = r#"{"model":"gpt-4o-mini","input":"test"}"#;
    let responses = || pair.post("/openai/v1/responses", stored);
    let delete = || pair.client.delete(format!("{}/openai/v1/files/file-1", pair.base)).bearer_auth(CLIENT_KEY);
    for request in [responses(), delete()] {
        let response = request.send().await.unwrap();
        assert_eq!(response.headers()["x-should-retry"], "false");
        assert_eq!(
            (response.status().as_u16(), &response.headers()["x-bf-error-code"] == "upstream_broken"),
            (502, true)
        );
    }
    assert!(pair.records().await.is_empty());
    // One that nobody took was not carried out.
    pair.forward_to(100, nobody().await);
    assert_eq!(ask(responses()).await.0, 200);
    assert_eq!(pair.records().await.len(), 1);
}

#[tokio::test]
async fn a_pod_of_the_candidate_serves_on_while_others_have_not_heard_that_it_was_taken_back() {
    let (pair, candidate, serving) = Pair::with_candidate(DROP_IN).await;
    assert_eq!(ask(pair.post(CHAT, BODY)).await, by(200, "next", "bifrost"));
    let taken_back = Parts { tried: None, ..pair.parts() };
    let mut taken_back = with(&taken_back, rollout(100));
    taken_back.traffic.rollout = None;
    candidate.current.store(Some(Snapshot::build(taken_back, &TlsRoots::with_file(None).unwrap()).unwrap()));
    assert_eq!(ask(pair.post(CHAT, BODY)).await, by(200, "next", "bifrost"));
    drop(serving);
}

#[tokio::test]
async fn a_body_that_is_streamed_is_served_here_as_long_as_nothing_of_it_was_sent() {
    const FORM: &str = "/openai/v1/audio/transcriptions";
    let form = "--b\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n--b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\ntest\r\n--b--\r\n";
    let pair = Pair::start(DROP_IN, "{}").await;
    let post = || pair.post(FORM, form).header("content-type", "multipart/form-data; boundary=b");
    pair.forward_to(100, nobody().await);
    let (status, revision, _) = ask(post()).await;
    assert_eq!((status < 500, revision.as_str()), (true, "test"));
    assert_eq!(pair.records().await.len(), 1);
    let (candidate, serving) = pod(with(&pair.parts(), rollout(100)), Some("another")).await;
    pair.forward_to(100, serving.forward.unwrap());
    assert_eq!(code(post()).await, (503, "candidate_failed".to_owned()));
    assert_eq!(pair.records().await.len(), 1);
    drop((candidate, serving));
}

#[tokio::test]
async fn only_a_pod_of_the_candidate_takes_what_is_forwarded() {
    let (pair, _candidate, serving) = Pair::with_candidate(DROP_IN).await;
    let stable = pair.serving.as_ref().unwrap().forward.unwrap();
    let post = |address: SocketAddr, revision: Option<&str>| {
        let request = pair.client.post(format!("http://{address}{CHAT}")).bearer_auth(CLIENT_KEY).body(BODY);
        revision.into_iter().fold(request, |request, revision| request.header("x-bf-rollout", revision))
    };
    let own = serving.forward.unwrap();
    for (address, revision) in [(stable, Some("next")), (stable, Some("test")), (own, Some("test")), (own, None)] {
        assert_eq!(code(post(address, revision)).await, (421, "wrong_revision".to_owned()), "{revision:?}");
    }
    assert_eq!(ask(post(own, Some("next"))).await, by(200, "next", "bifrost"));
    for (page, status) in [("/health", 421), ("/metrics", 404)] {
        assert_eq!(pair.client.get(format!("http://{own}{page}")).send().await.unwrap().status(), status);
    }
    // The header means nothing on the applications' port.
    pair.take(with(&pair.parts(), rollout(0)));
    assert_eq!(ask(post(pair.serving.as_ref().unwrap().address, Some("next"))).await, by(200, "test", "bifrost"));
    assert!(pair.records().await.iter().all(|record| record.header("x-bf-rollout").is_none()));
}

#[tokio::test]
async fn a_candidate_is_reached_where_its_own_pods_answer() {
    let older = "404 x\r\nx-bf-error-code: unknown_path";
    let wrong = "421 x\r\nx-bf-error-code: wrong_revision";
    let (pair, _candidate, serving) = Pair::with_candidate(DROP_IN).await;
    let reach = Reach::new(pair.shared.connector.clone());
    let reaches = async || {
        let snapshot = pair.shared.current.load_full().unwrap();
        let reached = reach.reached(Some(&snapshot)).await;
        assert_eq!(snapshot.tried.as_ref().unwrap().is_reached(reached), reached.is_some());
        reached.is_some()
    };
    let not_loaded = "503 x\r\nx-bf-revision: next\r\nx-bf-error-code: not_ready";
    for address in [nobody().await, dies().await, answers(wrong).await, answers(not_loaded).await] {
        pair.forward_to(0, address);
        assert!(!reaches().await, "{address}");
    }
    for address in [serving.forward.unwrap(), answers(older).await] {
        pair.forward_to(0, address);
        assert!(reaches().await, "{address}");
    }
    // A single pod of another candidate behind the same address is found out.
    let turn = AtomicU32::new(0);
    let mixed = server(move |mut stream| {
        let head = if turn.fetch_add(1, Ordering::Relaxed) % 4 == 3 { wrong } else { older };
        async move {
            read_until(&mut stream, &mut String::new(), "\r\n\r\n").await;
            stream.write_all(format!("HTTP/1.1 {head}\r\ncontent-length: 0\r\n\r\n").as_bytes()).await.unwrap();
        }
    });
    pair.forward_to(0, mixed.await);
    assert!(!reaches().await);
    // What was reached is not asked again, whatever becomes of it, as long as it is the same.
    let address = serving.forward.unwrap();
    pair.forward_to(0, address);
    assert!(reaches().await);
    serving.drain().await;
    pair.forward_to(50, address);
    assert!(reaches().await);
    pair.take(with(&pair.parts(), rollout(0)));
    assert_eq!(reach.reached(pair.shared.current.load_full().as_deref()).await, None);
    pair.forward_to(0, nobody().await);
    assert!(!reaches().await);
}

#[tokio::test]
async fn a_pod_of_the_candidate_forwards_to_nobody() {
    let pair = Pair::start(DROP_IN, "{}").await;
    let forward = Some(format!("http://{}", nobody().await));
    let (_candidate, serving) = pod(with(&pair.parts(), Rollout { forward, ..rollout(100) }), Some("next")).await;
    let post = |address: SocketAddr| {
        pair.client.post(format!("http://{address}{CHAT}")).header("x-bf-rollout", "next").body(BODY)
    };
    for address in [serving.address, serving.forward.unwrap()] {
        assert_eq!(ask(post(address)).await, by(200, "next", "bifrost"));
    }
}

const SSE: &str = "HTTP/1.1 200 OK\r\nx-bf-revision: next\r\nx-bf-arm: bifrost\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

/// An event as a chunk.
fn event(text: &str) -> String {
    let data = format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n");
    format!("{:x}\r\n{data}\r\n", data.len())
}

const END: &str = "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n";

fn stream_request() -> String {
    let body = r#"{"model":"m","stream":true,"messages":[]}"#;
    format!(
        "POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer sk-app\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[tokio::test]
async fn streams_are_not_cut_when_the_table_changes() {
    for forwarded in [false, true] {
        let (go_on, waits) = watch::channel(false);
        let provider = server(move |mut stream| {
            let mut waits = waits.clone();
            async move {
                read_until(&mut stream, &mut String::new(), "messages").await;
                stream.write_all((SSE.to_owned() + &event("one")).as_bytes()).await.unwrap();
                waits.wait_for(|go| *go).await.unwrap();
                stream.write_all((event("two") + END).as_bytes()).await.unwrap();
            }
        })
        .await;
        let pair = Pair::start(DROP_IN, "{}").await;
        let tried = parts(&config(provider, DROP_IN, "{}")).config;
        let next = Parts { tried: Some(Ok(tried)), ..with(&pair.parts(), rollout(100)) };
        let (_candidate, serving) = pod(next.clone(), Some("next")).await;
        match forwarded {
            true => pair.forward_to(100, serving.forward.unwrap()),
            false => pair.take(next),
        }
        let mut client = TcpStream::connect(pair.serving.as_ref().unwrap().address).await.unwrap();
        client.write_all(stream_request().as_bytes()).await.unwrap();
        let mut text = String::new();
        read_until(&mut client, &mut text, "one").await;
        let mut stable = pair.parts();
        (stable.tried, stable.traffic.rollout) = (None, None);
        pair.take(stable);
        assert_eq!(ask(pair.post(CHAT, BODY)).await, by(200, "test", "bifrost"));
        go_on.send(true).unwrap();
        read_until(&mut client, &mut text, "0\r\n\r\n").await;
        assert!(text.contains("x-bf-revision: next") && text.contains("two") && text.contains("[DONE]"), "{text}");
        // The connection of the client goes on.
        client.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        read_until(&mut client, &mut text, "components").await;
    }
}

#[tokio::test]
async fn a_candidates_pod_that_breaks_off_is_told_in_the_stream_and_counts() {
    let dies = server(async |mut stream: TcpStream| {
        read_until(&mut stream, &mut String::new(), "messages").await;
        stream.write_all((SSE.to_owned() + &event("one")).as_bytes()).await.unwrap();
    });
    let pair = Pair::start(DROP_IN, "{}").await;
    pair.forward_to(100, dies.await);
    let mut client = TcpStream::connect(pair.serving.as_ref().unwrap().address).await.unwrap();
    client.write_all(stream_request().as_bytes()).await.unwrap();
    let mut text = String::new();
    read_until(&mut client, &mut text, "upstream_stream_broken").await;
    assert!(text.contains("one") && !text.contains("[DONE]"), "{text}");
    assert_eq!(pair.compared(1).await, [(0, vec![]), (1, vec![Failure::BrokenStream])]);
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_forwarded_request() {
    let (left, mut leaves) = watch::channel(0);
    let waits = server(move |mut stream| {
        let left = left.clone();
        async move {
            read_until(&mut stream, &mut String::new(), "messages").await;
            left.send_modify(|steps| *steps += 1);
            while stream.read(&mut [0; 64]).await.is_ok_and(|read| read > 0) {}
            left.send_modify(|steps| *steps += 1);
        }
    });
    let pair = Pair::start(DROP_IN, "{}").await;
    pair.forward_to(100, waits.await);
    let mut client = TcpStream::connect(pair.serving.as_ref().unwrap().address).await.unwrap();
    client.write_all(stream_request().as_bytes()).await.unwrap();
    timeout(PATIENCE, leaves.wait_for(|steps| *steps == 1)).await.expect("it is not forwarded").unwrap();
    drop(client);
    timeout(PATIENCE, leaves.wait_for(|steps| *steps == 2)).await.expect("it goes on").unwrap();
    assert!(pair.records().await.is_empty());
}
