//! What an upstream that is not the fake provider may do to the relay: byte for byte on raw sockets.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[expect(dead_code, reason = "the helpers for the fake provider")]
mod support;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bifrost_gateway::server::Serving;
use bifrost_gateway::server::Shared;
use bifrost_gateway::server::drain::Stage;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

const DROP_IN: &str = r#"{"strategy":"DropIn"}"#;
const BASELINE: &str = r#"{"strategy":"Canary","canaryPercent":0}"#;
const CHAT: &str = r#"{"model":"m","messages":[]}"#;
const STREAM: &str = r#"{"model":"m","messages":[],"stream":true,"stream_options":{"include_usage":true}}"#;

/// A provider on raw sockets; `serve` gets each connection and its number.
async fn provider<F: Future<Output = ()> + Send + 'static>(
    serve: impl Fn(TcpStream, usize) -> F + Send + 'static,
) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(serve(stream, counted.fetch_add(1, Ordering::SeqCst)));
        }
    });
    (address, count)
}

async fn gateway(provider: SocketAddr, migration: &str) -> (Arc<Shared>, Serving) {
    support::gateway(&support::config(provider, migration, "{}")).await
}

/// Reads one request: its head and a body of its declared length.
async fn request(stream: &mut TcpStream) -> Option<String> {
    let mut text = Vec::new();
    loop {
        let mut chunk = [0; 8192];
        let n = stream.read(&mut chunk).await.ok().filter(|n| *n > 0)?;
        text.extend_from_slice(&chunk[..n]);
        let shown = String::from_utf8_lossy(&text).into_owned();
        let Some((head, body)) = shown.split_once("\r\n\r\n") else { continue };
        let length = head
            .to_ascii_lowercase()
            .lines()
            .find_map(|l| l.strip_prefix("content-length: ").map(|v| v.parse::<usize>().unwrap()));
        if body.len() >= length.unwrap_or(0) {
            return Some(shown);
        }
    }
}

