//! The command line.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    api::{KeySpec, Vendor},
    certs::make_certs,
    config::{Config, TlsFiles},
    server::start,
};

/// Plays the OpenAI and the Anthropic API for tests.
#[derive(Debug, Parser)]
#[command(name = "bifrost-fake-provider", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Serve,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write ca.crt, tls.crt and tls.key of a private CA.
    MakeCerts {
        /// Folder to write to.
        #[arg(long)]
        out: PathBuf,
        /// Name or address the certificate is for; repeatable.
        #[arg(long = "host", required = true)]
        hosts: Vec<String>,
    },
}

#[derive(Args)]
struct Serve {
    /// Address to listen on.
    #[arg(long, env = "FAKE_BIND", default_value = "0.0.0.0")]
    bind: IpAddr,
    /// Port of the HTTPS vendor listener; served when a certificate is given.
    #[arg(long, env = "FAKE_HTTPS_PORT", default_value_t = 8443)]
    https_port: u16,
    /// Port of a plain-HTTP vendor listener; none by default.
    #[arg(long, env = "FAKE_HTTP_PORT")]
    http_port: Option<u16>,
    /// Port of the control API.
    #[arg(long, env = "FAKE_CONTROL_PORT", default_value_t = 8090)]
    control_port: u16,
    /// PEM file with the certificate chain.
    #[arg(long, env = "FAKE_TLS_CERT", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// PEM file with the private key.
    #[arg(long, env = "FAKE_TLS_KEY", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Host names that are OpenAI, with or without a port.
    #[arg(long, env = "FAKE_OPENAI_HOSTS", value_delimiter = ',', default_value = "api.openai.com")]
    openai_hosts: Vec<String>,
    /// Host names that are Anthropic.
    #[arg(long, env = "FAKE_ANTHROPIC_HOSTS", value_delimiter = ',', default_value = "api.anthropic.com")]
    anthropic_hosts: Vec<String>,
    /// A known key of OpenAI as ACCOUNT=KEY; repeatable.
    #[arg(long = "openai-key", env = "FAKE_OPENAI_KEYS", value_delimiter = ',', hide_env_values = true)]
    openai_keys: Vec<String>,
    /// A known key of Anthropic as ACCOUNT=KEY; repeatable.
    #[arg(long = "anthropic-key", env = "FAKE_ANTHROPIC_KEYS", value_delimiter = ',', hide_env_values = true)]
    anthropic_keys: Vec<String>,
    /// Refuse every key that is not known.
    #[arg(long, env = "FAKE_STRICT_KEYS")]
    strict_keys: bool,
    /// A model of OpenAI besides the built-in ones; repeatable.
    #[arg(long = "openai-model", env = "FAKE_OPENAI_MODELS", value_delimiter = ',')]
    openai_models: Vec<String>,
    /// A model of Anthropic besides the built-in ones; repeatable.
    #[arg(long = "anthropic-model", env = "FAKE_ANTHROPIC_MODELS", value_delimiter = ',')]
    anthropic_models: Vec<String>,
    /// Requests that are kept for the control API.
    #[arg(long, env = "FAKE_RECORDS", default_value_t = 50_000)]
    records: usize,
    /// Largest request body in bytes.
    #[arg(long, env = "FAKE_MAX_BODY", default_value_t = 512 << 20)]
    max_body: usize,
    /// Seconds that open requests may take at shutdown.
    #[arg(long, env = "FAKE_DRAIN_SECONDS", default_value_t = 10)]
    drain_seconds: u64,
}

impl std::fmt::Debug for Serve {
    // The rest may hold keys.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Serve").field("bind", &self.bind).finish_non_exhaustive()
    }
}

impl Serve {
    fn config(self) -> anyhow::Result<Config> {
        let tls = self.tls_cert.zip(self.tls_key).map(|(cert, key)| TlsFiles { cert, key });
        let mut keys = known(Vendor::OpenAi, &self.openai_keys)?;
        keys.extend(known(Vendor::Anthropic, &self.anthropic_keys)?);
        Ok(Config {
            bind: self.bind,
            https_port: tls.is_some().then_some(self.https_port),
            http_port: self.http_port,
            control_port: self.control_port,
            tls,
            openai_hosts: self.openai_hosts,
            anthropic_hosts: self.anthropic_hosts,
            keys,
            strict_keys: self.strict_keys,
            openai_models: self.openai_models,
            anthropic_models: self.anthropic_models,
            records: self.records,
            max_body: self.max_body,
            drain: Duration::from_secs(self.drain_seconds),
        })
    }
}

fn known(vendor: Vendor, given: &[String]) -> anyhow::Result<Vec<KeySpec>> {
    let spec = |of: &String| {
        let (account, key) = of.split_once('=').context("a key is given as ACCOUNT=KEY")?;
        Ok(KeySpec { vendor, key: key.to_owned(), account: Some(account.to_owned()), enabled: true })
    };
    given.iter().filter(|of| !of.is_empty()).map(spec).collect()
}

/// Does what the command line says; serving ends with SIGTERM or SIGINT.
pub async fn run(cli: Cli) -> anyhow::Result<()> {
    if let Some(Command::MakeCerts { out, hosts }) = cli.command {
        make_certs(&out, &hosts)?;
        return Ok(());
    }
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let running = start(cli.serve.config()?).await?;
    let show = |addr: Option<std::net::SocketAddr>| addr.map(|a| a.to_string());
    // One line, for whoever started it with port 0.
    let ports = serde_json::json!({
        "https": show(running.https), "http": show(running.http), "control": running.control.to_string(),
    });
    println!("{ports}");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    running.stop().await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_become_a_config() {
        let cli = Cli::parse_from(["x", "--http-port=0", "--openai-key=acme=sk-1", "--openai-hosts=a,b:81"]);
        let config = cli.serve.config().unwrap();
        assert_eq!((config.http_port, config.https_port), (Some(0), None));
        assert_eq!(config.openai_hosts, ["a", "b:81"]);
        assert_eq!(config.keys.first().and_then(|k| k.account.as_deref()), Some("acme"));
        assert!(!format!("{:?}", config.keys).contains("sk-1"));
    }
}
