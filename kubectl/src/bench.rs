//! `bench`: the guide's comparison of latencies, directly against through the gateway, within bounds.

mod figures;

use std::sync::Arc;
use std::time::Duration;

use bifrost_config::BaseUrl;
use bifrost_config::catalog::Front;
use bifrost_crds::ProviderKey;
use futures::future::try_join_all;

use self::figures::Figures;
use crate::call::{Call, Connection, Way};
use crate::cli::BenchArgs;
use crate::compat::{first, way};
use crate::dialect::{chat, chat_path, credential, get, model, own_provider};
use crate::failure::Failure;
use crate::redact::redact;
use crate::run::say;
use crate::session::Session;

/// How often the way to the gateway is measured by itself.
const PINGS: usize = 10;

/// Measures both ways and prints the figures.
pub(crate) async fn run(session: &Session, args: &BenchArgs) -> Result<(), Failure> {
    let front = if args.front == "anthropic" { Front::Anthropic } else { Front::OpenAI };
    let credential = credential(front, &args.target.api_key_env, |name| std::env::var(name).ok())?;
    let Some(credential) = credential else {
        return Err(Failure::Usage(
            "--api-key-env NAME is needed: the vendor is called directly, with your own key".to_owned(),
        ));
    };
    let direct = BaseUrl::parse(&args.direct).map_err(|error| Failure::Usage(format!("--direct: {error}")))?;
    let gateway = session.gateway(args.target.gateway.name.as_deref()).await?;
    if own_provider(&gateway, front).is_none() {
        return Err(Failure::no(format!("/{} has no provider of its own: see --front", front.name())));
    }
    // They only help to choose a model: who may not read them names one.
    let keys = crate::keys::selected(&gateway, session.list::<ProviderKey>("").await.unwrap_or_default());
    let asked = if front == Front::OpenAI { &args.target.openai_model } else { &args.target.anthropic_model };
    let model = model(&gateway, front, &keys, asked.as_deref());
    let through = way(session, &gateway, &args.target).await?;
    let version = if direct.has_version() { "" } else { "/v1" };
    let path = |prefix: &str, version: &str| format!("{prefix}{version}{}", chat_path(front));
    let at_vendor = path(&direct.path, version);
    let at_gateway = path(&format!("{}/{}", through.prefix(), front.name()), "/v1");
    let call = |path: String| chat(front, path, &model, false, Some(&credential));
    let pair = Pair { direct: (Way::Url(direct), call(at_vendor)), through: (through, call(at_gateway)) };

    let ping = match pair.through.0 {
        Way::Pod(..) => {
            let opened = first(&pair.through.0).await?;
            Some(ping(&pair.through.0, opened, front).await.map_err(Failure::No)?)
        }
        Way::Url(_) => None,
    };
    let (requests, concurrency) =
        (usize::from(args.requests), usize::from(args.concurrency).min(usize::from(args.requests)));
    say(&format!("{requests} requests each way in turn, {concurrency} at a time, model {model}"))?;
    let (direct, through) = measure(pair, requests, concurrency).await.map_err(Failure::No)?;
    say(&figures::text(&direct, &through, ping))
}

/// The two ways, each with its call.
struct Pair {
    direct: (Way, Call),
    through: (Way, Call),
}

/// Each worker goes both ways in turn, so that a bad minute of the vendor falls on both.
async fn measure(pair: Pair, requests: usize, concurrency: usize) -> Result<(Figures, Figures), String> {
    let pair = Arc::new(pair);
    let workers = (0..concurrency).map(|worker| {
        let pair = Arc::clone(&pair);
        let share = requests / concurrency + usize::from(worker < requests % concurrency);
        async move {
            let (mut direct, mut through) = (Lane::default(), Lane::default());
            for _ in 0..share {
                direct.go(&pair.direct.0, &pair.direct.1).await.map_err(|why| format!("directly: {why}"))?;
                through
                    .go(&pair.through.0, &pair.through.1)
                    .await
                    .map_err(|why| format!("through the gateway: {why}"))?;
            }
            Ok::<_, String>((direct.figures, through.figures))
        }
    });
    let (mut direct, mut through) = (Figures::default(), Figures::default());
    for (one, other) in try_join_all(workers).await? {
        direct.add(one);
        through.add(other);
    }
    Ok((direct, through))
}

/// One way of a worker: its connection, kept open as SDKs do, and what it saw.
#[derive(Default)]
struct Lane {
    connection: Option<Connection>,
    figures: Figures,
}

impl Lane {
    async fn go(&mut self, way: &Way, call: &Call) -> Result<(), String> {
        // The first call of a connection is not slower than the others: opening it is not measured.
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => way.open().await?,
        };
        let reply = connection.send(call).await?;
        match reply.status.as_u16() {
            200..300 => self.figures.took.push(reply.took),
            // What another request would change nothing about.
            status @ (400 | 401 | 403 | 404) => {
                let text: String = String::from_utf8_lossy(&reply.body).chars().take(200).collect();
                return Err(format!("{status}: {}", redact(&text)));
            }
            _ => self.figures.failed += 1,
        }
        self.figures.arms.extend(Some(reply.header("x-bf-arm").to_owned()).filter(|arm| !arm.is_empty()));
        if reply.header("connection") != "close" {
            self.connection = Some(connection);
        }
        Ok(())
    }
}

/// How long the port-forward takes by itself: a path that the gateway answers without a vendor.
async fn ping(way: &Way, opened: Connection, front: Front) -> Result<Duration, String> {
    let call = get(front, format!("{}/bifrost-way", way.prefix()), None);
    let mut figures = Figures::default();
    let mut connection = Some(opened);
    for _ in 0..PINGS {
        let mut open: Connection = match connection.take() {
            Some(open) => open,
            None => way.open().await?,
        };
        let reply = open.send(&call).await?;
        figures.took.push(reply.took);
        if reply.header("connection") != "close" {
            connection = Some(open);
        }
    }
    Ok(figures.percentile(50))
}
