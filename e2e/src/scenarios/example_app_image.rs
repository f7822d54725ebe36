//! The example app's image has all that Node and the SDKs need, and runs as a user without rights.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::FutureExt;
use serde_json::json;

use super::objects;
use crate::{
    clients::JavaScript,
    images,
    scenarios::{Context, Scenario},
    wait::{wait_for, wait_until},
};

/// The scenario.
pub(super) const SCENARIO: Scenario = Scenario::new(
    "example-app-image",
    "Node and both SDKs load in the example app's image, in a pod that pod security calls restricted",
    |context| run(context).boxed(),
)
.embedded_only();

const LIMIT: Duration = Duration::from_secs(60);

const SCRIPT: &str = "import OpenAI from 'openai'; import Anthropic from '@anthropic-ai/sdk'; \
    console.log(process.version, typeof OpenAI, typeof Anthropic, process.getuid())";

async fn run(context: &Context) -> Result<()> {
    let image = images::build_node_app(&JavaScript::install().await?).await?;
    context.target.load_image(&image).await?;
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "app"},
        "spec": {
            "restartPolicy": "Never",
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "app",
                "image": image.reference,
                "imagePullPolicy": "IfNotPresent",
                "args": ["--input-type=module", "--eval", SCRIPT],
                "securityContext": {
                    "allowPrivilegeEscalation": false,
                    "capabilities": {"drop": ["ALL"]},
                    "readOnlyRootFilesystem": true,
                },
            }],
        },
    });
    // A pod is refused until its namespace has the account.
    let account = || async { Ok(objects::find(context, "serviceaccount/default").await?.is_some()) };
    wait_until("the default service account", LIMIT, account).await?;
    context.apply(&pod.to_string()).await?;
    let phase = wait_for("the end of the app", LIMIT, || async {
        let phase = objects::get(context, "pod/app").await?["status"]["phase"].as_str().map(str::to_owned);
        Ok(phase.filter(|phase| ["Succeeded", "Failed"].contains(&phase.as_str())))
    })
    .await?;
    let printed = context.kubectl(&["logs", "pod/app"]).await.context("no logs of the app")?;
    ensure!(phase == "Succeeded" && printed.starts_with("v22."), "{phase}: {printed}");
    ensure!(printed.trim_end().ends_with("function function 65532"), "{printed}");
    Ok(())
}
