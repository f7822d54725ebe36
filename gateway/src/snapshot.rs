//! One validated configuration as a pod holds it: names resolved to indices once, so that no request looks up more than a
//! model. A request sees one snapshot to its end.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
pub use bifrost_config::OwnProvider;
use bifrost_config::catalog::{AuthScheme, Front, Vendor};
use bifrost_config::published::{PublishedKeys, TrafficTable};
use bifrost_config::{BaseUrl, Config, Network, Provider, Scheme};
use http::HeaderValue;
use rustls::ClientConfig;

use crate::rules::Rules;
use crate::upstream::tls::TlsRoots;

mod tried;

pub use tried::{Forward, Tried};

/// What a source brings: everything a snapshot is made of.
#[derive(Debug, Clone)]
pub struct Parts {
    /// The configuration.
    pub config: Config,
    /// That of a rollout's candidate where it has one of its own, or why it cannot be used.
    pub tried: Option<Result<Config, String>>,
    /// The traffic table.
    pub traffic: TrafficTable,
    /// Digest of the bytes received; empty when standalone.
    pub digest: String,
    /// Values and generations of the keys.
    pub keys: PublishedKeys,
    /// The file a user can mend, for messages; none in a cluster.
    pub file: Option<String>,
}

/// An immutable configuration, ready for the request path.
#[derive(Debug)]
pub struct Snapshot {
    /// What it was made of.
    pub parts: Parts,
    /// Providers in the order of the configuration.
    pub upstreams: Vec<Upstream>,
    /// The rules of a gradual migration.
    pub rules: Rules,
    /// Index of each provider by name.
    by_name: HashMap<String, usize>,
    /// What belongs to each front, in the order of [`Front::ALL`].
    own: [OwnProvider; Front::ALL.len()],
    /// The revision, as the header that carries it.
    pub revision: HeaderValue,
    /// What a rollout tries beside it, if this pod can serve that.
    pub tried: Option<Tried>,
    /// What of the configuration cannot be used, while the rest of it is.
    pub problem: Option<String>,
}

/// A provider, resolved.
#[derive(Debug)]
pub struct Upstream {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// What is known of its vendor.
    pub vendor: &'static Vendor,
    /// Where connections lead.
    pub endpoint: Arc<Endpoint>,
    /// What stands before the vendor's path behind the version: `/v1`.
    pub path_prefix: String,
    /// Time limits.
    pub network: Network,
    /// Keys in the order of the configuration; only those whose value is there.
    pub keys: Vec<PoolKey>,
    /// Model lists of the keys whose value is not there.
    waiting: Vec<Vec<String>>,
    /// For every model that some key lists: the keys that serve it, with running sums of their weights.
    by_model: HashMap<String, Choices>,
    /// For every other model: the keys that serve all.
    any_model: Choices,
    /// For requests that name no model: all keys.
    all_keys: Choices,
}

/// Where connections lead, and how they are secured. Pools keep connections by this.
#[derive(Debug)]
pub struct Endpoint {
    /// Stands for `https://host:port` and the roots it is verified against: equal ids may share connections.
    pub id: usize,
    /// Host and port to connect to.
    pub base: BaseUrl,
    /// The `Host` header.
    pub authority: HeaderValue,
    /// For TLS.
    pub tls: Option<Arc<ClientConfig>>,
    /// How long what was sent may stay unacknowledged before the connection counts as dead; none: as long as the system waits.
    pub unacknowledged: Option<Duration>,
}

/// A provider key, ready to be set.
#[derive(Debug)]
pub struct PoolKey {
    /// Its name.
    pub name: Arc<str>,
    /// Name and value of the header, marked sensitive.
    pub header: (http::HeaderName, HeaderValue),
}

/// Keys to choose from: (running sum of weights, index).
type Choices = Vec<(u64, usize)>;

/// Why no key can be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoKey {
    /// The provider has no key at all.
    NoneConfigured,
    /// No key lists this model.
    ModelNotListed,
    /// A key that would serve it is configured, but its value is not there (yet).
    ValueMissing,
}

/// Why parts make no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The TLS library's own settings.
    #[error("{0}")]
    Tls(String),
    /// A text that must stand in a header.
    #[error("{0} cannot stand in a header")]
    Header(&'static str),
}

/// The snapshot that new requests take; none before the first.
pub type Current = ArcSwapOption<Snapshot>;

