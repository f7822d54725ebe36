//! What the fake provider is started with.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    time::Duration,
};

use crate::api::KeySpec;

/// PEM files of the HTTPS listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificate chain.
    pub cert: PathBuf,
    /// Private key.
    pub key: PathBuf,
}

/// Settings; [`Config::default`] listens on free ports of loopback, without TLS, and answers `127.0.0.1` as OpenAI and
/// `localhost` as Anthropic besides the vendors' own names: what an in-process test needs.
#[derive(Debug, Clone)]
pub struct Config {
    /// Address to listen on.
    pub bind: IpAddr,
    /// Port of the HTTPS vendor listener; needs `tls`. 0 takes a free one.
    pub https_port: Option<u16>,
    /// Port of the plain-HTTP vendor listener.
    pub http_port: Option<u16>,
    /// Port of the control API.
    pub control_port: u16,
    /// Certificate and key of the HTTPS listener.
    pub tls: Option<TlsFiles>,
    /// Host names that are OpenAI; with a port (`name:443`) only that port.
    pub openai_hosts: Vec<String>,
    /// Host names that are Anthropic.
    pub anthropic_hosts: Vec<String>,
    /// Credentials known from the start.
    pub keys: Vec<KeySpec>,
    /// Only known credentials are accepted. Otherwise any that looks like the vendor's is, as an account of its own.
    pub strict_keys: bool,
    /// Models of OpenAI besides the built-in list.
    pub openai_models: Vec<String>,
    /// Models of Anthropic besides the built-in list.
    pub anthropic_models: Vec<String>,
    /// Records kept; older ones are dropped.
    pub records: usize,
    /// Largest request body in bytes; above it 413.
    pub max_body: usize,
    /// How long open requests may take at shutdown.
    pub drain: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
            https_port: None,
            http_port: Some(0),
            control_port: 0,
            tls: None,
            openai_hosts: names(&["api.openai.com", "127.0.0.1"]),
            anthropic_hosts: names(&["api.anthropic.com", "localhost"]),
            keys: Vec::new(),
            strict_keys: false,
            openai_models: Vec::new(),
            anthropic_models: Vec::new(),
            records: 50_000,
            max_body: 512 << 20,
            drain: Duration::from_secs(10),
        }
    }
}

fn names(of: &[&str]) -> Vec<String> {
    of.iter().map(|s| (*s).to_owned()).collect()
}
