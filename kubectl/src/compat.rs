//! `test`: the guide's compatibility script against a running gateway, front by front.

mod checks;

use bifrost_config::BaseUrl;
use bifrost_config::catalog::Front;
use bifrost_crds::{BifrostGateway, ProviderKey};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use self::checks::{Check, Outcome};
use crate::call::{APP_PORT, Call, Connection, Reply, Way};
use crate::cli::{TargetArgs, TestArgs};
use crate::dialect::{credential, model, own_provider};
use crate::failure::Failure;
use crate::human::count;
use crate::run::say;
use crate::session::{Session, pod_labels};

/// Runs every check of every front.
pub(crate) async fn run(session: &Session, args: &TestArgs) -> Result<(), Failure> {
    let gateway = session.gateway(args.target.gateway.name.as_deref()).await?;
    let way = way(session, &gateway, &args.target).await?;
    // They only help to choose a model: who may not read them names one.
    let keys = crate::keys::selected(&gateway, session.list::<ProviderKey>("").await.unwrap_or_default());
    let mut connection = Some(first(&way).await?);
    let mut failed = 0;
    for front in Front::ALL {
        let Some(provider) = own_provider(&gateway, front) else {
            say(&format!("skipped  {:9}  no provider of its own", front.name()))?;
            continue;
        };
        let credential = credential(front, &args.target.api_key_env, |name| std::env::var(name).ok())?;
        let asked = match front {
            Front::OpenAI => args.target.openai_model.as_deref(),
            Front::Anthropic => args.target.anthropic_model.as_deref(),
        };
        let model = model(&gateway, front, &keys, asked);
        let whose = if credential.is_some() { "your credential" } else { "no credential" };
        say(&format!("{}: provider {}, model {model}, {whose}", front.name(), provider.name))?;
        failed += of_front(&way, &mut connection, front, &model, credential.as_deref()).await?;
    }
    match failed {
        0 => say("every check passed"),
        failed => Err(Failure::no(format!("{} failed", count(failed, "check")))),
    }
}

async fn of_front(
    way: &Way,
    connection: &mut Option<Connection>,
    front: Front,
    model: &str,
    credential: Option<&str>,
) -> Result<usize, Failure> {
    let mut failed = 0;
    for check in Check::ALL {
        let call = check.call(front, way.prefix(), model, credential);
        let outcome = match send(way, connection, &call).await {
            Ok(reply) => check.judge(front, &reply, credential.is_some()),
            Err(error) => Outcome::Failed(error),
        };
        let (word, text) = match &outcome {
            Outcome::Passed(text) => ("ok", text),
            Outcome::Failed(text) => ("failed", text),
        };
        failed += usize::from(matches!(outcome, Outcome::Failed(_)));
        say(&format!("{word:7}  {:9}  {:15}  {text}", front.name(), check.name()))?;
    }
    Ok(failed)
}

/// Sends over the connection that is open, or over a new one where there is none or it ended.
async fn send(way: &Way, connection: &mut Option<Connection>, call: &Call) -> Result<Reply, String> {
    let mut open = match connection.take() {
        Some(open) => open,
        None => way.open().await?,
    };
    let reply = open.send(call).await?;
    if reply.header("connection") != "close" {
        *connection = Some(open);
    }
    Ok(reply)
}

/// How the gateway is reached: at the address that was given, else through a port-forward to a ready pod.
pub(crate) async fn way(session: &Session, gateway: &BifrostGateway, target: &TargetArgs) -> Result<Way, Failure> {
    if let Some(url) = &target.url {
        let url = BaseUrl::parse(url).map_err(|error| Failure::Usage(format!("--url {url}: {error}")))?;
        return Ok(Way::Url(url));
    }
    let pods = session.list::<Pod>(&pod_labels(gateway)).await?;
    match pods.iter().find(|pod| is_ready(pod)) {
        Some(pod) => Ok(Way::Pod(Box::new(session.api::<Pod>()), pod.name_any(), APP_PORT)),
        None => Err(Failure::no(format!(
            "no pod of {} is ready: `kubectl bifrost status {}` says why",
            gateway.name_any(),
            gateway.name_any()
        ))),
    }
}

/// Opens the first connection: what is wrong with the way is said once, and not at each call.
pub(crate) async fn first(way: &Way) -> Result<Connection, Failure> {
    way.open().await.map_err(|why| match way {
        Way::Pod(..) => Failure::no(format!("{why}; with --url the gateway is called at its address instead")),
        Way::Url(_) => Failure::no(why),
    })
}

/// Whether a pod is ready and stays.
pub(crate) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    pod.metadata.deletion_timestamp.is_none()
        && conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}
