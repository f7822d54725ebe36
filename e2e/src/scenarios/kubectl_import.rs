//! The files of other gateways become manifests, and those a gateway that serves with the same keys; its latency is compared with
//! that of the vendor.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bifrost_fake_provider::{Control, KeySpec, RecordQuery, Vendor};
use futures::FutureExt;
use serde_json::{Value, json};

use super::{
    gateway::{self, APP_OPENAI, POOL_ANTHROPIC, POOL_OPENAI},
    objects, rollout,
    shell::Shell,
};
use crate::{
    cluster::Cluster,
    deploy::Vendors,
    scenarios::{Context, Scenario},
    wait,
};

/// The scenario.
pub(super) const SCENARIO: Scenario = Scenario::new(
    "kubectl-import",
    "kubectl bifrost import of a config.json and a LiteLLM file, lint, render, apply, test with the same keys; bench",
    |context| run(context).boxed(),
);

const READY: Duration = Duration::from_secs(90);
/// A key that YAML takes for a number unless it is told otherwise.
const NUMBER: &str = "0048151623";

const CONFIG_JSON: &str = r#"{"providers": {
  "openai": {
    "keys": [{"name": "Main Key", "value": "env.OPENAI_API_KEY", "models": ["gpt-4o-mini"], "weight": 1.0}],
    "network_config": {"base_url": "https://openai.vendors.svc", "default_request_timeout_in_seconds": 45}
  },
  "anthropic": {
    "keys": [{"value": "env.ANTHROPIC_API_KEY", "models": ["claude-3-haiku-20240307"], "weight": 1.0}],
    "network_config": {"base_url": "https://anthropic.vendors.svc"}
  },
  "bedrock": {"keys": [{"value": "env.AWS_KEY", "weight": 1.0}]}
}}"#;

const LITE_LLM: &str = "
model_list:
- model_name: small
  litellm_params:
    model: hosted_vllm/gpt-4o-mini
    api_base: http://measures.vendors.svc/v1
    api_key: os.environ/VLLM_KEY
router_settings: {num_retries: 2}
";

async fn run(context: &Context) -> Result<()> {
    let (_port, control) = Vendors::control(&context.target).await?;
    let mut shell = Shell::open(context).await?;
    warned(context, &mut shell).await?;
    of_config_json(context, &mut shell, &control).await?;
    rendered(context, &mut shell).await?;
    if let Some(cluster) = context.target.embedded() {
        benched(context, &mut shell, cluster).await?;
    }
    shell.run("kubectl delete bgw,pk --all --wait=false").await?;
    of_lite_llm(context, &mut shell, &control).await
}

/// What the API server takes and will surprise is warned of.
async fn warned(context: &Context, shell: &mut Shell) -> Result<()> {
    let mut manifest = gateway::manifest(2, Value::Null, Vec::new());
    manifest["spec"]["rollout"] =
        rollout::canary(json!([{"percent": 10, "hold": "10m"}, {"percent": 50, "hold": "10m"}]));
    manifest["spec"]["rollout"]["progressDeadline"] = json!("20s");
    shell.write("warned.json", &manifest.to_string())?;
    let surprises = ["warning: ", "no enabled ProviderKey", "without analysis", "20s is short", "no problems"];
    let told = shell.says("kubectl bifrost lint -f warned.json", &surprises).await?;
    println!("  {} warnings, and the API server takes it:", told.matches("warning: ").count());
    shell.says("kubectl apply --dry-run=server -f warned.json", &["created (server dry run)"]).await?;
    manifest["spec"]["rollout"]["canary"]["steps"][1]["percent"] = json!(10);
    shell.write("bad.json", &manifest.to_string())?;
    shell.refuses("kubectl bifrost lint -f bad.json", &["spec.rollout.canary.steps[1]", "1 problem"]).await?;
    shell.refuses("kubectl bifrost render -f bad.json", &["nothing is rendered"]).await?;
    let objects = context.kubectl(&["get", "bgw", "--output=name"]).await?;
    ensure!(objects.trim().is_empty(), "{objects} is there");
    Ok(())
}

