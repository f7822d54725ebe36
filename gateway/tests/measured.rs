//! What requests say of their arm, by providers and clients on raw sockets.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[expect(dead_code, reason = "the helpers for the fake provider")]
mod support;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bifrost_analysis::{Arm, Failure, GroupSums};
use bifrost_gateway::server::{Serving, Shared};
use bifrost_gateway::telemetry::Comparison;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

const ARMS: [(Arm, &str); 2] = [
    (Arm::Baseline, r#"{"strategy":"Canary","canaryPercent":0}"#),
    (Arm::Bifrost, r#"{"strategy":"Canary","canaryPercent":100}"#),
];
const PATIENCE: Duration = Duration::from_secs(10);

/// A gateway in front of a provider on raw sockets, under one arm.
struct Measured {
    arm: Arm,
    shared: Arc<Shared>,
    serving: Serving,
}

impl Measured {
    /// `answer` gets each connection with the one request that was read from it.
    async fn start<F: Future<Output = ()> + Send + 'static>(
        (arm, migration): (Arm, &str),
        answer: impl Fn(TcpStream, String) -> F + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answer = Arc::new(answer);
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let answer = answer.clone();
                tokio::spawn(async move {
                    if let Some(request) = read_request(&mut stream).await {
                        answer(stream, request).await;
                    }
                });
            }
        });
        let (shared, serving) = support::gateway(&support::config(address, migration, "{}")).await;
        Self { arm, shared, serving }
    }

    /// A client that has sent this.
    async fn send(&self, text: &str) -> TcpStream {
        let mut client = TcpStream::connect(self.serving.address).await.unwrap();
        client.write_all(text.as_bytes()).await.unwrap();
        client
    }

    /// The sums of the arm, once it has so many requests.
    async fn counted(&self, requests: u32) -> Vec<GroupSums> {
        let counted = async {
            loop {
                let window = self.shared.gatherer.window(Comparison::Arms).await.window;
                let stats = window.strata().iter().filter_map(|stratum| stratum.arm(self.arm));
                let sums: Vec<_> = stats.flat_map(|stats| stats.groups.iter().copied()).collect();
                if sums.iter().map(|sums| sums.requests).sum::<u32>() >= requests {
                    return sums;
                }
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, counted).await.expect("it is not counted")
    }
}

/// Reads a request's head and a body of its declared length.
async fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut text = Vec::new();
    let mut chunk = [0; 8192];
    loop {
        let n = stream.read(&mut chunk).await.ok().filter(|n| *n > 0)?;
        text.extend_from_slice(&chunk[..n]);
        let shown = String::from_utf8_lossy(&text).to_ascii_lowercase();
        let Some((head, body)) = shown.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        if body.len() >= length.unwrap_or(0) {
            return Some(shown);
        }
    }
}

fn head(path: &str, kind: &str, length: usize) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer sk-client-key\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n"
    )
}

#[tokio::test]
async fn the_time_of_a_streamed_body_is_not_the_answers() {
    const UPLOAD: Duration = Duration::from_millis(600);
    for arm in ARMS {
        let measured = Measured::start(arm, async |mut stream: TcpStream, _| {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
        })
        .await;
        let start = head("/openai/v1/audio/transcriptions", "multipart/form-data; boundary=b", 8) + "1234";
        let mut client = measured.send(&start).await;
        tokio::time::sleep(UPLOAD).await;
        client.write_all(b"5678").await.unwrap();
        let sums = measured.counted(1).await;
        let latency: f64 = sums.iter().map(|sums| sums.latency.sum).sum();
        assert!(latency.exp() < UPLOAD.as_secs_f64() * 1e3, "{} ms", latency.exp());
        assert!(sums.iter().all(|sums| sums.failed(&Failure::ALL) == 0));
    }
}

