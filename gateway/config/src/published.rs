//! What the operator publishes for the pods of one gateway: the members of its one ConfigMap and its one Secret.
//!
//! `stable.json` is the [`Config`], `candidate.json` the one that a rollout tries beside it, `traffic.json` the traffic table; `state.json` is the operator's own notebook, which pods do
//! not read. A member that a pod does not know is reported, not refused, and a pod reads one `configVersion` older and newer than
//! its own, so that operator and gateway can be upgraded one after the other.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{Config, KeyValues, MatchRule, Migration, SecretValue, Shadow, StickyKey, Strategy};

/// The form of `stable.json` that this code writes.
pub const CONFIG_VERSION: u32 = 1;
/// ConfigMap member: the configuration.
pub const STABLE: &str = "stable.json";
/// ConfigMap member: the configuration of a rollout's candidate, in the form of `stable.json`, where it has one of its own.
pub const CANDIDATE: &str = "candidate.json";
/// ConfigMap member: the traffic table.
pub const TRAFFIC: &str = "traffic.json";
/// ConfigMap member: the operator's notebook.
pub const STATE: &str = "state.json";
/// Most bytes that `stable.json` may have; an object of the API server holds 1 MiB, and the candidate needs room beside it.
pub const MAX_STABLE_BYTES: usize = 450 * 1024;
/// Secret member: the token that the operator shows on the admin port.
pub const ADMIN_TOKEN: &str = "admin-token";
/// Secret member: how often each key's value changed, as JSON `{"name": 3}`.
pub const GENERATIONS: &str = "generations.json";
/// Secret members with this prefix hold the value of the provider key named behind it.
pub const KEY_PREFIX: &str = "key.";

/// `stable.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stable {
    /// Version of this form.
    pub config_version: u32,
    /// The configuration.
    pub config: Config,
}

/// `traffic.json`: which requests take which arm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TrafficTable {
    /// UID of the BifrostGateway; empty when standalone.
    pub gateway_uid: String,
    /// Number of this table; only ever rises for one UID.
    pub epoch: u64,
    /// Epoch of the first table that split like this one: what pods count for the analysis belongs to it, whichever tables they saw.
    /// 0: not said.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub since: u64,
    /// Short name of the configuration's revision, for `x-bf-revision`.
    pub revision: String,
    /// How traffic moves onto the gateway.
    pub strategy: Strategy,
    /// Share of the eligible users that takes the bifrost arm now, 0 to 100; 0 for Gradual.
    pub percent: u8,
    /// Gradual: a request that one of these fits takes the bifrost arm.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<MatchRule>,
    /// What holds a user on an arm.
    pub sticky_key: StickyKey,
    /// Salt of the cohort hash.
    pub salt: String,
    /// Whether a request may choose its arm by the header `x-bf-arm`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_arm_header: bool,
    /// Copies of one arm's requests to the other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<Shadow>,
    /// Whether the tool calls in answers are looked at: it costs something where there are some, so only where a check asks for it. An
    /// operator that does not say may have such a check.
    #[serde(default = "yes", skip_serializing_if = "Clone::clone")]
    pub tool_calls: bool,
    /// The same of plain answers that may be empty.
    #[serde(default = "yes", skip_serializing_if = "Clone::clone")]
    pub empty_answers: bool,
    /// The candidate that is tried beside the stable revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
}

/// Which requests a candidate serves in place of the stable revision, whichever arm they take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rollout {
    /// Name of the candidate, for `x-bf-revision`.
    pub revision: String,
    /// Digest of `candidate.json` ([`candidate_digest`]); none: the candidate has the configuration of `stable.json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
    /// Share of the users that it serves, 0 to 100.
    pub percent: u8,
    /// Epoch of the first table that gave this candidate this share: what pods count of it belongs to that.
    pub since: u64,
    /// Salt of the hash that chooses its users: others for each candidate than those of the migration.
    pub salt: String,
    /// Where the candidate's own pods take requests, such as `http://ai-bifrost-candidate.llm.svc:8082`; none: it is served here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forward: Option<String>,
    /// Whether the preview's port serves it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub preview: bool,
}

impl Rollout {
    /// Whether two give the same candidate the same share, so that their requests may be counted together.
    pub fn shares_like(&self, other: &Self) -> bool {
        let alone = |rollout: &Self| Self { since: 0, config: None, ..rollout.clone() };
        alone(self) == alone(other)
    }
}

const fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl TrafficTable {
    /// The table of a split. When that began it does not say: see [`Self::following`].
    pub fn new(migration: &Migration, gateway_uid: &str, epoch: u64, revision: &str) -> Self {
        Self {
            gateway_uid: gateway_uid.to_owned(),
            epoch,
            since: 0,
            revision: revision.to_owned(),
            strategy: migration.strategy,
            percent: migration.percent,
            rules: migration.rules.clone(),
            sticky_key: migration.sticky_key.clone(),
            salt: migration.salt.clone(),
            allow_arm_header: migration.allow_arm_header,
            shadow: migration.shadow.clone(),
            tool_calls: migration.tool_calls,
            empty_answers: migration.empty_answers,
            rollout: None,
        }
    }

    /// The same table after the one before it: where both split alike, the split began when that one's did, and likewise the
    /// candidate's share. Where that one does not say,
    /// it counts as beginning now: a table that never said would be counted under no mark for ever.
    pub fn following(self, before: Option<&Self>) -> Self {
        let alike = before.filter(|before| before.since > 0 && before.splits_like(&self));
        let since = alike.map_or(self.epoch, |before| before.since);
        let rollout_before = before.and_then(|before| before.rollout.as_ref());
        let rollout = self.rollout.map(|rollout| {
            let alike = rollout_before.filter(|before| before.since > 0 && before.shares_like(&rollout));
            Rollout { since: alike.map_or(self.epoch, |before| before.since), ..rollout }
        });
        Self { since, rollout, ..self }
    }

    /// Whether two tables split alike, so that their requests may be counted together.
    pub fn splits_like(&self, other: &Self) -> bool {
        self.gateway_uid == other.gateway_uid
            && self.strategy == other.strategy
            && self.percent == other.percent
            && self.rules == other.rules
            && self.sticky_key == other.sticky_key
            && self.salt == other.salt
    }

    /// The split that it carries out.
    pub fn migration(&self) -> Migration {
        let table = self.clone();
        Migration {
            strategy: table.strategy,
            percent: table.percent,
            rules: table.rules,
            sticky_key: table.sticky_key,
            salt: table.salt,
            allow_arm_header: table.allow_arm_header,
            shadow: table.shadow,
            tool_calls: table.tool_calls,
            empty_answers: table.empty_answers,
        }
    }

    /// BlueGreen: whether green is active, the colour of the bifrost arm.
    pub const fn is_green(&self) -> bool {
        self.percent >= 100
    }

    /// The percent of the eligible users that it gives to the bifrost arm; none where rules decide, as nobody knows beforehand.
    pub const fn wanted_percent(&self) -> Option<u8> {
        match self.strategy {
            Strategy::Gradual if !self.rules.is_empty() => None,
            _ => Some(self.percent),
        }
    }
}

/// Why a published member cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PublishedError {
    /// Not there.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// Not of its form.
    #[error("{member} cannot be read: {source}")]
    Malformed {
        /// Which member.
        member: &'static str,
        /// The parser's words; these members hold no secrets.
        source: serde_json::Error,
    },
    /// From a version too far away.
    #[error("{member} has configVersion {found}; this gateway reads {} to {}", CONFIG_VERSION - 1, CONFIG_VERSION + 1)]
    Version {
        /// Which member.
        member: &'static str,
        /// What it says.
        found: u32,
    },
}

/// The members that pods act upon, as read from one ConfigMap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// `stable.json`.
    pub config: Config,
    /// `traffic.json`.
    pub traffic: TrafficTable,
    /// `candidate.json`, where the table's rollout has a configuration of its own; or why it cannot be used, which stops nothing else.
    pub candidate: Option<Result<Config, String>>,
    /// Digest of the bytes received.
    pub digest: String,
    /// Paths of members that this version does not know.
    pub unknown: Vec<String>,
}

impl Published {
    /// Reads the members of a ConfigMap's `data`.
    pub fn parse(data: &BTreeMap<String, String>) -> Result<Self, PublishedError> {
        let stable = data.get(STABLE).ok_or(PublishedError::Missing(STABLE))?;
        let traffic = data.get(TRAFFIC).ok_or(PublishedError::Missing(TRAFFIC))?;
        let mut unknown = Vec::new();
        let config = read_config(STABLE, stable, &mut unknown)?;
        let table: TrafficTable = read(TRAFFIC, traffic, &mut unknown)?;
        let wanted = table.rollout.as_ref().and_then(|rollout| rollout.config.as_deref());
        let candidate = wanted.map(|wanted| candidate(data.get(CANDIDATE), wanted, &mut unknown));
        Ok(Self { config, traffic: table, candidate, digest: digest(stable, traffic), unknown })
    }
}

fn candidate(text: Option<&String>, wanted: &str, unknown: &mut Vec<String>) -> Result<Config, String> {
    let text = text.ok_or_else(|| PublishedError::Missing(CANDIDATE).to_string())?;
    if candidate_digest(text) != wanted {
        return Err(format!("{CANDIDATE} is not the one that {TRAFFIC} means"));
    }
    read_config(CANDIDATE, text, unknown).map_err(|error| error.to_string())
}

