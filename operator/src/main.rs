//! The operator's process.

use clap::Parser;

fn main() -> anyhow::Result<()> {
    // Before anything makes a TLS client: there is one provider of cryptography in the process.
    let installed = rustls::crypto::ring::default_provider().install_default();
    installed.map_err(|_| anyhow::anyhow!("another provider of cryptography is installed already"))?;
    let cli = bifrost_operator::cli::Cli::parse();
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(bifrost_operator::run::run(cli))
}
