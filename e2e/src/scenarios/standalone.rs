//! The guide's drop-in move without a cluster: its first `config.json` byte for byte, its commands, its script. The vendors' own
//! names lead to the fake provider, in a network namespace where there is nothing else.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use bifrost_fake_provider::{Counts, Vendor};
use futures::FutureExt;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::curl::{self, Answer};
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
/// The keys that the file takes from the environment.
pub(super) const KEYS: [&str; 2] = ["sk-guide-openai-01234", "sk-ant-guide-01234"];
const GATEWAY: &str = "gateway";
const PROVIDER: &str = "fake-provider";
/// How much of a log a failure shows.
const LOG_LINES: usize = 60;
/// How long a process may take to answer.
const START: Duration = Duration::from_secs(20);

async fn run(context: &Context) -> Result<()> {
    let mut place = Place::prepare().await?;
    let outcome = inside(&place).await;
    place.failed = outcome.is_err();
    outcome?;
    context.stage.leaks.log("the standalone gateway's log", &files::read(&place.log(GATEWAY))?)
}

/// The network namespace and a folder. However the scenario ends, the namespace goes, and a failure shows the logs.
struct Place {
    namespace: Namespace,
    folder: TempDir,
    failed: bool,
}

impl Place {
    async fn prepare() -> Result<Self> {
        let namespace = Namespace::new(NAMESPACE.to_owned());
        namespace.delete().await?;
        let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
        let place = Self { namespace, folder, failed: true };
        place.namespace.create().await?;
        let hosts: String = VENDORS.iter().map(|name| format!("127.0.0.1 {name}\n")).collect();
        let file = Path::new("/etc/netns").join(NAMESPACE).join("hosts");
        files::write(&file, format!("127.0.0.1 localhost\n{hosts}"))?;
        Ok(place)
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    fn log(&self, process: &str) -> PathBuf {
        self.path(&format!("{process}.log"))
    }

    /// A command in the namespace.
    fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = run::command("ip");
        command.args(["netns", "exec", self.namespace.name()]).arg(program);
        run::without_proxies(&mut command);
        command
    }

    /// A process that ends with its handle; what it prints goes to its log.
    fn start(&self, name: &str, mut command: Command) -> Result<Child> {
        let log = std::fs::File::create(self.log(name)).with_context(|| format!("cannot write the log of {name}"))?;
        command.stdout(log.try_clone()?).stderr(log);
        command.spawn().with_context(|| format!("cannot start {name}"))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for process in [GATEWAY, PROVIDER].into_iter().filter(|_| self.failed) {
            println!("--- {process}\n{}", files::last_lines(&self.log(process), LOG_LINES));
        }
        self.namespace.delete_now();
    }
}

async fn inside(place: &Place) -> Result<()> {
    let certificates = bifrost_fake_provider::make_certs(place.folder.path(), &VENDORS.map(str::to_owned))?;
    let binaries = build_binaries().await?;
    let config = place.path("config.json");
    std::fs::copy(paths::checkout()?.join(GUIDE), &config).context("cannot copy the guide's file")?;

    let mut provider = place.command(&binaries.fake_provider);
    provider.args(["--https-port", "443", "--control-port", "8090"]);
    provider.arg("--tls-cert").arg(&certificates.cert).arg("--tls-key").arg(&certificates.key);
    let _provider = place.start(PROVIDER, provider)?;

    let mut gateway = place.command(&binaries.gateway);
    gateway.arg("-config").arg(&config).args(["-port", "8080"]);
    gateway.env("OPENAI_API_KEY", KEYS[0]).env("ANTHROPIC_API_KEY", KEYS[1]);
    gateway.env("SSL_CERT_FILE", &certificates.ca);
    let _gateway = place.start(GATEWAY, gateway)?;
    for health in ["http://localhost:8080/health", "http://localhost:8090/healthz"] {
        let what = format!("an answer of {health}");
        wait::wait_until(&what, START, || async { Ok(curl(place, &[health]).await?.status == 200) }).await?;
    }

    the_guides_commands(place).await?;
    the_guides_script(place).await?;
    the_keys_of_the_file_were_used(place).await?;
    a_model_that_the_file_does_not_list(place, &config).await
}

/// The callers sent none, or one that is nothing to the vendor.
async fn the_keys_of_the_file_were_used(place: &Place) -> Result<()> {
    let counts: Counts = serde_json::from_str(&curl(place, &["http://localhost:8090/counts"]).await?.ok()?)?;
    for (vendor, key) in [(Vendor::OpenAi, KEYS[0]), (Vendor::Anthropic, KEYS[1])] {
        let (all, with_key) = (counts.sum(|count| count.vendor == Some(vendor)), counts.of_key(vendor, key));
        ensure!(with_key >= 2 && all == with_key, "{with_key} of {all} requests carried the key of {vendor:?}");
    }
    println!("  each vendor received the key that the file gives it, and no other");
    Ok(())
}

async fn the_guides_commands(place: &Place) -> Result<()> {
    let openai = r#"{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "test"}]}"#;
    let anthropic = r#"{"model": "claude-3-sonnet-20240229", "max_tokens": 100, "messages": [{"role": "user", "content": "test"}]}"#;
    for (path, body) in [("openai/v1/chat/completions", openai), ("anthropic/v1/messages", anthropic)] {
        post(place, path, body).await?.ok().with_context(|| path.to_owned())?;
    }
    println!("  the guide's two commands are answered");
    Ok(())
}

async fn the_guides_script(place: &Place) -> Result<()> {
    let script = Python::install().await?.script("compatibility.py");
    let python = script.command();
    let mut command = place.command(python.as_std().get_program());
    command.args(python.as_std().get_args());
    command.envs(python.as_std().get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = run::stdout_of(&mut command).await?;
    ensure!(
        output.contains("✅ OpenAI compatibility verified") && output.contains("✅ Anthropic compatibility verified"),
        "{output}"
    );
    println!("  the guide's script verifies both SDKs");
    Ok(())
}

async fn a_model_that_the_file_does_not_list(place: &Place, config: &Path) -> Result<()> {
    let body = r#"{"model": "gpt-4o", "messages": [{"role": "user", "content": "test"}]}"#;
    let path = "openai/v1/chat/completions";
    let answer = post(place, path, body).await?;
    let error: Value = serde_json::from_str(&answer.body).with_context(|| answer.body.clone())?;
    let message = error["error"]["message"].as_str().unwrap_or_default();
    ensure!(answer.status == 404 && error["error"]["code"] == "model_not_found", "{answer:?}");
    ensure!(message.contains("gpt-4o") && message.contains("config.json"), "{message}");
    println!("  404: {message}");
    let text = files::read(config)?.replace(r#"["gpt-4o-mini"]"#, r#"["gpt-4o-mini", "gpt-4o"]"#);
    files::write(config, text)?;
    wait::wait_until("the added model to be served", START, || async {
        Ok(post(place, path, body).await?.status == 200)
    })
    .await?;
    println!("  added to the file, it is served without a restart");
    Ok(())
}

async fn post(place: &Place, path: &str, body: &str) -> Result<Answer> {
    let url = format!("http://localhost:8080/{path}");
    curl(place, &["-X", "POST", &url, "-H", "Content-Type: application/json", "-d", body]).await
}

async fn curl(place: &Place, args: &[&str]) -> Result<Answer> {
    curl::run(place.command("curl"), args).await
}