fn read_config(member: &'static str, text: &str, unknown: &mut Vec<String>) -> Result<Config, PublishedError> {
    // The version first: a later form may not fit this one's types.
    let Version { config_version } = read(member, text, &mut Vec::new())?;
    if config_version.abs_diff(CONFIG_VERSION) > 1 {
        return Err(PublishedError::Version { member, found: config_version });
    }
    read::<Stable>(member, text, unknown).map(|parsed| parsed.config)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    config_version: u32,
}

fn read<T: DeserializeOwned>(member: &'static str, text: &str, unknown: &mut Vec<String>) -> Result<T, PublishedError> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    serde_ignored::deserialize(&mut deserializer, |path| unknown.push(format!("{member}: {path}")))
        .map_err(|source| PublishedError::Malformed { member, source })
}

/// Digest of the two members, as pods report it and the operator compares it. The table holds that of the candidate.
pub fn digest(stable: &str, traffic: &str) -> String {
    let mut hash = Sha256::new();
    hash.update((stable.len() as u64).to_be_bytes());
    hash.update(stable);
    hash.update(traffic);
    hex(&hash.finalize())
}

/// Digest of `candidate.json`.
pub fn candidate_digest(text: &str) -> String {
    hex(&Sha256::digest(text))
}

/// Short name of a configuration's revision: the first ten digits of its digest.
pub fn revision(stable: &str) -> String {
    let mut name = hex(&Sha256::digest(stable));
    name.truncate(10);
    name
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// What a pod takes from the gateway's Secret.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PublishedKeys {
    /// Values by key name.
    pub values: KeyValues,
    /// How often each value changed.
    pub generations: BTreeMap<String, u64>,
    /// What the operator shows on the admin port.
    pub admin_token: Option<SecretValue>,
}