fn post(path: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer sk-client-key\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn chat() -> String {
    post("/openai/v1/chat/completions", CHAT)
}

/// What comes within a time, or until the end. The flag says whether the peer closed.
async fn read_for(stream: &mut TcpStream, time: Duration) -> (String, bool) {
    let mut text = Vec::new();
    let closed = timeout(time, async {
        let mut chunk = [0; 65536];
        loop {
            match stream.read(&mut chunk).await {
                Ok(0) | Err(_) => break,
                Ok(n) => text.extend_from_slice(&chunk[..n]),
            }
        }
    })
    .await
    .is_ok();
    (String::from_utf8_lossy(&text).into_owned(), closed)
}

const SHORT: Duration = Duration::from_millis(400);

/// Serves every request of a connection with the same bytes.
async fn answer_all(mut stream: TcpStream, answer: &'static str) {
    while request(&mut stream).await.is_some() {
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
}

/// What a client gets from a provider that gives this answer and closes the connection, and whether its own is closed then.
async fn chat_with_one_that_says_and_closes(answer: String, time: Duration) -> (String, bool) {
    let (address, _) = provider(move |mut s, _| {
        let answer = answer.clone();
        async move {
            request(&mut s).await;
            s.write_all(answer.as_bytes()).await.unwrap();
        }
    })
    .await;
    let (_s, serving) = gateway(address, DROP_IN).await;
    let mut client = TcpStream::connect(serving.address).await.unwrap();
    client.write_all(chat().as_bytes()).await.unwrap();
    read_for(&mut client, time).await
}

#[tokio::test]
async fn a_length_beside_chunks_does_not_cut_the_answer() {
    let (address, _) = provider(|s, _| answer_all(s, "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n8\r\n{\"a\":12}\r\n0\r\n\r\n")).await;
    let (_s, serving) = gateway(address, DROP_IN).await;
    let mut client = TcpStream::connect(serving.address).await.unwrap();
    client.write_all(chat().as_bytes()).await.unwrap();
    let (text, _) = read_for(&mut client, SHORT).await;
    assert!(text.contains("{\"a\":12}"), "{text}");
}

#[tokio::test]
async fn a_stream_whose_end_is_only_the_connections_is_whole_only_with_its_last_event() {
    let error = "event: error\ndata: {\"error\":{\"message\":\"busy\"}}\n\n";
    for (rest, is_whole) in [("data: [DONE]\n\n", true), ("data: [DONE]\n", true), (error, true), ("", false)] {
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: {{\"a\":1}}\n\n{rest}");
        let (text, _) = chat_with_one_that_says_and_closes(answer, SHORT).await;
        assert!(text.contains("data: {\"a\":1}"), "{text}");
        assert_eq!(text.contains("upstream_stream_broken"), !is_whole, "{text}");
    }
}

#[tokio::test]
async fn a_request_of_no_bytes_says_so_where_a_body_is_the_rule() {
    for (method, length) in [("POST", true), ("GET", false)] {
        let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
        let (address, _) = provider(move |mut s, _| {
            let sender = sender.clone();
            async move {
                sender.send(request(&mut s).await.unwrap()).await.unwrap();
                s.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
            }
        })
        .await;
        let (_s, serving) = gateway(address, DROP_IN).await;
        let mut client = TcpStream::connect(serving.address).await.unwrap();
        let head = format!(
            "{method} /openai/v1/batches/b/cancel HTTP/1.1\r\nhost: x\r\nauthorization: Bearer k\r\ncontent-length: 0\r\n\r\n"
        );
        client.write_all(head.as_bytes()).await.unwrap();
        let seen = receiver.recv().await.unwrap().to_ascii_lowercase();
        assert_eq!(seen.contains("content-length: 0"), length, "{method}: {seen}");
    }
}

#[tokio::test]
async fn answers_without_a_body_keep_both_connections() {
    for (method, answer) in [
        ("HEAD", "HTTP/1.1 200 OK\r\ncontent-length: 123\r\n\r\n"),
        ("GET", "HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\n"),
        ("GET", "HTTP/1.1 304 Not Modified\r\ncontent-length: 7\r\n\r\n"),
        ("GET", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
        ("HEAD", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-type: text/event-stream\r\n\r\n"),
        ("GET", "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
    ] {
        let (address, connections) = provider(move |s, _| answer_all(s, answer)).await;
        let (_s, serving) = gateway(address, DROP_IN).await;
        let mut client = TcpStream::connect(serving.address).await.unwrap();
        for _ in 0..3 {
            client
                .write_all(format!("{method} /openai/v1/models HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes())
                .await
                .unwrap();
            let (text, closed) = read_for(&mut client, Duration::from_millis(150)).await;
            assert!(
                text.starts_with("HTTP/1.1 ") && text.ends_with("\r\n\r\n") && !closed,
                "{method} {answer}: {text}"
            );
            assert_eq!(text.matches("HTTP/1.1").count(), 1, "{text}");
        }
        assert_eq!(connections.load(Ordering::SeqCst), 1, "{method} {answer}");
    }
}

#[tokio::test]
async fn bytes_after_an_answer_never_answer_the_next_request() {
    let (address, _) = provider(|s, _| {
        answer_all(
            s,
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nsmuggled",
        )
    })
    .await;
    let (_s, serving) = gateway(address, DROP_IN).await;
    let mut client = TcpStream::connect(serving.address).await.unwrap();
    client.write_all(chat().repeat(20).as_bytes()).await.unwrap();
    let (text, _) = read_for(&mut client, Duration::from_secs(1)).await;
    assert!(!text.contains("smuggled"), "{text}");
    assert_eq!(text.matches("HTTP/1.1 200").count(), 20, "{text}");
}

#[tokio::test]
async fn a_body_that_ends_early_is_not_taken_for_whole() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n{\"a\":",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{\"a\":\r\n",
    ] {
        let (text, closed) = chat_with_one_that_says_and_closes(answer.to_owned(), Duration::from_secs(2)).await;
        assert!(closed && !text.ends_with("0\r\n\r\n"), "{text}");
    }
}

#[tokio::test]
async fn an_error_event_never_stands_within_an_event_on_the_baseline_arm() {
    let (address, _) = provider(|mut s, _| async move {
        request(&mut s).await;
        s.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n14\r\ndata: {\"a\":1}\n\ndata:\r\n").await.unwrap();
        std::future::pending::<()>().await;
    })
    .await;
    let (shared, serving) = gateway(address, BASELINE).await;
    let mut client = TcpStream::connect(serving.address).await.unwrap();
    client.write_all(post("/openai/v1/chat/completions", STREAM).as_bytes()).await.unwrap();
    let (text, _) = read_for(&mut client, Duration::from_millis(300)).await;
    assert!(text.contains("x-bf-arm: baseline"), "{text}");
    shared.drain.advance(Stage::Cutoff);
    let (text, closed) = read_for(&mut client, Duration::from_secs(3)).await;
    assert!(closed && !text.contains("shutting_down"), "{text}");
}

#[tokio::test]
async fn a_body_sent_and_gone_is_not_charged_for_the_whole_stream() {
    let (address, _) = provider(|mut s, _| async move {
        request(&mut s).await;
        s.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\nf\r\ndata: {\"a\":1}\n\n\r\n").await.unwrap();
        std::future::pending::<()>().await;
    })
    .await;
    let (shared, serving) = gateway(address, DROP_IN).await;
    let mut client = TcpStream::connect(serving.address).await.unwrap();
    let body = format!(r#"{{"model":"m","stream":true,"messages":["{}"]}}"#, "x".repeat(400_000));
    client.write_all(post("/openai/v1/chat/completions", &body).as_bytes()).await.unwrap();
    let (text, _) = read_for(&mut client, SHORT).await;
    assert!(text.contains("data: {"), "{text}");
    assert!(shared.budget.used() < 100_000, "{}", shared.budget.used());
}

#[tokio::test]
async fn a_refusal_with_an_unread_body_says_that_the_connection_ends() {
    let (address, _) = provider(|s, _| answer_all(s, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")).await;
    let (_s, serving) = gateway(address, DROP_IN).await;
    let mut client = TcpStream::connect(serving.address).await.unwrap();
    let body = "x".repeat(600_000);
    let head = format!("POST /openai/v1/files HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
    client.write_all(head.as_bytes()).await.unwrap();
    client.write_all(body.as_bytes()).await.unwrap();
    let (text, closed) = read_for(&mut client, Duration::from_secs(1)).await;
    assert!(text.starts_with("HTTP/1.1 403"), "{text}");
    assert!(!closed || text.to_ascii_lowercase().contains("connection: close"), "closed={closed} {text}");
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let (address, _) = provider(|mut s, _| async move {
        while let Some(text) = request(&mut s).await {
            let id = text.split("\"m-").nth(1).unwrap()[..2].to_owned();
            s.write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{id}").as_bytes()).await.unwrap();
        }
    })
    .await;
    let (_s, serving) = gateway(address, DROP_IN).await;
    let mut client = TcpStream::connect(serving.address).await.unwrap();
    let all: String =
        (10..40).map(|i| post("/openai/v1/chat/completions", &format!(r#"{{"model":"m-{i}"}}"#))).collect();
    client.write_all(all.as_bytes()).await.unwrap();
    let (text, _) = read_for(&mut client, Duration::from_secs(1)).await;
    let seen: Vec<_> = text.split("\r\n\r\n").skip(1).map(|t| t[..2].to_owned()).collect();
    assert_eq!(seen, (10..40).map(|i| i.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_vendors_headers_cannot_pose_as_the_gateways() {
    let (address, _) = provider(|s, _| answer_all(s, "HTTP/1.1 200 OK\r\nconnection: x-hop\r\nx-hop: 1\r\nx-bf-arm: spoof\r\nx-bf-request-id: spoof\r\nset-cookie: a=b\r\nopenai-organization: o\r\ncontent-length: 2\r\n\r\n{}")).await;
    let (_s, serving) = gateway(address, DROP_IN).await;
    let mut client = TcpStream::connect(serving.address).await.unwrap();
    client.write_all(chat().as_bytes()).await.unwrap();
    let (text, _) = read_for(&mut client, SHORT).await;
    for gone in ["spoof", "x-hop", "set-cookie", "openai-organization"] {
        assert!(!text.contains(gone), "{gone}: {text}");
    }
}

#[tokio::test]
async fn a_credential_in_the_query_does_not_pass_however_it_is_spelled() {
    for query in ["key=sk-leak", "a=1&KEY=sk-leak", "k%65y=sk-leak", "%6Bey=sk-leak"] {
        let seen = Arc::new(std::sync::Mutex::new(String::new()));
        let sink = seen.clone();
        let (address, _) = provider(move |mut s, _| {
            let sink = sink.clone();
            async move {
                *sink.lock().unwrap() = request(&mut s).await.unwrap();
                s.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await.unwrap();
            }
        })
        .await;
        let (_s, serving) = gateway(address, DROP_IN).await;
        let mut client = TcpStream::connect(serving.address).await.unwrap();
        client.write_all(post(&format!("/openai/v1/chat/completions?{query}"), CHAT).as_bytes()).await.unwrap();
        read_for(&mut client, Duration::from_millis(200)).await;
        let seen = seen.lock().unwrap().clone();
        assert!(seen.contains("sk-pool-key") && !seen.contains("sk-leak"), "{query}: {seen}");
    }
}

#[tokio::test]
async fn a_request_with_length_and_chunks_is_one_request() {
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let sink = seen.clone();
    let (address, _) = provider(move |mut s, _| {
        let sink = sink.clone();
        async move {
            while let Some(text) = request(&mut s).await {
                sink.lock().unwrap().push(text);
                s.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await.unwrap();
            }
        }
    })
    .await;
    let (_s, serving) = gateway(address, BASELINE).await;
    let mut client = TcpStream::connect(serving.address).await.unwrap();
    let body = format!("{:x}\r\n{CHAT}\r\n0\r\n\r\n", CHAT.len());
    let text = format!(
        "POST /openai/v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer c\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n{body}GET /openai/v1/models HTTP/1.1\r\nhost: x\r\n\r\n"
    );
    client.write_all(text.as_bytes()).await.unwrap();
    let (text, closed) = read_for(&mut client, SHORT).await;
    assert!(closed && text.matches("HTTP/1.1 ").count() == 1, "{text}");
    assert_eq!(seen.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn connect_is_no_way_through() {
    let (address, _) = provider(|s, _| answer_all(s, "HTTP/1.1 200 OK\r\n\r\n")).await;
    let (_s, serving) = gateway(address, DROP_IN).await;
    for target in ["x:443", "/openai/v1/files", "/openai/v1/chat/completions"] {
        let mut client = TcpStream::connect(serving.address).await.unwrap();
        client
            .write_all(format!("CONNECT {target} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer c\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let (text, _) = read_for(&mut client, SHORT).await;
        assert!(!text.starts_with("HTTP/1.1 200"), "{target}: {text}");
    }
}

/// Another gateway over the same configuration: more runtimes, other time limits.
async fn gateway_with(
    provider: SocketAddr,
    migration: &str,
    runtimes: usize,
    change: impl Fn(&mut bifrost_config::Config),
) -> (Arc<Shared>, Serving) {
    use bifrost_gateway::snapshot::{Current, Snapshot};
    use bifrost_gateway::upstream::{connect::Connector, resolve::Resolver, tls::TlsRoots};
    let (first, _serving) = gateway(provider, migration).await;
    let mut parts = first.current.load_full().unwrap().parts.clone();
    change(&mut parts.config);
    let current = Arc::new(Current::default());
    current.store(Some(Snapshot::build(parts, &TlsRoots::with_file(None).unwrap()).unwrap()));
    let shared = Arc::new(Shared {
        current,
        budget: bifrost_gateway::memory::Budget::new(64 << 20),
        drain: Default::default(),
        connector: Connector::new(Resolver::system(), bifrost_config::AddressRule::Any),
        gatherer: Arc::default(),
        heartbeats: bifrost_gateway::telemetry::Heartbeats::new(runtimes),
        metrics_for_apps: None,
        candidate: None,
        loads: (0..runtimes).map(|_| Default::default()).collect(),
    });
    let options = bifrost_gateway::server::ServeOptions {
        max_connections: 1_000,
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        preview: None,
        forward: None,
        readiness_delay: Duration::from_millis(100),
        drain_timeout: Duration::from_secs(5),
    };
    let serving = bifrost_gateway::server::start(options, shared.clone()).await.unwrap();
    (shared, serving)
}

#[tokio::test]
async fn a_burst_of_connections_is_spread_over_the_runtimes() {
    let (address, _) = provider(|s, _| answer_all(s, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")).await;
    let (shared, serving) = gateway_with(address, DROP_IN, 4, |_| ()).await;
    // All are in the accept queue before the acceptor, which is a task of this thread, runs.
    let clients: Vec<_> = (0..100).map(|_| std::net::TcpStream::connect(serving.address).unwrap()).collect();
    timeout(Duration::from_secs(5), async {
        while shared.loads.iter().map(|l| l.connections()).sum::<u32>() < 100 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap();
    let spread: Vec<_> = shared.loads.iter().map(|load| load.connections()).collect();
    assert!(spread.iter().all(|n| (20..=30).contains(n)), "{spread:?}");
    drop(clients);
}

#[tokio::test]
async fn a_connection_that_comes_in_while_the_pod_stops_is_closed_after_a_short_silence_too() {
    let (address, _) = provider(|s, _| answer_all(s, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")).await;
    let (shared, serving) = gateway(address, DROP_IN).await;
    shared.drain.advance(Stage::Stopping);
    tokio::time::sleep(Duration::from_millis(600)).await;
    let mut client = TcpStream::connect(serving.address).await.unwrap();
    let (_, closed) = read_for(&mut client, Duration::from_secs(4)).await;
    assert!(closed);
}

#[tokio::test]
async fn a_plain_answer_to_a_late_streaming_request_is_read_to_its_end() {
    let (address, _) = provider(|mut s, _| async move {
        request(&mut s).await;
        tokio::time::sleep(Duration::from_millis(1200)).await;
        s.write_all(b"HTTP/1.1 529 Overloaded\r\ncontent-type: application/json\r\ncontent-length: 4\r\n\r\n{}")
            .await
            .unwrap();
        tokio::time::sleep(Duration::from_millis(900)).await;
        s.write_all(b"  ").await.unwrap();
        std::future::pending::<()>().await;
    })
    .await;
    let (_s, serving) = gateway_with(address, DROP_IN, 1, |config| {
        for provider in &mut config.providers {
            provider.network.request_timeout_ms = 1000;
            provider.network.first_byte_timeout_ms = 10_000;
        }
    })
    .await;
    let mut client = TcpStream::connect(serving.address).await.unwrap();
    client.write_all(post("/openai/v1/chat/completions", STREAM).as_bytes()).await.unwrap();
    let (text, _) = read_for(&mut client, Duration::from_secs(4)).await;
    assert!(text.ends_with("{}  "), "{text}");
}

#[tokio::test]
async fn an_early_answer_reaches_a_client_that_still_uploads() {
    for close in ["connection: close\r\n", ""] {
        let (address, _) = provider(move |mut s, _| async move {
            let mut chunk = [0; 1024];
            let _ = s.read(&mut chunk).await;
            s.write_all(format!("HTTP/1.1 413 Too Large\r\n{close}content-length: 5\r\n\r\nlarge").as_bytes())
                .await
                .unwrap();
            std::future::pending::<()>().await;
        })
        .await;
        let (_s, serving) = gateway(address, DROP_IN).await;
        for path in ["/openai/v1/audio/transcriptions", "/openai/v1/chat/completions"] {
            let mut failed = 0;
            let mut last = String::new();
            for _ in 0..10 {
                let mut client = TcpStream::connect(serving.address).await.unwrap();
                let body = format!(r#"{{"model":"m","x":"{}"}}"#, "x".repeat(5 << 20));
                let (mut read, mut write) = client.split();
                let text = post(path, &body);
                let write = async {
                    let _ = write.write_all(text.as_bytes()).await;
                    std::future::pending::<()>().await
                };
                let mut answer = Vec::new();
                let read = timeout(Duration::from_secs(3), async {
                    let mut chunk = [0; 4096];
                    while !String::from_utf8_lossy(&answer).ends_with("large") {
                        match read.read(&mut chunk).await {
                            Ok(0) | Err(_) => break,
                            Ok(n) => answer.extend_from_slice(&chunk[..n]),
                        }
                    }
                });
                tokio::select! { _ = read => (), () = write => () }
                let answer = String::from_utf8_lossy(&answer).into_owned();
                if !answer.starts_with("HTTP/1.1 413") {
                    failed += 1;
                    last = answer;
                }
            }
            assert_eq!(failed, 0, "{path} {close:?}: {last}");
        }
    }
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_call_along() {
    let (sender, mut ended) = tokio::sync::mpsc::unbounded_channel();
    let (address, _) = provider(move |mut s, _| {
        let sender = sender.clone();
        async move {
            let mut all = Vec::new();
            let outcome = s.read_to_end(&mut all).await.map(|_| ());
            let _ = sender.send((outcome.is_ok(), String::from_utf8_lossy(&all).into_owned()));
        }
    })
    .await;
    let (_s, serving) = gateway(address, DROP_IN).await;
    let chunked =
        "POST /openai/v1/audio/transcriptions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n"
            .to_owned();
    for (name, text) in [("waiting", chat()), ("uploading", chunked)] {
        let mut client = TcpStream::connect(serving.address).await.unwrap();
        client.write_all(text.as_bytes()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        drop(client);
        let got = timeout(Duration::from_secs(1), ended.recv()).await;
        let Ok(Some((_, got))) = got else { panic!("{name}: the call goes on") };
        assert!(!got.ends_with("0\r\n\r\n"), "{name}: {got}");
    }
}

#[tokio::test]
async fn old_versions_of_http_are_understood_on_both_sides() {
    let (address, _) = provider(|mut s, _| async move {
        request(&mut s).await;
        s.write_all(b"HTTP/1.0 200 OK\r\ncontent-type: application/json\r\n\r\n{\"old\":1}").await.unwrap();
    })
    .await;
    let (_s, serving) = gateway(address, DROP_IN).await;
    for version in ["1.1", "1.0"] {
        for _ in 0..2 {
            let mut client = TcpStream::connect(serving.address).await.unwrap();
            client.write_all(chat().replace("HTTP/1.1", &format!("HTTP/{version}")).as_bytes()).await.unwrap();
            let (text, closed) = read_for(&mut client, SHORT).await;
            assert!(text.contains("{\"old\":1}") && text.contains(" 200 OK"), "{text}");
            assert_eq!(closed, version == "1.0", "{text}");
            assert_eq!(text.contains("transfer-encoding"), version == "1.1", "{text}");
        }
    }
}

#[tokio::test]
async fn a_huge_model_name_is_not_sent_back() {
    let (address, _) = provider(|s, _| answer_all(s, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")).await;
    let (_s, serving) = gateway(address, DROP_IN).await;
    let mut client = TcpStream::connect(serving.address).await.unwrap();
    let body = format!(r#"{{"model":"{}","messages":[]}}"#, "\u{2028}".repeat(300_000));
    client.write_all(post("/anthropic/v1/messages", &body).as_bytes()).await.unwrap();
    let (text, _) = read_for(&mut client, Duration::from_secs(2)).await;
    assert!(text.starts_with("HTTP/1.1 404") && text.len() < 2_000, "{} bytes", text.len());
}
