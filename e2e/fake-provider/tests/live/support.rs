//! A small client for the tests: one connection, one request, everything about the answer.

use std::io::Read as _;

use bifrost_fake_provider::{Config, Control, Running, start};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, header};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

pub(crate) const OPENAI: &str = "127.0.0.1";
pub(crate) const ANTHROPIC: &str = "localhost";

pub(crate) struct Fake {
    pub(crate) running: Running,
    pub(crate) control: Control,
}

/// What came back; `broken` says that the body did not come to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    pub(crate) broken: bool,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|v| v.to_str().unwrap()).unwrap_or_default()
    }

    pub(crate) fn inflated(&self) -> String {
        let mut text = String::new();
        flate2::read::GzDecoder::new(self.body.as_slice()).read_to_string(&mut text).unwrap();
        text
    }

    /// The JSON of each `data:` line.
    pub(crate) fn events(&self) -> Vec<Value> {
        events(&self.text())
    }
}

pub(crate) fn events(text: &str) -> Vec<Value> {
    text.lines().filter_map(|l| l.strip_prefix("data: ")).filter_map(|l| serde_json::from_str(l).ok()).collect()
}

impl Fake {
    pub(crate) async fn start() -> Self {
        Self::with(Config::default()).await
    }

    pub(crate) async fn with(config: Config) -> Self {
        let running = start(config).await.unwrap();
        let control = Control::new(running.control);
        Self { running, control }
    }

    pub(crate) async fn connect(&self) -> http1::SendRequest<Full<Bytes>> {
        sender(TcpStream::connect(self.running.http.unwrap()).await.unwrap()).await
    }

    /// One request on a connection of its own.
    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Result<Answer, hyper::Error> {
        Ok(collect(self.connect().await.send_request(request).await?).await)
    }

    pub(crate) async fn chat(&self, body: &str) -> Answer {
        self.send(chat(body)).await.unwrap()
    }
}

pub(crate) async fn sender(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> http1::SendRequest<Full<Bytes>> {
    let (sender, connection) = http1::handshake(TokioIo::new(io)).await.unwrap();
    tokio::spawn(connection);
    sender
}

pub(crate) async fn collect(response: Response<Incoming>) -> Answer {
    let (parts, mut incoming) = response.into_parts();
    let mut body = Vec::new();
    let mut broken = false;
    while let Some(frame) = incoming.frame().await {
        match frame {
            Ok(frame) => body.extend_from_slice(&frame.into_data().unwrap_or_default()),
            Err(_) => {
                broken = true;
                break;
            }
        }
    }
    Answer { status: parts.status.as_u16(), headers: parts.headers, body, broken }
}

pub(crate) fn request(
    host: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Request<Full<Bytes>> {
    let mut builder = Request::builder().method(method).uri(path).header(header::HOST, host);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(Full::new(Bytes::copy_from_slice(body.as_bytes()))).unwrap()
}

/// A chat completion with the key `sk-test`.
pub(crate) fn chat(body: &str) -> Request<Full<Bytes>> {
    request(OPENAI, "POST", "/v1/chat/completions", &[("authorization", "Bearer sk-test")], body)
}

/// A message with the key `sk-ant-test`.
pub(crate) fn message(body: &str) -> Request<Full<Bytes>> {
    let headers = [("x-api-key", "sk-ant-test"), ("anthropic-version", "2023-06-01")];
    request(ANTHROPIC, "POST", "/v1/messages", &headers, body)
}

pub(crate) const HELLO: &str = r#"{"model":"gpt-4o-mini","user":"u1","messages":[{"role":"user","content":"hi"}]}"#;

/// A body for the chat whose prompt carries a script.
pub(crate) fn scripted(script: &str, stream: bool) -> String {
    let prompt = Value::from(format!("hi [[fake {script}]]"));
    format!(r#"{{"model":"gpt-4o-mini","stream":{stream},"messages":[{{"role":"user","content":{prompt}}}]}}"#)
}
