//! The provider, which answers at once.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

use crate::client::length;

/// A provider that answers at once, plain or as a stream, with a tool call where the user is a certain one. What is forwarded to it, it
/// answers as a candidate's pod.
pub(crate) fn provider() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            std::thread::spawn(move || serve(connection));
        }
    });
    address
}

fn serve(mut connection: TcpStream) {
    connection.set_nodelay(true).unwrap();
    let mut text = String::new();
    let mut chunk = [0; 16 * 1024];
    loop {
        match text.split_once("\r\n\r\n").map(|(head, body)| (length(head).unwrap_or(0), body.len())) {
            Some((length, there)) if there >= length => {
                let mut reply = reply(text.contains(r#""stream":true"#), text.contains("u-call"));
                if text.contains("x-bf-rollout: next") {
                    reply = reply.replacen("\r\n", "\r\nx-bf-revision: next\r\nx-bf-arm: bifrost\r\n", 1);
                    if connection.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").is_err() {
                        return;
                    }
                }
                if connection.write_all(reply.as_bytes()).is_err() {
                    return;
                }
                text.clear();
            }
            _ => match connection.read(&mut chunk) {
                Ok(read) if read > 0 => text.push_str(&String::from_utf8_lossy(&chunk[..read])),
                _ => return,
            },
        }
    }
}

fn reply(stream: bool, tools: bool) -> String {
    const USAGE: &str = r#""usage":{"prompt_tokens":230,"completion_tokens":40,"total_tokens":270}"#;
    if !stream {
        let message = if tools {
            r#"{"role":"assistant","content":null,"tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{\"city\":\"Paris\",\"days\":[1,2,3]}"}}]}"#.to_owned()
        } else {
            format!(r#"{{"role":"assistant","content":"{}"}}"#, "word ".repeat(160))
        };
        let body =
            format!(r#"{{"id":"a","object":"chat.completion","choices":[{{"index":0,"message":{message}}}],{USAGE}}}"#);
        return format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
    }
    let mut reply =
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n".to_owned();
    let mut event = |data: &str| {
        let event = format!("data: {data}\n\n");
        reply.push_str(&format!("{:x}\r\n{event}\r\n", event.len()));
    };
    for place in 0..20 {
        let delta = match (tools, place) {
            (true, 0) => r#"{"tool_calls":[{"index":0,"id":"c","function":{"name":"f","arguments":"{\"days\":[1"}}]}"#,
            (true, 19) => r#"{"tool_calls":[{"index":0,"function":{"arguments":"]}"}}]}"#,
            (true, _) => r#"{"tool_calls":[{"index":0,"function":{"arguments":",2"}}]}"#,
            (false, _) => r#"{"content":" word"}"#,
        };
        event(&format!(r#"{{"id":"a","object":"chat.completion.chunk","choices":[{{"index":0,"delta":{delta}}}]}}"#));
    }
    event(&format!(r#"{{"id":"a","choices":[],{USAGE}}}"#));
    event("[DONE]");
    reply.push_str("0\r\n\r\n");
    reply
}
