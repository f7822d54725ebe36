//! `up`: the local cluster, ready to use.

use anyhow::Result;

use crate::{
    cluster::Options,
    commands::{API_PORT, GATEWAY_PORT, LOCAL, TargetArgs, gateway_service},
    deploy::{EXAMPLE_NAMESPACE, Example, Operator, Vendors, Watch},
    forward::Forward,
    images::Images,
};

/// Requests that show the split; enough for a share to be near what was asked for.
const REQUESTS: u32 = 400;

/// How a shell gets to the embedded cluster.
const SHELL: &str = r#"
The gateway runs. In this shell, kubectl, helm and the vendors' SDKs work with it after:

    eval "$(make -s env)""#;

/// What to type next.
const NEXT: &str = r#"
Move more of the application's requests onto the gateway:

    kubectl patch bifrostgateway ai -n llm --type=merge -p '{"spec":{"migration":{"canaryPercent":50}}}'
    kubectl exec -n llm deploy/example-app -- node app.mjs --once 400

Watch it: kubectl bifrost status ai -n llm -w"#;

/// The way out of the embedded cluster, and of one that the user has.
const DOWN: &str = "Remove it all: make down";
const DOWN_ELSEWHERE: &str =
    "Remove it all: helm uninstall bifrost -n bifrost-system; kubectl delete namespace llm vendors bifrost-system;
               kubectl delete crd bifrostgateways.bifrost.dev providerkeys.bifrost.dev";

/// Arguments of `up`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The cluster's name; several may run side by side on different ports
    #[arg(long, default_value = LOCAL)]
    name: String,
    /// Port on 127.0.0.1 for the API server
    #[arg(long, default_value_t = API_PORT)]
    api_port: u16,
    /// Port on 127.0.0.1 for the example gateway's Service
    #[arg(long, default_value_t = GATEWAY_PORT)]
    port: u16,
    #[command(flatten)]
    target: TargetArgs,
}

/// Starts the cluster.
pub async fn run(args: Args) -> Result<()> {
    let options = Options {
        name: args.name,
        api_port: args.api_port,
        forwards: vec![Forward { port: args.port, to: gateway_service() }],
    };
    let target = args.target.open(&options).await?;
    let images = Images::build().await?;
    for image in images.all() {
        target.load_image(image).await?;
    }
    let vendors = Vendors::install(&target, &images).await?;
    Operator::install(&target, &images, Watch::Namespaces(&[EXAMPLE_NAMESPACE])).await?;
    Example::install(&target, &images, &vendors).await?;
    let sent = Example::send(&target, REQUESTS).await?;
    let gateways =
        target.access()?.kubectl(["--namespace", EXAMPLE_NAMESPACE, "get", "bifrostgateways,providerkeys"]).await?;
    println!("\n{}\n\n{}", gateways.trim_end(), sent.trim_end());
    if target.embedded().is_some() {
        println!("{SHELL}\n{NEXT}\n{DOWN}");
    } else {
        println!("{NEXT}\n{DOWN_ELSEWHERE}");
    }
    Ok(())
}
