//! The log: one line per event on standard output. Bodies and credentials are never logged; other crates' details are left out,
//! because what they print at lower levels is not ours to vouch for.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use super::args::{LogFormat, LogLevel};

/// Starts logging. Where a log has been started already, it stays.
pub(super) fn start(level: LogLevel, format: LogFormat) {
    let builder = tracing_subscriber::fmt()
        .with_writer(std::io::stdout)
        .with_ansi(std::io::stdout().is_terminal())
        .with_env_filter(EnvFilter::new(directives(level)));
    let _ = match format {
        LogFormat::Text => builder.with_target(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
}

/// The Kubernetes client is silent: its errors come back to the caller, and it prints bodies that it cannot read, Secrets among them.
fn directives(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Error => "error,kube_client=off",
        LogLevel::Warn => "warn,kube_client=off",
        LogLevel::Info => "warn,kube_client=off,bifrost_gateway=info",
        LogLevel::Debug => "warn,kube_client=off,bifrost_gateway=debug",
        LogLevel::Trace => "warn,kube_client=off,bifrost_gateway=trace",
    }
}
