//! `env`: lines for a shell, so that kubectl, helm and the SDKs work there as they are: `eval "$(bifrost-local env)"`.

use anyhow::{Context, Result};

use crate::{
    cluster::Cluster,
    commands::{LOCAL, gateway_service},
    components::Components,
};

/// The keys of the example application, as its Secret has them.
const APP_OPENAI_KEY: &str = "sk-local-app-openai";
const APP_ANTHROPIC_KEY: &str = "sk-ant-local-app-anthropic";

/// Arguments of `env`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The cluster's name
    #[arg(long, default_value = LOCAL)]
    name: String,
}

/// Prints the lines on stdout.
pub fn run(args: &Args) -> Result<()> {
    let cluster = Cluster::attach(&args.name)?.context("the cluster does not run: make up starts it")?;
    let kubeconfig = cluster.access()?.kubeconfig;
    println!("export KUBECONFIG={}", quoted(&kubeconfig.display().to_string()));
    let programs = Components::located()?.user_programs();
    println!("export PATH={}:\"$PATH\"", quoted(&programs.display().to_string()));
    if let Some(address) = cluster.forwarded(&gateway_service())? {
        println!("export OPENAI_BASE_URL=http://{address}/openai/v1");
        println!("export ANTHROPIC_BASE_URL=http://{address}/anthropic");
        // The SDKs do not start without one, and a real key has no business with the fake vendors.
        println!("export OPENAI_API_KEY={APP_OPENAI_KEY}");
        println!("export ANTHROPIC_API_KEY={APP_ANTHROPIC_KEY}");
    }
    Ok(())
}

/// A word that a shell takes as it is.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_are_those_of_the_example_application() {
        let app = include_str!("../../../examples/local/app.yaml");
        assert!(app.contains(&format!("OPENAI_API_KEY: {APP_OPENAI_KEY}\n")));
        assert!(app.contains(&format!("ANTHROPIC_API_KEY: {APP_ANTHROPIC_KEY}\n")));
    }

    #[test]
    fn quotes_in_a_word_do_not_end_it() {
        assert_eq!(quoted("/a b/it's"), r"'/a b/it'\''s'");
    }
}