async fn of_config_json(context: &Context, shell: &mut Shell, control: &Control) -> Result<()> {
    context.stage.vendors.trust_in(&context.target, &context.namespace).await?;
    shell.write("config.json", CONFIG_JSON)?;
    let notes = ["not carried: providers.bedrock", "carried: 2 providers, 2 keys"];
    shell.says("kubectl bifrost import config.json > ai.yaml", &notes).await?;
    shell.says("kubectl bifrost lint -f ai.yaml", &["1 gateway, 2 provider keys: no problems"]).await?;
    let variables = format!("export OPENAI_API_KEY={POOL_OPENAI} ANTHROPIC_API_KEY={POOL_ANTHROPIC}");
    shell.run(&format!("{variables}; envsubst < ai.yaml | kubectl apply -f -")).await?;
    // The vendors' authority is known to the cluster alone. The image is the operator's anyway; named, a revision can be rendered.
    let mut patch = rollout::image(&context.stage.images.gateway.reference)?;
    patch["spec"]["config"] = json!({"caBundleRef": {"name": "vendors-ca", "key": "ca.crt"}});
    shell.run(&format!("kubectl patch bgw ai --type=merge -p '{patch}'")).await?;
    serves(context, shell, "ai").await?;
    for key in [POOL_OPENAI, POOL_ANTHROPIC] {
        used(control, key).await?;
    }
    let seen = objects::get(context, "bifrostgateway/ai").await?;
    ensure!(seen["status"]["traffic"]["wantedPercent"] == 0, "an import moves nothing: {}", seen["status"]["traffic"]);
    println!("  config.json: a gateway serves with its two keys, at 0 %");
    Ok(())
}

async fn of_lite_llm(context: &Context, shell: &mut Shell, control: &Control) -> Result<()> {
    let key = KeySpec { vendor: Vendor::OpenAi, key: NUMBER.to_owned(), account: None, enabled: true };
    control.set_key(&key).await?;
    shell.write("config.yaml", LITE_LLM)?;
    let notes = [
        "not carried: router_settings.num_retries",
        "ask for gpt-4o-mini instead of small",
        "carried: 1 provider, 1 key",
    ];
    shell.says("kubectl bifrost import config.yaml --name lite > lite.yaml", &notes).await?;
    shell.says("kubectl bifrost lint -f lite.yaml", &["no problems"]).await?;
    shell.run(&format!("export VLLM_KEY={NUMBER}; envsubst < lite.yaml | kubectl apply -f -")).await?;
    serves(context, shell, "lite").await?;
    used(control, NUMBER).await?;
    println!("  LiteLLM's config.yaml: a gateway serves with its key, which looks like a number");
    Ok(())
}

/// Waits until it is ready, and calls it as SDKs do, with the keys of its pool.
async fn serves(context: &Context, shell: &mut Shell, name: &str) -> Result<()> {
    wait::wait_until(&format!("{name} to be ready"), READY, || async {
        let seen = objects::get(context, &format!("bifrostgateway/{name}")).await?;
        let (generation, ready) = (&seen["metadata"]["generation"], gateway::condition(&seen["status"], "Ready"));
        // With the newest spec: it may have been ready with the one before.
        let is_ready = ready.is_some_and(|one| one["status"] == "True" && one["observedGeneration"] == *generation);
        ensure!(is_ready, "{ready:?}");
        Ok(true)
    })
    .await?;
    // A key has a status of its own.
    shell.comes_to_say(&format!("kubectl bifrost keys {name}"), &["True"]).await?;
    shell.says(&format!("kubectl bifrost test {name}"), &["every check passed", "(no_credential)"]).await.map(drop)
}

