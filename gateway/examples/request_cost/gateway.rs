//! The gateway that is measured: the product's server on one runtime, as a pod runs it, until its standard input closes.

use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bifrost_config::published::{PublishedKeys, Rollout, TrafficTable};
use bifrost_config::{AddressRule, Shadow, ShadowedArm, file};
use bifrost_gateway::memory::Budget;
use bifrost_gateway::server::drain::Drain;
use bifrost_gateway::server::{ServeOptions, Shared, start};
use bifrost_gateway::snapshot::{Current, Parts, Snapshot};
use bifrost_gateway::telemetry::{Comparison, Gatherer, Heartbeats};
use bifrost_gateway::upstream::connect::Connector;
use bifrost_gateway::upstream::resolve::Resolver;
use bifrost_gateway::upstream::tls::TlsRoots;

use crate::{Counts, Tries};

/// What the gateway is started with, as one argument each.
#[derive(Clone, Copy)]
pub(crate) struct Setup {
    /// Port to listen on.
    pub(crate) port: u16,
    /// Port of the provider.
    pub(crate) provider: u16,
    /// Share of the bifrost arm.
    pub(crate) percent: u8,
    /// Share of the arm's requests that is chosen to be copied; none: no shadow.
    pub(crate) shadow: Option<u8>,
    /// What a rollout tries. The candidate's pods are where the provider is.
    pub(crate) rollout: Tries,
    /// What is counted for the analysis.
    pub(crate) counts: Counts,
}

impl Setup {
    /// As arguments.
    pub(crate) fn args(self) -> [String; 6] {
        let shadow = self.shadow.map_or_else(|| "-".to_owned(), |percent| percent.to_string());
        let rollout = match self.rollout {
            Tries::Nothing => "-",
            Tries::Others => "others",
            Tries::Here => "here",
            Tries::There => "there",
        };
        let counts = match self.counts {
            Counts::Nothing => "nothing",
            Counts::Windows => "windows",
            Counts::Answers => "answers",
        };
        let [port, provider] = [self.port, self.provider].map(|port| port.to_string());
        [port, provider, self.percent.to_string(), shadow, rollout.to_owned(), counts.to_owned()]
    }

    fn read(args: &[String]) -> Self {
        let [port, provider, percent, shadow, rollout, counts] = <&[String; 6]>::try_from(args).unwrap();
        Self {
            port: port.parse().unwrap(),
            provider: provider.parse().unwrap(),
            percent: percent.parse().unwrap(),
            shadow: shadow.parse().ok(),
            rollout: match rollout.as_str() {
                "others" => Tries::Others,
                "here" => Tries::Here,
                "there" => Tries::There,
                _ => Tries::Nothing,
            },
            counts: match counts.as_str() {
                "nothing" => Counts::Nothing,
                "answers" => Counts::Answers,
                _ => Counts::Windows,
            },
        }
    }
}

/// Serves.
pub(crate) fn serve(args: &[String]) {
    rustls::crypto::ring::default_provider().install_default().unwrap();
    let setup = Setup::read(args);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let options = ServeOptions {
            max_connections: 100,
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, setup.port)),
            preview: None,
            forward: None,
            readiness_delay: Duration::ZERO,
            drain_timeout: Duration::from_secs(1),
        };
        let _serving = start(options, shared(setup)).await.unwrap();
        let closed = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
        closed.await.unwrap().unwrap();
    });
}

fn shared(setup: Setup) -> Arc<Shared> {
    let Setup { provider, percent, .. } = setup;
    let text = format!(
        r#"{{"migration":{{"strategy":"Canary","canaryPercent":{percent}}},"providers":{{"openai":{{"keys":[{{"name":"main","value":"sk-pool"}}],"network_config":{{"base_url":"http://127.0.0.1:{provider}"}}}}}}}}"#
    );
    let loaded = file::load(&text, &|_| None).unwrap();
    let keys = PublishedKeys { values: loaded.values, ..PublishedKeys::default() };
    let mut traffic = TrafficTable::new(&loaded.migration, "", 1, "measured");
    let looks = setup.counts == Counts::Answers;
    (traffic.tool_calls, traffic.empty_answers) = (looks, looks);
    traffic.shadow = setup.shadow.map(|chosen| shadow(chosen, percent));
    traffic.rollout = rollout(setup);
    let gatherer =
        Arc::new(if setup.counts == Counts::Nothing { Gatherer::without_windows() } else { Gatherer::new() });
    gatherer.mark(Comparison::Revisions, traffic.rollout.as_ref().map_or(0, |rollout| rollout.since));
    let parts = Parts { config: loaded.config, tried: None, traffic, digest: String::new(), keys, file: None };
    let current = Arc::new(Current::default());
    current.store(Some(Snapshot::build(parts, &TlsRoots::with_file(None).unwrap()).unwrap()));
    Arc::new(Shared {
        current,
        budget: Budget::new(64 << 20),
        drain: Drain::default(),
        connector: Connector::new(Resolver::system(), AddressRule::Any),
        gatherer,
        heartbeats: Heartbeats::new(1),
        metrics_for_apps: None,
        candidate: None,
        loads: Box::new([Default::default()]),
    })
}

fn rollout(setup: Setup) -> Option<Rollout> {
    let forward = (setup.rollout == Tries::There).then(|| format!("http://127.0.0.1:{}", setup.provider));
    let percent = if setup.rollout == Tries::Others { 0 } else { 100 };
    let rollout = Rollout {
        revision: "next".to_owned(),
        config: None,
        percent,
        since: 1,
        salt: "measured/rollout/next".to_owned(),
        forward,
        preview: false,
    };
    (setup.rollout != Tries::Nothing).then_some(rollout)
}

/// Copies of the only arm that there is. No model has a price, so that what is chosen is kept, looked at, and not sent: what a copy
/// itself costs is none of its request's.
fn shadow(percent: u8, canary: u8) -> Shadow {
    Shadow {
        percent,
        of: if canary == 0 { ShadowedArm::Baseline } else { ShadowedArm::Bifrost },
        daily_limit: 1_000_000,
        pods: 1,
        skip_tools: true,
        max_body: 1 << 20,
        skip_header: Some("x-no-shadow".to_owned()),
        currency: "USD".to_owned(),
        prices: Vec::new(),
    }
}