impl Snapshot {
    /// Resolves what a source brought. `roots` are the authorities that the process trusts beside the configuration's own.
    pub fn build(parts: Parts, roots: &TlsRoots) -> Result<Arc<Self>, SnapshotError> {
        let config = &parts.config;
        let needs_tls = config.providers.iter().any(|p| p.base_url.scheme == Scheme::Https);
        let (tls, problem) = match needs_tls {
            true => {
                let usable = roots.usable_config(config.ca_bundle.as_deref());
                let (tls, problem) = usable.map_err(|e| SnapshotError::Tls(e.to_string()))?;
                (Some(tls), problem)
            }
            false => (None, None),
        };
        let upstreams = config
            .providers
            .iter()
            .map(|provider| Upstream::build(provider, &parts, tls.as_ref()))
            .collect::<Result<Vec<_>, _>>()?;
        let by_name: HashMap<_, _> =
            config.providers.iter().enumerate().map(|(index, p)| (p.name.clone(), index)).collect();
        let rules = Rules::build(&parts.traffic.rules, |name| by_name.get(name).copied())
            .map_err(|_| SnapshotError::Header("the name of a header in a rule of the migration"))?;
        let own = Front::ALL.map(|front| config.own_provider(front));
        let revision = HeaderValue::from_str(&parts.traffic.revision).map_err(|_| SnapshotError::Header("revision"))?;
        let (tried, unusable) = match Tried::of(&parts, roots) {
            Ok(tried) => (tried, None),
            Err(unusable) => (None, Some(unusable)),
        };
        let of_tried = match &tried {
            Some(Tried::Here(snapshot)) => snapshot.problem.clone(),
            _ => None,
        };
        let problem = problem.or(unusable).or(of_tried);
        Ok(Arc::new(Self { upstreams, rules, by_name, own, revision, tried, problem, parts }))
    }

    /// The traffic table.
    pub fn traffic(&self) -> &TrafficTable {
        &self.parts.traffic
    }

    /// Largest request body, in bytes.
    pub fn max_request_body(&self) -> u64 {
        self.parts.config.client.max_request_body
    }

    /// Largest request body that may be read before it is known which revision serves it, in bytes.
    pub fn most_request_body(&self) -> u64 {
        self.tried.as_ref().map_or(0, Tried::max_request_body).max(self.max_request_body())
    }

    /// Generation of each key value in use.
    pub fn key_generations(&self) -> &BTreeMap<String, u64> {
        &self.parts.keys.generations
    }

    /// The provider that belongs to a front.
    pub fn own_provider(&self, front: Front) -> OwnProvider {
        self.own[front as usize]
    }

    /// Takes `provider/model` apart where the first segment is the name of a configured provider.
    pub fn split_model<'m>(&self, model: &'m str) -> Option<(usize, &'m str)> {
        let (name, rest) = model.split_once('/')?;
        self.by_name.get(name).map(|index| (*index, rest))
    }
}

impl Upstream {
    fn build(provider: &Provider, parts: &Parts, tls: Option<&Arc<ClientConfig>>) -> Result<Self, SnapshotError> {
        let vendor = provider.provider_type.vendor();
        let base = &provider.base_url;
        let version = if base.has_version() { "" } else { vendor.version_prefix };
        let tls = tls.filter(|_| base.scheme == Scheme::Https).cloned();
        let roots = tls.as_ref().map_or(0, |config| Arc::as_ptr(config) as usize);
        let endpoint = Endpoint {
            id: number_of(format!("{:?}://{}#{roots:x}", base.scheme, base.authority())),
            authority: HeaderValue::from_str(&base.authority()).map_err(|_| SnapshotError::Header("baseURL"))?,
            unacknowledged: None,
            base: base.clone(),
            tls,
        };
        let configured = parts.config.keys.iter().filter(|key| key.provider == provider.name);
        let mut keys = Vec::new();
        let mut rules = Vec::new();
        let mut waiting = Vec::new();
        for key in configured {
            // The operator has checked this already; a key must not leave for another host whoever is wrong.
            let allowed = key.hosts.contains(&base.host);
            let header = parts.keys.values.get(&key.name).and_then(|value| auth_header(vendor.auth, value.expose()));
            match header.filter(|_| allowed) {
                Some(header) => {
                    keys.push(PoolKey { name: key.name.as_str().into(), header });
                    rules.push((key.weight, key.models.as_slice()));
                }
                None => waiting.push(key.models.clone()),
            }
        }
        let listed: BTreeSet<&String> = rules.iter().flat_map(|(_, models)| *models).collect();
        let by_model = listed
            .into_iter()
            .map(|model| (model.clone(), choices(&rules, |models| models.is_empty() || models.contains(model))))
            .collect();
        Ok(Self {
            name: provider.name.as_str().into(),
            vendor,
            endpoint: Arc::new(endpoint),
            path_prefix: format!("{}{version}", base.path),
            network: provider.network.clone(),
            by_model,
            any_model: choices(&rules, <[String]>::is_empty),
            all_keys: choices(&rules, |_| true),
            keys,
            waiting,
        })
    }