/// The vendor was called with this key.
async fn used(control: &Control, key: &str) -> Result<()> {
    let query = RecordQuery { key: Some(key.to_owned()), status: Some(200), ..RecordQuery::default() };
    ensure!(!control.records(&query).await?.is_empty(), "no vendor was called with an imported key");
    Ok(())
}

/// What would be published is what is published.
async fn rendered(context: &Context, shell: &mut Shell) -> Result<()> {
    shell.run("kubectl get bgw,pk -o yaml > live.yaml; kubectl get cm vendors-ca -o yaml > ca.yaml").await?;
    let text = shell.says("kubectl bifrost render -f live.yaml ca.yaml", &["# objects", "Deployment ai"]).await?;
    let published = objects::get(context, "configmap/ai-bifrost").await?;
    for (member, head) in [("stable.json", "# stable.json\n"), ("traffic.json", "# traffic.json at the goal\n")] {
        let (_, rest) = text.split_once(head).with_context(|| format!("no {member} in {text}"))?;
        let rendered = serde_json::Deserializer::from_str(rest).into_iter::<Value>().next().context("nothing")??;
        let published = published["data"][member].as_str().with_context(|| format!("no {member} is published"))?;
        let [rendered, published] = [rendered, serde_json::from_str(published)?].map(of_any_gateway);
        ensure!(rendered == published, "{rendered} was rendered, {published} is published");
    }
    println!("  what render prints of the gateway is what its pods have");
    Ok(())
}

/// Without what only a gateway has that is there.
fn of_any_gateway(mut published: Value) -> Value {
    for member in ["gatewayUid", "epoch", "since"] {
        published.as_object_mut().map(|members| members.remove(member));
    }
    published
}

/// Through the API server, and at the gateway's address; the vendor under TLS and without.
async fn benched(context: &Context, shell: &mut Shell, cluster: &Cluster) -> Result<()> {
    shell.write("ca.pem", &context.stage.vendors.ca)?;
    shell
        .refuses("kubectl bifrost bench ai --direct https://openai.vendors.svc", &["--api-key-env NAME is needed"])
        .await?;
    // The API server has another address in there.
    shell.run("cp $KUBECONFIG inside && kubectl --kubeconfig inside config set-cluster $(kubectl config view -o jsonpath='{.clusters[0].name}') --server=https://127.0.0.1:6443").await?;
    let bench = format!(
        "export KUBECONFIG=inside APP={APP_OPENAI}; kubectl bifrost bench ai --api-key-env APP --requests 30 --concurrency 3"
    );
    let plain = format!("{bench} --direct http://measures.vendors.svc");
    let told = shell.run_inside(cluster, &plain).await?;
    ensure!(told.contains("the port-forward itself takes"), "{told}");
    println!("{}", figures(&told)?);
    gateway::reachable(context).await?;
    let at = format!(
        "export SSL_CERT_FILE=ca.pem; {bench} --direct https://openai.vendors.svc --url {}",
        gateway::url(context)
    );
    let told = shell.run_inside(cluster, &at).await?;
    ensure!(!told.contains("port-forward"), "{told}");
    println!("{}", figures(&told)?);
    Ok(())
}

/// The table, if every request of both ways was answered, and the gateway's by the baseline arm, as at 0 %.
fn figures(told: &str) -> Result<String> {
    for way in ["direct", "gateway"] {
        let line = told.lines().find(|line| line.starts_with(&format!("{way} "))).with_context(|| told.to_owned())?;
        let words: Vec<_> = line.split_whitespace().collect();
        ensure!(words[1..3] == ["30", "0"], "{told}");
    }
    ensure!(told.contains("gateway: 30 requests by arm baseline"), "{told}");
    let table = told
        .lines()
        .filter(|line| ["WAY", "direct", "gateway ", "difference"].iter().any(|word| line.starts_with(word)));
    Ok(table.map(|line| format!("  {line}\n")).collect())
}
