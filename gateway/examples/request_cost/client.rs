//! The client: one connection, one request after the other.

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Child;
use std::time::{Duration, Instant};

use crate::{Answer, Case};

/// How long one process may take.
const PATIENCE: Duration = Duration::from_secs(90);

pub(crate) fn request(case: &Case) -> String {
    let (user, name) = match case.answer {
        Answer::Text => ("u-1", "other"),
        Answer::ToolCall => ("u-call", "tools"),
    };
    let tools = format!(r#","{name}":[{{"type":"function","function":{{"name":"f","parameters":{{}}}}}}]"#);
    let content = "x".repeat(900);
    let body = format!(
        r#"{{"model":"gpt-4o-mini","user":"{user}","stream":{},"messages":[{{"role":"user","content":"{content}"}}]{tools}}}"#,
        case.stream
    );
    format!(
        "POST /openai/v1/chat/completions HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer sk-app\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

pub(crate) fn connect(address: SocketAddr, process: &mut Child) -> TcpStream {
    let begun = Instant::now();
    loop {
        if let Ok(client) = TcpStream::connect(address) {
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            client.set_nodelay(true).unwrap();
            return client;
        }
        assert!(process.try_wait().unwrap().is_none() && begun.elapsed() < PATIENCE, "the gateway does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A port that is free now.
pub(crate) fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

/// Reads one answer to its end, by length or in chunks.
pub(crate) fn answer(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    loop {
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = length(head);
            if length.map_or_else(|| body.ends_with("0\r\n\r\n"), |length| body.len() >= length) {
                return text;
            }
        }
        let mut chunk = [0; 16 * 1024];
        let read = stream.read(&mut chunk).unwrap();
        assert!(read > 0, "the answer broke off: {text}");
        text.push_str(&String::from_utf8_lossy(&chunk[..read]));
    }
}

/// What the head says of the body's length.
pub(crate) fn length(head: &str) -> Option<usize> {
    let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with("content-length:"))?;
    line.split_once(':')?.1.trim().parse().ok()
}