    /// The index of a key for a model, by weighted chance; `chance` is a random number. `None` as model: any of the provider's keys.
    pub fn choose_key(&self, model: Option<&str>, chance: u64) -> Result<usize, NoKey> {
        match model {
            None => self.pick(&self.all_keys, chance, |_| true),
            Some(model) => self.pick(self.by_model.get(model).unwrap_or(&self.any_model), chance, |models| {
                models.is_empty() || models.iter().any(|listed| listed == model)
            }),
        }
    }

    /// A key that serves every model: for bodies whose model cannot be seen.
    pub fn choose_unrestricted_key(&self, chance: u64) -> Result<usize, NoKey> {
        self.pick(&self.any_model, chance, <[String]>::is_empty)
    }

    fn pick(&self, choices: &Choices, chance: u64, serves: impl Fn(&[String]) -> bool) -> Result<usize, NoKey> {
        let Some((total, _)) = choices.last() else {
            return Err(if self.waiting.iter().any(|models| serves(models)) {
                NoKey::ValueMissing
            } else if self.keys.is_empty() && self.waiting.is_empty() {
                NoKey::NoneConfigured
            } else {
                NoKey::ModelNotListed
            });
        };
        let point = chance % total;
        let at = choices.partition_point(|(sum, _)| *sum <= point);
        Ok(choices[at].1)
    }
}

/// A number for each text, the same for as long as the process lives, so that pools compare numbers where a request passes.
fn number_of(id: String) -> usize {
    static NUMBERS: Mutex<BTreeMap<String, usize>> = Mutex::new(BTreeMap::new());
    let mut numbers = NUMBERS.lock().unwrap_or_else(PoisonError::into_inner);
    let next = numbers.len();
    *numbers.entry(id).or_insert(next)
}

/// Running sums of the weights of the keys that serve a model. Keys of weight 0 are in only when there is no other.
fn choices(rules: &[(u32, &[String])], serves: impl Fn(&[String]) -> bool) -> Choices {
    let serving: Vec<_> = rules.iter().enumerate().filter(|(_, (_, models))| serves(models)).collect();
    let all_zero = serving.iter().all(|(_, (weight, _))| *weight == 0);
    let mut sum = 0;
    let mut choices = Vec::new();
    for (index, (weight, _)) in serving {
        let weight = if all_zero { 1 } else { u64::from(*weight) };
        if weight > 0 {
            sum += weight;
            choices.push((sum, index));
        }
    }
    choices
}

