//! `forward`: the background process behind a cluster's ports on 127.0.0.1.

use anyhow::Result;

use crate::{
    cluster::{Layout, netns::Namespace},
    files,
    forward::{Forward, Listeners},
};

/// Arguments of `forward`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The cluster's name
    #[arg(long)]
    cluster: String,
    /// `port=destination`: `16443=api`, `18080=llm/ai:8080`; port 0 takes any free one
    #[arg(required = true)]
    forwards: Vec<Forward>,
}

/// Opens the ports, writes down which they are, and serves until it is ended.
pub fn run(args: &Args) -> Result<()> {
    let layout = Layout::new(&args.cluster)?;
    let listeners = Listeners::open(&args.forwards)?;
    files::write(&layout.forwarder_record(), serde_json::to_vec(&listeners.forwards()?)?)?;
    listeners.serve(&Namespace::new(layout.tag()), layout.admin_kubeconfig(), std::future::pending())
}
