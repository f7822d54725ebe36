//! Single requests by `curl`, whose bytes are known, from wherever they shall start.

use anyhow::{Context as _, Result, ensure};
use tokio::process::Command;

use super::gateway::APP_OPENAI;
use crate::{run, scenarios::Context};

const OPTIONS: [&str; 7] = ["--silent", "--show-error", "--include", "--noproxy", "*", "--max-time", "10"];

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: String,
    head: String,
}

impl Answer {
    fn parse(text: &str) -> Result<Self> {
        let (head, body) = text.split_once("\r\n\r\n").with_context(|| format!("no HTTP answer: {text:?}"))?;
        let status = head.split_whitespace().nth(1).and_then(|status| status.parse().ok());
        Ok(Self {
            status: status.with_context(|| format!("no status in {head:?}"))?,
            body: body.to_owned(),
            head: head.to_owned(),
        })
    }

    /// The first header of this name; empty: there is none.
    pub(super) fn header(&self, name: &str) -> &str {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value.trim())
    }

    /// Which arm served it.
    pub(super) fn arm(&self) -> &str {
        self.header("x-bf-arm")
    }

    /// Why it was this one.
    pub(super) fn reason(&self) -> &str {
        self.header("x-bf-arm-reason")
    }

    /// The body of an answer with status 200.
    pub(super) fn ok(self) -> Result<String> {
        ensure!(self.status == 200, "{}: {}", self.status, self.body);
        Ok(self.body)
    }
}

/// Runs `curl`, a command that starts it, with these arguments.
pub(super) async fn run(mut curl: Command, args: &[&str]) -> Result<Answer> {
    Answer::parse(&run::stdout_of(curl.args(OPTIONS).args(args)).await?)
}

/// From inside the cluster's network, by its DNS.
pub(super) async fn inside(context: &Context, args: &[&str]) -> Result<Answer> {
    run(context.embedded()?.command_inside("curl"), args).await
}

/// A POST of a JSON text with these headers, from inside the cluster's network.
pub(super) async fn post(context: &Context, url: &str, headers: &[&str], body: &str) -> Result<Answer> {
    let mut args = vec!["--header", "content-type: application/json", "--data-binary", body, url];
    for header in headers {
        args.extend(["--header", *header]);
    }
    inside(context, &args).await
}

/// A chat completion with the application's credential or with none.
pub(super) async fn chat(context: &Context, base: &str, body: &str, credential: bool) -> Result<Answer> {
    let url = format!("{base}/openai/v1/chat/completions");
    let authorization = format!("authorization: Bearer {APP_OPENAI}");
    let headers = [authorization.as_str()];
    post(context, &url, if credential { &headers } else { &[] }, body).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read() {
        let answer = Answer::parse("HTTP/1.1 200 OK\r\nX-Bf-Arm: baseline\r\n\r\n{\"a\": 1}\r\n\r\n").unwrap();
        assert_eq!((answer.status, answer.arm(), answer.reason()), (200, "baseline", ""));
        assert_eq!(answer.ok().unwrap(), "{\"a\": 1}\r\n\r\n");
        assert!(Answer::parse("").is_err());
    }
}
