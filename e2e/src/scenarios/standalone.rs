//! The guide's drop-in move without a cluster: its first `config.json` byte for byte, its commands, its script. The vendors' own
//! names lead to the fake provider, in a network namespace where there is nothing else.

use std::{path::Path, process::Stdio, time::Duration};

use anyhow::{Context as _, Result, ensure};
use futures::FutureExt;
use serde_json::Value;
use tokio::process::{Child, Command};

use crate::{
    clients::Python,
    cluster::netns::Namespace,
    files,
    images::build_binaries,
    paths, run,
    scenarios::{Context, Scenario},
    wait,
};

/// The scenario.
pub(super) const SCENARIO: Scenario = Scenario::new(
    "standalone",
    "A gateway without a cluster serves the guide's config.json, its curl commands and its script, and reloads the file",
    |context| run(context).boxed(),
)
.embedded_only();

const GUIDE: &str = "gateway/config/testdata/guide.json";
const NAMESPACE: &str = "bifrost-standalone";
const VENDORS: [&str; 2] = ["api.openai.com", "api.anthropic.com"];
/// How long a process may take to answer.
const START: Duration = Duration::from_secs(20);

async fn run(_: &Context) -> Result<()> {
    let namespace = Namespace::new(NAMESPACE.to_owned());
    namespace.delete().await?;
    namespace.create().await?;
    let outcome = inside(&namespace).await;
    namespace.delete().await?;
    outcome
}

async fn inside(namespace: &Namespace) -> Result<()> {
    let place = tempfile::tempdir().context("cannot make a temporary folder")?;
    let hosts: String = VENDORS.iter().map(|name| format!("127.0.0.1 {name}\n")).collect();
    files::write(
        &Path::new("/etc/netns").join(namespace.name()).join("hosts"),
        format!("127.0.0.1 localhost\n{hosts}"),
    )?;
    let certificates = bifrost_fake_provider::make_certs(place.path(), &VENDORS.map(str::to_owned))?;
    let binaries = build_binaries().await?;
    let config = place.path().join("config.json");
    std::fs::copy(paths::checkout()?.join(GUIDE), &config).context("cannot copy the guide's file")?;

    let mut provider = command_in(namespace, &binaries.fake_provider);
    provider.args(["--https-port", "443", "--control-port", "8090"]);
    provider.arg("--tls-cert").arg(&certificates.cert).arg("--tls-key").arg(&certificates.key);
    let _provider = start(provider)?;

    let mut gateway = command_in(namespace, &binaries.gateway);
    gateway.args(["-config", &config.display().to_string(), "-port", "8080"]);
    gateway.env("OPENAI_API_KEY", "sk-guide-openai-01234").env("ANTHROPIC_API_KEY", "sk-ant-guide-01234");
    gateway.env("SSL_CERT_FILE", &certificates.ca);
    let _gateway = start(gateway)?;
    wait::wait_until("the gateway's health", START, || async {
        Ok(curl(namespace, &["http://localhost:8080/health"]).await?.0 == 200)
    })
    .await?;
    wait::wait_until("the fake provider's health", START, || async {
        Ok(curl(namespace, &["http://localhost:8090/healthz"]).await?.0 == 200)
    })
    .await?;

    the_guides_commands(namespace).await?;
    the_guides_script(namespace).await?;
    a_model_that_the_file_does_not_list(namespace, &config).await
}

async fn the_guides_commands(namespace: &Namespace) -> Result<()> {
    let openai = r#"{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "test"}]}"#;
    let anthropic = r#"{"model": "claude-3-sonnet-20240229", "max_tokens": 100, "messages": [{"role": "user", "content": "test"}]}"#;
    for (path, body) in [("openai/v1/chat/completions", openai), ("anthropic/v1/messages", anthropic)] {
        let (status, answer) = post(namespace, path, body).await?;
        ensure!(status == 200, "{path}: {status} {answer}");
    }
    println!("  the guide's two commands are answered");
    Ok(())
}

async fn the_guides_script(namespace: &Namespace) -> Result<()> {
    let script = Python::install().await?.script("compatibility.py");
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace.name()]);
    let python = script.command();
    command.arg(python.as_std().get_program()).args(python.as_std().get_args());
    command.envs(python.as_std().get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = run::stdout_of(&mut command).await?;
    ensure!(
        output.contains("✅ OpenAI compatibility verified") && output.contains("✅ Anthropic compatibility verified"),
        "{output}"
    );
    println!("  the guide's script verifies both SDKs");
    Ok(())
}

async fn a_model_that_the_file_does_not_list(namespace: &Namespace, config: &Path) -> Result<()> {
    let body = r#"{"model": "gpt-4o", "messages": [{"role": "user", "content": "test"}]}"#;
    let path = "openai/v1/chat/completions";
    let (status, answer) = post(namespace, path, body).await?;
    let error: Value = serde_json::from_str(&answer).with_context(|| answer.clone())?;
    let message = error["error"]["message"].as_str().unwrap_or_default();
    ensure!(status == 404 && error["error"]["code"] == "model_not_found", "{status} {answer}");
    ensure!(message.contains("gpt-4o") && message.contains("config.json"), "{message}");
    println!("  404: {message}");
    let text = files::read(config)?.replace(r#"["gpt-4o-mini"]"#, r#"["gpt-4o-mini", "gpt-4o"]"#);
    files::write(config, text)?;
    wait::wait_until("the added model to be served", START, || async {
        Ok(post(namespace, path, body).await?.0 == 200)
    })
    .await?;
    println!("  added to the file, it is served without a restart");
    Ok(())
}

async fn post(namespace: &Namespace, path: &str, body: &str) -> Result<(u16, String)> {
    let url = format!("http://localhost:8080/{path}");
    curl(namespace, &["-X", "POST", &url, "-H", "Content-Type: application/json", "-d", body]).await
}

/// Status and body.
async fn curl(namespace: &Namespace, args: &[&str]) -> Result<(u16, String)> {
    let mut command = command_in(namespace, Path::new("curl"));
    command
        .args(["--silent", "--show-error", "--noproxy", "*", "--max-time", "10", "--write-out", "\n%{http_code}"])
        .args(args);
    let output = run::stdout_of(&mut command).await?;
    let (body, status) = output.rsplit_once('\n').context("no status")?;
    Ok((status.trim().parse().context("no status")?, body.to_owned()))
}

fn command_in(namespace: &Namespace, program: &Path) -> Command {
    let mut command = run::command("ip");
    command.args(["netns", "exec", namespace.name()]).arg(program);
    command
}

/// A process that ends with its handle.
fn start(mut command: Command) -> Result<Child> {
    command.kill_on_drop(true).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().context("cannot start a process in the network namespace")
}