/// A chat request for a stream; `more` are members of its body.
fn chat_stream(more: &str) -> String {
    let body = format!(r#"{{"model":"m","stream":true,"messages":[]{more}}}"#);
    head("/openai/v1/chat/completions", "application/json", body.len()) + &body
}

const SSE: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n";
const OUTPUT: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"}}]}\n\n";
const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":11}}\n\n";
const DONE: &str = "data: [DONE]\n\n";

/// A head and a body of a declared length.
fn whole(head: &str, body: &str) -> String {
    format!("{head}content-length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn tokens_count_where_the_client_asked_for_them_on_both_arms() {
    for arm in ARMS {
        let measured = Measured::start(arm, async |mut stream: TcpStream, request: String| {
            let usage = if request.contains("include_usage") { USAGE } else { "" };
            let _ = stream.write_all(whole(SSE, &[OUTPUT, usage, DONE].concat()).as_bytes()).await;
        })
        .await;
        let _plain = measured.send(&chat_stream("")).await;
        measured.counted(1).await;
        let _asking = measured.send(&chat_stream(r#","stream_options":{"include_usage":true}"#)).await;
        let sums = measured.counted(2).await;
        let of = |number: &dyn Fn(&GroupSums) -> u64| sums.iter().map(number).sum::<u64>();
        assert_eq!([of(&|sums| sums.usage.n.into()), of(&|sums| sums.usage.output)], [1, 11], "{:?}", measured.arm);
        assert_eq!([of(&|sums| sums.empty.n.into()), of(&|sums| sums.empty.bad.into())], [2, 0]);
    }
}

#[tokio::test]
async fn a_plain_answer_to_a_stream_names_its_tokens_unasked() {
    for arm in ARMS {
        let measured = Measured::start(arm, async |mut stream: TcpStream, _| {
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
            let body = r#"{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":0}}"#;
            let _ = stream.write_all(whole(head, body).as_bytes()).await;
        })
        .await;
        let _client = measured.send(&chat_stream("")).await;
        let sums = measured.counted(1).await;
        let of = |number: &dyn Fn(&GroupSums) -> u64| sums.iter().map(number).sum::<u64>();
        assert_eq!([of(&|sums| sums.usage.n.into()), of(&|sums| sums.usage.input)], [1, 7], "{:?}", measured.arm);
    }
}

/// The failures of an arm, by class.
fn failures(sums: &[GroupSums]) -> Vec<(Failure, u64)> {
    let of = |class| sums.iter().map(|sums| sums.failed(&[class])).sum::<u64>();
    Failure::ALL.into_iter().map(|class| (class, of(class))).filter(|(_, n)| *n > 0).collect()
}

fn requests(sums: &[GroupSums]) -> u32 {
    sums.iter().map(|sums| sums.requests).sum()
}

#[tokio::test]
async fn streams_that_nobody_can_look_into_count_on_neither_arm() {
    for arm in ARMS {
        let measured = Measured::start(arm, async |mut stream: TcpStream, request: String| {
            let (packed, broken) = (request.contains("packed"), request.contains("broken"));
            let head = format!("{SSE}content-encoding: {}\r\n", if packed { "br" } else { "identity" });
            let head = if broken { format!("{head}content-length: 1000\r\n\r\n") } else { whole(&head, DONE) };
            let _ = stream.write_all(head.as_bytes()).await;
        })
        .await;
        for more in [r#","user":"packed""#, r#","user":"packed broken""#, r#","user":"plain broken""#, ""] {
            let mut client =
                measured.send(&chat_stream(more).replace("\r\nhost", "\r\nconnection: close\r\nhost")).await;
            let _ = client.read_to_end(&mut Vec::new()).await;
        }
        let sums = measured.counted(2).await;
        assert_eq!((requests(&sums), failures(&sums)), (2, vec![(Failure::BrokenStream, 1)]), "{:?}", measured.arm);
    }
}

#[tokio::test]
async fn a_stream_that_ends_with_its_connection_is_whole_with_its_last_event_only() {
    for arm in ARMS {
        for (rest, failed) in [(DONE, vec![]), ("data: [DONE]", vec![]), ("", vec![(Failure::BrokenStream, 1)])] {
            let measured = Measured::start(arm, move |mut stream: TcpStream, _| async move {
                let _ = stream.write_all(format!("{SSE}\r\n{OUTPUT}{rest}").as_bytes()).await;
            })
            .await;
            let mut client = measured.send(&chat_stream("").replace("\r\nhost", "\r\nconnection: close\r\nhost")).await;
            let mut answer = String::new();
            let _ = client.read_to_string(&mut answer).await;
            assert!(answer.contains("Hi"), "{answer}");
            let sums = measured.counted(1).await;
            assert_eq!(failures(&sums), failed, "{:?} {rest}", measured.arm);
        }
    }
}

#[tokio::test]
async fn what_came_before_the_client_left_counts() {
    const ERROR: &str = "data: {\"error\":{\"message\":\"no more\",\"type\":\"server_error\"}}\n\n";
    for arm in ARMS {
        // None of these answers has an end.
        let measured = Measured::start(arm, async |mut stream: TcpStream, request: String| {
            let refused = "HTTP/1.1 503 Busy\r\ncontent-length: 1000\r\n\r\nbusy";
            let event = |last: &str| format!("{SSE}content-length: 1000\r\n\r\n{OUTPUT}{last}");
            let answer = match request.split("kind-").nth(1).unwrap() {
                kind if kind.starts_with("refused") => refused.to_owned(),
                kind if kind.starts_with("error") => event(ERROR),
                kind if kind.starts_with("done") => event(&[USAGE, DONE].concat()),
                _ => event(""),
            };
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.read(&mut [0]).await;
        })
        .await;
        let kinds = [("nothing", "Hi"), ("refused", "busy"), ("error", "no more"), ("done", "[DONE]")];
        for (kind, shown) in kinds {
            let more = format!(r#","user":"kind-{kind}","stream_options":{{"include_usage":true}}"#);
            let mut client = measured.send(&chat_stream(&more)).await;
            let mut answer = Vec::new();
            while !String::from_utf8_lossy(&answer).contains(shown) {
                let mut chunk = [0; 4096];
                let n = timeout(PATIENCE, client.read(&mut chunk)).await.expect("it does not come").unwrap();
                assert!(n > 0, "{kind} {:?}", measured.arm);
                answer.extend_from_slice(&chunk[..n]);
            }
        }
        let sums = measured.counted(3).await;
        let told = [(Failure::Upstream5xx, 1), (Failure::BrokenStream, 1)];
        assert_eq!((requests(&sums), failures(&sums)), (3, told.to_vec()), "{:?}", measured.arm);
        assert_eq!(sums.iter().map(|sums| sums.usage.output).sum::<u64>(), 11);
    }
}
