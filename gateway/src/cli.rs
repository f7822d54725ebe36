//! The command line: what may be said, and what is done about it.
//!
//! `bifrost-gateway --config config.json --port 8080` serves a file, `--cluster` serves a BifrostGateway; `validate` checks a
//! file. Problems at the start are one clear line with the way out.

mod args;
mod log;
mod open_files;
mod serve;
mod single_dash;
mod threads;
mod validate;

use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};

use crate::server::StartError;
use crate::source::file::FileError;
use crate::upstream::tls::TlsError;
use args::{Cli, Command};

pub use args::{Options, SourceOptions};

/// Why the gateway does not start.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// Neither a file nor a cluster.
    #[error("no configuration: name a file with --config FILE (the default {} is not there)", args::DEFAULT_CONFIG)]
    NoConfiguration,
    /// The file.
    #[error(transparent)]
    File(#[from] FileError),
    /// No cluster around.
    #[error("no cluster: {0}; --cluster is for pods that an operator made, use --config FILE elsewhere")]
    Cluster(Box<dyn std::error::Error + Send + Sync>),
    /// A port.
    #[error("cannot listen on {address}: {}", listen_hint(.source, .flag))]
    Listen {
        /// Where.
        address: SocketAddr,
        /// The flag that sets its port.
        flag: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// Certificates from the environment.
    #[error("the certificates of SSL_CERT_FILE cannot be used: {0}")]
    Certificates(#[from] TlsError),
    /// The system refuses what every process gets.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
}

impl From<StartError> for CliError {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Listen { door, address, source } => Self::Listen { address, flag: door.flag(), source },
            StartError::System(error) => Self::System(error),
        }
    }
}

fn listen_hint(error: &io::Error, flag: &str) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => format!("another process has it; choose another port with {flag}"),
        io::ErrorKind::PermissionDenied => format!("not allowed; choose a port above 1023 with {flag}"),
        io::ErrorKind::AddrNotAvailable => "this machine has no such address; see --host".to_owned(),
        _ => error.to_string(),
    }
}

/// Does what the arguments say. Blocks until it is done; for a gateway that serves, until it has drained.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match parse(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Also how help and version come out; only the latter two are no failure.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match cli.command {
        Some(Command::Version) => {
            println!("bifrost-gateway {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        Some(Command::Validate { config }) => validate::run(&config),
        None => {
            log::start(cli.serve.log_level, cli.serve.log_format);
            match cli.serve.options(|path| path.exists()).and_then(serve::run) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    eprintln!("bifrost-gateway: {error}");
                    ExitCode::FAILURE
                }
            }
        }
    }
}

fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let command = Cli::command();
    let args = single_dash::rewrite(args, &command);
    Cli::from_arg_matches(&command.try_get_matches_from(args)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_names_the_flag_that_changes_it() {
        let address = SocketAddr::from(([0, 0, 0, 0], 8080));
        let error = CliError::Listen { address, flag: "--port", source: io::ErrorKind::AddrInUse.into() };
        assert_eq!(
            error.to_string(),
            "cannot listen on 0.0.0.0:8080: another process has it; choose another port with --port"
        );
    }
}
