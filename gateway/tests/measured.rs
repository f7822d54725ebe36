//! What requests say of their arm, by providers and clients on raw sockets.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[expect(dead_code, reason = "the helpers for the fake provider")]
mod support;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bifrost_analysis::{Arm, Failure, GroupSums};
use bifrost_gateway::server::{Serving, Shared};
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
    /// `answer` gets each connection once its request was read.
    async fn start<F: Future<Output = ()> + Send + 'static>(
        (arm, migration): (Arm, &str),
        answer: impl Fn(TcpStream) -> F + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answer = Arc::new(answer);
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let answer = answer.clone();
                tokio::spawn(async move {
                    if read_request(&mut stream).await {
                        answer(stream).await;
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
                let window = self.shared.gatherer.window().await.window;
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
async fn read_request(stream: &mut TcpStream) -> bool {
    let mut text = Vec::new();
    let mut chunk = [0; 8192];
    loop {
        let Some(n) = stream.read(&mut chunk).await.ok().filter(|n| *n > 0) else { return false };
        text.extend_from_slice(&chunk[..n]);
        let shown = String::from_utf8_lossy(&text).to_ascii_lowercase();
        let Some((head, body)) = shown.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        if body.len() >= length.unwrap_or(0) {
            return true;
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
        let measured = Measured::start(arm, async |mut stream: TcpStream| {
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
