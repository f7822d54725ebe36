//! What a failed scenario prints: the objects, events and logs that say why.

use crate::{deploy::OPERATOR_NAMESPACE, kubernetes::Access};

/// Lines of each container's log.
const LOG_LINES: &str = "--tail=40";

/// Prints what matters of the scenario's namespace and the operator's. Nothing here fails: a report that cannot be made
/// must not hide the failure itself.
pub(super) async fn print(access: &Access, namespace: &str) {
    for namespace in [namespace, OPERATOR_NAMESPACE] {
        show(access, namespace, &["get", "pods", "--output=wide"]).await;
        show(access, namespace, &["get", "events", "--sort-by=.metadata.creationTimestamp"]).await;
        for pod in names(access, namespace).await {
            show(access, namespace, &["logs", &pod, "--all-containers", "--prefix", LOG_LINES]).await;
            let previous = ["logs", &pod, "--all-containers", "--prefix", "--previous", LOG_LINES];
            show(access, namespace, &previous).await;
        }
    }
    show(access, namespace, &["get", "bifrostgateways,providerkeys", "--output=yaml"]).await;
}

async fn names(access: &Access, namespace: &str) -> Vec<String> {
    let pods = access.kubectl(["--namespace", namespace, "get", "pods", "--output=name"]).await.unwrap_or_default();
    pods.lines().map(str::to_owned).collect()
}

/// Prints what a kubectl command prints; nothing when it has nothing to say or fails.
async fn show(access: &Access, namespace: &str, args: &[&str]) {
    let all = ["--namespace", namespace].into_iter().chain(args.iter().copied());
    let Ok(output) = access.kubectl(all).await else { return };
    if !output.trim().is_empty() {
        println!("--- {namespace}: kubectl {}", args.join(" "));
        println!("{}", output.trim_end());
    }
}
