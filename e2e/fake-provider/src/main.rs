//! The fake provider as a program. All of it lives in the library.

use bifrost_fake_provider::{Cli, run};
use clap::Parser as _;

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(cli))
}