impl PublishedKeys {
    /// Reads the members of a Secret's `data`, decoded from base64. A member that is no text is left out.
    pub fn parse<'a>(data: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Self {
        let mut keys = Self::default();
        for (member, bytes) in data {
            let Ok(text) = std::str::from_utf8(bytes) else { continue };
            match member {
                ADMIN_TOKEN => keys.admin_token = Some(SecretValue::new(text)),
                GENERATIONS => keys.generations = serde_json::from_str(text).unwrap_or_default(),
                member => {
                    if let Some(name) = member.strip_prefix(KEY_PREFIX) {
                        keys.values.insert(name.to_owned(), SecretValue::new(text));
                    }
                }
            }
        }
        keys
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AddressRule, Draft, ProviderDraft, ProviderType, validate};

    fn published() -> BTreeMap<String, String> {
        let draft = Draft {
            providers: vec![ProviderDraft {
                path: "p".into(),
                name: "openai".into(),
                provider_type: ProviderType::OpenAI,
                base_url: None,
                network: Default::default(),
            }],
            ..Draft::default()
        };
        let (config, plan) = validate(&draft, AddressRule::NoLocal).unwrap();
        let stable = serde_json::to_string(&Stable { config_version: CONFIG_VERSION, config }).unwrap();
        let traffic = serde_json::to_string(&TrafficTable::new(&plan.goal(), "uid", 7, &revision(&stable))).unwrap();
        BTreeMap::from([(STABLE.to_owned(), stable), (TRAFFIC.to_owned(), traffic)])
    }

    #[test]
    fn what_is_written_is_read_back() {
        let data = published();
        let read = Published::parse(&data).unwrap();
        assert_eq!(read.traffic.epoch, 7);
        assert_eq!(read.config.providers[0].base_url.to_string(), "https://api.openai.com");
        assert_eq!(read.digest, digest(&data[STABLE], &data[TRAFFIC]));
        assert!(read.unknown.is_empty());
    }

    #[test]
    fn a_later_member_is_reported_and_does_no_harm() {
        let mut data = published();
        let later = data[STABLE].replacen("\"client\":{", "\"client\":{\"later\":1,", 1);
        data.insert(STABLE.into(), later);
        assert_eq!(Published::parse(&data).unwrap().unknown, ["stable.json: config.client.later"]);
    }

    #[test]
    fn a_table_of_an_operator_that_knows_no_rules_is_read() {
        let mut data = published();
        let old = r#"{"gatewayUid":"u","epoch":3,"revision":"r","strategy":"Canary","percent":25,"stickyKey":{"from":"auto"},"salt":"s"}"#;
        data.insert(TRAFFIC.into(), old.into());
        let Published { traffic, unknown, .. } = Published::parse(&data).unwrap();
        assert_eq!((traffic.rules.len(), traffic.allow_arm_header, traffic.since), (0, false, 0));
        assert!(traffic.tool_calls && traffic.empty_answers, "it may have a check that needs them");
        assert_eq!((traffic.wanted_percent(), unknown.len()), (Some(25), 0));
        assert_eq!(serde_json::to_string(&traffic).unwrap(), old);
    }

    #[test]
    fn a_table_says_when_its_split_began() {
        let table: TrafficTable = serde_json::from_str(&published()[TRAFFIC]).unwrap();
        let at = |epoch, percent| TrafficTable { epoch, percent, ..table.clone() };
        let first = at(1, 10).following(None);
        let second = TrafficTable { allow_arm_header: true, ..at(2, 10) }.following(Some(&first));
        let third = at(3, 25).following(Some(&second));
        let fourth = at(4, 10).following(Some(&third));
        assert_eq!([&first, &second, &third, &fourth].map(|table| table.since), [1, 1, 3, 4]);
        // Where nobody knows, it begins now.
        assert_eq!(at(5, 10).following(Some(&at(4, 10))).since, 5);
    }

    #[test]
    fn a_condition_that_is_not_known_makes_the_table_unreadable() {
        let mut data = published();
        let later = data[TRAFFIC].replacen('{', r#"{"rules":[{"models":["m"],"weekdays":["Mon"]}],"#, 1);
        data.insert(TRAFFIC.into(), later);
        let error = Published::parse(&data).unwrap_err().to_string();
        assert!(error.contains("traffic.json") && error.contains("weekdays"), "{error}");
    }

    fn rollout(config: Option<&str>) -> Rollout {
        Rollout {
            revision: "b".into(),
            config: config.map(candidate_digest),
            percent: 10,
            since: 0,
            salt: "s".into(),
            forward: None,
            preview: false,
        }
    }

    fn with_rollout(rollout: Rollout, candidate: Option<String>) -> Published {
        let mut data = published();
        let table: TrafficTable = serde_json::from_str(&data[TRAFFIC]).unwrap();
        let table = TrafficTable { rollout: Some(rollout), ..table };
        data.insert(TRAFFIC.into(), serde_json::to_string(&table).unwrap());
        data.extend(candidate.map(|text| (CANDIDATE.to_owned(), text)));
        Published::parse(&data).unwrap()
    }

    #[test]
    fn a_candidate_that_cannot_be_used_stops_nothing_else() {
        let text = published()[STABLE].clone();
        let read = with_rollout(rollout(Some(&text)), Some(text.clone()));
        assert_eq!(read.candidate, Some(Ok(read.config.clone())));
        assert_eq!(with_rollout(rollout(None), Some(text.clone())).candidate, None);
        for (candidate, told) in [
            (None, "candidate.json is missing"),
            (Some(text.replace("openai", "other")), "is not the one that traffic.json means"),
        ] {
            let read = with_rollout(rollout(Some(&text)), candidate);
            let problem = read.candidate.unwrap().unwrap_err();
            assert!(problem.contains(told) && read.traffic.epoch == 7, "{problem}");
        }
        let later = text.replacen("\"configVersion\":1", "\"configVersion\":3", 1);
        let problem = with_rollout(rollout(Some(&later)), Some(later)).candidate.unwrap().unwrap_err();
        assert!(problem.starts_with("candidate.json has configVersion 3"), "{problem}");
    }

    #[test]
    fn a_share_began_with_the_first_table_that_had_it_and_a_key_changes_nothing_of_it() {
        let table: TrafficTable = serde_json::from_str(&published()[TRAFFIC]).unwrap();
        let at = |epoch, rollout| TrafficTable { epoch, rollout, ..table.clone() };
        let first = at(1, Some(rollout(None))).following(None);
        let second = at(2, Some(rollout(Some("other keys")))).following(Some(&first));
        let third = at(3, Some(Rollout { percent: 50, ..rollout(None) })).following(Some(&second));
        let fourth =
            at(4, Some(Rollout { revision: "c".into(), percent: 50, ..rollout(None) })).following(Some(&third));
        let since = [&first, &second, &third, &fourth].map(|table| table.rollout.as_ref().unwrap().since);
        assert_eq!(since, [1, 1, 3, 4]);
        assert_eq!(at(5, None).following(Some(&fourth)).rollout, None);
    }

    #[test]
    fn a_form_two_versions_away_is_refused() {
        let mut data = published();
        let far = data[STABLE].replacen("\"configVersion\":1", "\"configVersion\":3", 1);
        data.insert(STABLE.into(), far);
        assert!(matches!(Published::parse(&data), Err(PublishedError::Version { found: 3, .. })));
    }

    #[test]
    fn key_values_do_not_show_in_debug() {
        let keys = PublishedKeys::parse([
            ("key.main", b"sk-secret\n".as_slice()),
            ("generations.json", br#"{"main":2}"#),
            ("admin-token", b"tok-1"),
        ]);
        assert_eq!(keys.values["main"].expose(), "sk-secret");
        assert_eq!(keys.generations["main"], 2);
        let shown = format!("{keys:?}");
        assert!(!shown.contains("sk-secret") && !shown.contains("tok-1"), "{shown}");
    }
}
