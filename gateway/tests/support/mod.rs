//! A gateway in this process, in front of a fake provider, both on loopback.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bifrost_config::published::{PublishedKeys, TrafficTable};
use bifrost_config::{AddressRule, file};
use bifrost_fake_provider::{Config, Control, Record, RecordQuery, Running};
use bifrost_gateway::memory::Budget;
use bifrost_gateway::server::drain::Drain;
use bifrost_gateway::server::{ServeOptions, Serving, Shared, start};
use bifrost_gateway::snapshot::{Current, Parts, Snapshot};
use bifrost_gateway::telemetry::{Gatherer, Heartbeats, Metrics};
use bifrost_gateway::upstream::connect::Connector;
use bifrost_gateway::upstream::resolve::Resolver;
use bifrost_gateway::upstream::tls::TlsRoots;
use http::HeaderValue;

/// The pool's key; no client sends it.
pub(crate) const POOL_KEY: &str = "sk-pool-key";
/// An application's own key.
pub(crate) const CLIENT_KEY: &str = "sk-client-key";

/// The pair.
pub(crate) struct Pair {
    _provider: Running,
    pub(crate) control: Control,
    pub(crate) serving: Option<Serving>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) base: String,
    pub(crate) client: reqwest::Client,
}

impl Pair {
    /// `migration` is the JSON of the file's member; `client` that of its `client` member.
    pub(crate) async fn start(migration: &str, client: &str) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let provider = bifrost_fake_provider::start(Config::default()).await.unwrap();
        let control = Control::new(provider.control);
        let http = provider.http.unwrap();
        let text = config(http, migration, client);
        let (shared, serving) = gateway(&text).await;
        let base = format!("http://{}", serving.address);
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { _provider: provider, control, serving: Some(serving), shared, base, client }
    }

    /// A POST with the application's key.
    pub(crate) fn post(&self, path: &str, body: &str) -> reqwest::RequestBuilder {
        let request = self.client.post(format!("{}{path}", self.base)).header("content-type", "application/json");
        request.header("authorization", format!("Bearer {CLIENT_KEY}")).body(body.to_owned())
    }

    /// The one request that the provider has seen.
    pub(crate) async fn only_record(&self) -> Record {
        let mut records = self.control.records(&RecordQuery::default()).await.unwrap();
        assert_eq!(records.len(), 1, "{records:?}");
        records.remove(0)
    }
}

/// A `config.json` whose providers are the fake one.
pub(crate) fn config(http: SocketAddr, migration: &str, client: &str) -> String {
    let port = http.port();
    format!(
        r#"{{"client":{client},"migration":{migration},"providers":{{
        "openai":{{"keys":[{{"name":"main","value":"{POOL_KEY}"}}],"network_config":{{"base_url":"http://127.0.0.1:{port}","default_request_timeout_in_seconds":2,"stream_idle_timeout_in_seconds":1}}}},
        "anthropic":{{"keys":[{{"name":"claude","value":"sk-ant-pool","models":["claude-3-sonnet-20240229"]}}],"network_config":{{"base_url":"http://localhost:{port}"}}}}}}}}"#
    )
}

/// A gateway with one runtime.
pub(crate) async fn gateway(text: &str) -> (Arc<Shared>, Serving) {
    pod(parts(text), None).await
}

/// What a `config.json` makes.
pub(crate) fn parts(text: &str) -> Parts {
    let loaded = file::load(text, &|_| None).unwrap();
    let keys = PublishedKeys { values: loaded.values, ..PublishedKeys::default() };
    let traffic = TrafficTable::new(&loaded.migration, "", 1, "test");
    let file = Some("config.json".to_owned());
    Parts { config: loaded.config, tried: None, traffic, digest: String::new(), keys, file }
}

/// A gateway of these parts, or a pod of the candidate of this name.
pub(crate) async fn pod(parts: Parts, candidate: Option<&'static str>) -> (Arc<Shared>, Serving) {
    let parts = match candidate {
        Some(own) => parts.held_by_candidate(own),
        None => parts,
    };
    let snapshot = Snapshot::build(parts, &TlsRoots::with_file(None).unwrap()).unwrap();
    let current = Arc::new(Current::default());
    current.store(Some(snapshot));
    let gatherer = Arc::new(Gatherer::new());
    let shared = Arc::new(Shared {
        current,
        budget: Budget::new(64 << 20),
        drain: Drain::default(),
        connector: Connector::new(Resolver::system(), AddressRule::Any),
        gatherer: gatherer.clone(),
        heartbeats: Heartbeats::new(1),
        metrics_for_apps: Some(Arc::new(Metrics::new(gatherer.clone(), Default::default))),
        candidate: candidate.map(HeaderValue::from_static),
        loads: Box::new([Default::default()]),
    });
    let options = ServeOptions {
        max_connections: 1_000,
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        preview: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
        forward: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
        readiness_delay: Duration::from_millis(300),
        drain_timeout: Duration::from_secs(5),
    };
    let serving = start(options, shared.clone()).await.unwrap();
    (shared, serving)
}