fn auth_header(scheme: AuthScheme, value: &str) -> Option<(http::HeaderName, HeaderValue)> {
    let (name, text) = match scheme {
        AuthScheme::Bearer => (http::header::AUTHORIZATION, format!("Bearer {value}")),
        AuthScheme::XApiKey => (http::HeaderName::from_static("x-api-key"), value.to_owned()),
    };
    let mut header = HeaderValue::from_str(&text).ok()?;
    header.set_sensitive(true);
    Some((name, header))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use bifrost_config::file;

    /// A snapshot of a `config.json`; keys are written into the text.
    pub(crate) fn snapshot(text: &str) -> Arc<Snapshot> {
        snapshot_with(text, |_| {})
    }

    /// The same with another traffic table.
    pub(crate) fn snapshot_with(text: &str, edit: impl FnOnce(&mut TrafficTable)) -> Arc<Snapshot> {
        let loaded = file::load(text, &|_| None).unwrap();
        let keys = PublishedKeys { values: loaded.values, ..PublishedKeys::default() };
        let mut traffic = TrafficTable::new(&loaded.migration, "", 1, "rev");
        edit(&mut traffic);
        let file = Some("config.json".to_owned());
        Snapshot::build(
            Parts { config: loaded.config, tried: None, traffic, digest: String::new(), keys, file },
            &TlsRoots::with_file(None).unwrap(),
        )
        .unwrap()
    }

    #[test]
    fn keys_are_chosen_by_weight_and_model() {
        let snapshot = snapshot(
            r#"{"providers":{"openai":{"network_config":{"base_url":"http://127.0.0.1:1"},"keys":[
            {"name":"a","value":"sk-a","weight":0.8},{"name":"b","value":"sk-b","weight":0.2},
            {"name":"c","value":"sk-c","models":["gpt-5"],"weight":1.0}]}}}"#,
        );
        let upstream = &snapshot.upstreams[0];
        let count = |model: &str, name: &str| {
            let chosen = |chance| &upstream.keys[upstream.choose_key(Some(model), chance).unwrap()];
            (0..2000).filter(|chance| &*chosen(*chance).name == name).count()
        };
        assert_eq!((count("gpt-4o", "a"), count("gpt-4o", "b"), count("gpt-4o", "c")), (1600, 400, 0));
        assert_eq!((count("gpt-5", "a"), count("gpt-5", "b"), count("gpt-5", "c")), (800, 200, 1000));
    }

    #[test]
    fn a_model_that_no_key_lists_is_told_from_a_missing_key() {
        let listed = snapshot(
            r#"{"providers":{"openai":{"network_config":{"base_url":"http://127.0.0.1:1"},"keys":[{"value":"sk-a","models":["x"]}]}}}"#,
        );
        assert_eq!(listed.upstreams[0].choose_key(Some("y"), 0).unwrap_err(), NoKey::ModelNotListed);
        assert!(listed.upstreams[0].choose_unrestricted_key(0).is_err());
        let none =
            snapshot(r#"{"providers":{"openai":{"network_config":{"base_url":"http://127.0.0.1:1"},"keys":[]}}}"#);
        assert_eq!(none.upstreams[0].choose_key(Some("y"), 0).unwrap_err(), NoKey::NoneConfigured);
    }

    #[test]
    fn a_key_without_a_value_is_the_reason_only_where_it_would_serve() {
        let complete = snapshot(
            r#"{"providers":{"openai":{"network_config":{"base_url":"http://127.0.0.1:1"},"keys":[
            {"name":"a","value":"sk-a","models":["x"]},{"name":"b","value":"sk-b","models":["y"]}]}}}"#,
        );
        let mut parts = complete.parts.clone();
        parts.keys.values.remove("b");
        let partial = Snapshot::build(parts, &TlsRoots::with_file(None).unwrap()).unwrap();
        let upstream = &partial.upstreams[0];
        assert!(upstream.choose_key(Some("x"), 0).is_ok());
        assert_eq!(upstream.choose_key(Some("y"), 0), Err(NoKey::ValueMissing));
        assert_eq!(upstream.choose_key(Some("z"), 0), Err(NoKey::ModelNotListed));
    }

    #[test]
    fn of_several_entries_the_one_named_like_the_front_is_its_own() {
        let custom = |name: &str| {
            format!(
                r#""{name}":{{"keys":[],"custom_provider_config":{{"base_provider_type":"openai"}},"network_config":{{"base_url":"http://127.0.0.1:1"}}}}"#
            )
        };
        let one = snapshot(&format!("{{\"providers\":{{{}}}}}", custom("acme")));
        assert_eq!(one.own_provider(Front::OpenAI), OwnProvider::One(0));
        assert_eq!(one.own_provider(Front::Anthropic), OwnProvider::Missing);
        let two = snapshot(&format!("{{\"providers\":{{{},{}}}}}", custom("acme"), custom("openai")));
        assert_eq!(two.own_provider(Front::OpenAI), OwnProvider::One(1));
        let two = snapshot(&format!("{{\"providers\":{{{},{}}}}}", custom("acme"), custom("other")));
        assert_eq!(two.own_provider(Front::OpenAI), OwnProvider::Ambiguous);
        assert_eq!(two.split_model("other/gpt/x"), Some((1, "gpt/x")));
        assert_eq!(two.split_model("openai/gpt"), None);
    }

    #[test]
    fn a_version_in_the_base_url_is_not_doubled() {
        let with =
            snapshot(r#"{"providers":{"openai":{"network_config":{"base_url":"http://127.0.0.1:1/v1"},"keys":[]}}}"#);
        assert_eq!(with.upstreams[0].path_prefix, "/v1");
        let without =
            snapshot(r#"{"providers":{"openai":{"network_config":{"base_url":"http://127.0.0.1:1/x"},"keys":[]}}}"#);
        assert_eq!(without.upstreams[0].path_prefix, "/x/v1");
        let other = snapshot(
            r#"{"providers":{"openai":{"network_config":{"base_url":"http://127.0.0.1:1/v1beta/openai"},"keys":[]}}}"#,
        );
        assert_eq!(other.upstreams[0].path_prefix, "/v1beta/openai");
    }

    #[test]
    fn key_values_do_not_show_in_debug() {
        let snapshot = snapshot(
            r#"{"providers":{"openai":{"network_config":{"base_url":"http://127.0.0.1:1"},"keys":[{"value":"sk-hidden"}]}}}"#,
        );
        assert!(!format!("{snapshot:?}").contains("sk-hidden"));
    }
}
