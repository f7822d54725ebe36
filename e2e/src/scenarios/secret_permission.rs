//! Who may write ProviderKeys may not spend any Secret: only who may get a Secret can name it there.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::FutureExt;
use serde_json::{Value, json};

use super::gateway;
use crate::{
    run,
    scenarios::{Context, Scenario},
    wait,
};

/// The scenario.
pub(super) const SCENARIO: Scenario = Scenario::new(
    "secret-permission",
    "A ProviderKey may name a Secret only when its author may get it; metadata alone may be changed without",
    |context| run(context).boxed(),
);

/// How long roles and the admission policy may take to be in force.
const IN_FORCE: Duration = Duration::from_secs(30);
/// May write ProviderKeys.
const WRITER: &str = "key-writer";
/// May get the Secret `openai-key` besides.
const READER: &str = "key-reader";
const OBJECT: &str = "providerkey/openai";
const REFUSAL: &str = "may not get Secret";

async fn run(context: &Context) -> Result<()> {
    let [secret, key] =
        gateway::key("openai", "openai", gateway::POOL_OPENAI).try_into().ok().context("two objects")?;
    context.apply(&json!({"apiVersion": "v1", "kind": "List", "items": roles(vec![secret])}).to_string()).await?;
    let key = key.to_string();
    let [tried, created] = [&["create", "--dry-run=server", "-f", "-"][..], &["create", "-f", "-"]];
    wait::wait_until("the writer to be refused", IN_FORCE, || async {
        refused(by(context, WRITER, tried, &key).await).map(|()| true)
    })
    .await?;
    wait::wait_until("the reader to be admitted", IN_FORCE, || async {
        by(context, READER, tried, &key).await.map(|_| true)
    })
    .await?;
    refused(by(context, WRITER, created, &key).await).context("created by who may not get the Secret")?;
    by(context, READER, created, &key).await.context("created by who may get the Secret")?;

    by(context, WRITER, &["label", OBJECT, "team=search"], "").await.context("a label alone")?;
    for spec in [json!({"weight": 7}), json!({"secretRef": {"name": "other"}}), json!({"hosts": ["example.com"]})] {
        refused(patch(context, WRITER, &spec).await)
            .with_context(|| format!("{spec} by who may not get the Secret"))?;
    }
    patch(context, READER, &json!({"weight": 7})).await.context("a weight by who may get the Secret")?;
    let other = json!({"secretRef": {"name": "other"}});
    refused(patch(context, READER, &other).await).context("another Secret, which may not be got")?;
    println!("  a Secret is named in a ProviderKey only by who may get it; labels change without");
    Ok(())
}

fn roles(mut objects: Vec<Value>) -> Vec<Value> {
    let group = "rbac.authorization.k8s.io";
    let writes = json!({"apiGroups": ["bifrost.dev"], "resources": ["providerkeys"],
        "verbs": ["get", "list", "create", "update", "patch"]});
    let reads = json!({"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["openai-key"], "verbs": ["get"]});
    for (user, rules) in [(WRITER, json!([writes])), (READER, json!([writes, reads]))] {
        let api = format!("{group}/v1");
        let metadata = json!({"name": user});
        objects.push(json!({"apiVersion": api, "kind": "Role", "metadata": metadata, "rules": rules}));
        objects.push(json!({"apiVersion": api, "kind": "RoleBinding", "metadata": metadata,
            "roleRef": {"apiGroup": group, "kind": "Role", "name": user},
            "subjects": [{"apiGroup": group, "kind": "User", "name": user}]}));
    }
    objects
}

/// What kubectl prints for a user of the scenario's namespace.
async fn by(context: &Context, user: &str, args: &[&str], input: &str) -> Result<String> {
    let mut command = context.access.kubectl_command(["--namespace", &context.namespace, "--as", user]);
    run::stdout_with_input(command.args(args), input.as_bytes()).await
}

async fn patch(context: &Context, user: &str, spec: &Value) -> Result<String> {
    let patch = json!({"spec": spec}).to_string();
    by(context, user, &["patch", OBJECT, "--type=merge", "--patch", &patch], "").await
}

/// Whether it was refused by the policy, and not for want of another right.
fn refused(outcome: Result<String>) -> Result<()> {
    let error = outcome.err().context("accepted")?;
    ensure!(format!("{error:#}").contains(REFUSAL), "{error:#}");
    Ok(())
}
