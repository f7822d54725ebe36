//! The members of the published ConfigMap: what changes, and under which epoch. Pure.
//!
//! A member whose meaning is the same keeps its text, so that a newer operator changes nothing by itself.

use std::collections::BTreeMap;

use bifrost_config::published::{
    CANDIDATE, CONFIG_VERSION, MAX_STABLE_BYTES, Published, Rollout, STABLE, STATE, Stable, TRAFFIC, TrafficTable,
    candidate_digest, digest,
};
use bifrost_config::{Config, Migration};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::migration::progress::Progress;
use crate::rollout::record::Record;

/// The form of `state.json` that this code writes.
const STATE_VERSION: u32 = 1;

/// `state.json`: what the operator must remember and cannot see elsewhere.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct State {
    /// Version of this form.
    pub state_version: u32,
    /// UID of the gateway.
    pub gateway_uid: String,
    /// The newest epoch that was given out.
    pub epoch: u64,
    /// Image that the Deployment was last given.
    pub image: String,
    /// Where the migration is. One that this version cannot read is as good as lost; the rest is not.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "lenient")]
    pub migration: Option<Progress>,
    /// How revisions of the gateway itself follow each other; likewise.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "lenient")]
    pub rollout: Option<Record>,
    /// Members of a later operator: kept.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

fn lenient<'de, D: Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<Option<T>, D::Error> {
    let value = Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(value).ok())
}

/// The ConfigMap as it was read, as far as it is usable and this gateway's.
#[derive(Debug, Clone, Default)]
pub struct Live {
    data: BTreeMap<String, String>,
    /// What pods read of it.
    pub published: Option<Published>,
    /// The notebook.
    pub state: State,
}

impl Live {
    /// Reads the members of the ConfigMap.
    pub fn parse(data: BTreeMap<String, String>, gateway_uid: &str) -> Self {
        let published = Published::parse(&data).ok().filter(|published| published.traffic.gateway_uid == gateway_uid);
        let state = data.get(STATE).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        let state = Some(state).filter(|state: &State| state.gateway_uid == gateway_uid).unwrap_or_default();
        Self { data, published, state }
    }

    /// The greatest epoch it knows of.
    pub fn epoch(&self) -> u64 {
        self.state.epoch.max(self.published.as_ref().map_or(0, |published| published.traffic.epoch))
    }

    /// Whether a published configuration names this key.
    pub fn names_key(&self, name: &str) -> bool {
        let stable = self.published.as_ref().map(|published| &published.config);
        stable.into_iter().chain(self.candidate()).flat_map(|config| &config.keys).any(|key| key.name == name)
    }

    /// The configuration of the candidate, where it has one of its own.
    pub fn candidate(&self) -> Option<&Config> {
        self.published.as_ref()?.candidate.as_ref()?.as_ref().ok()
    }

    /// The migration that the published table carries out.
    pub fn migration(&self) -> Option<Migration> {
        Some(self.published.as_ref()?.traffic.migration())
    }

    fn text(&self, member: &str) -> String {
        self.data.get(member).cloned().unwrap_or_default()
    }
}

/// What is to be published.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// UID of the gateway.
    pub gateway_uid: &'a str,
    /// The configuration.
    pub config: &'a Config,
    /// The split.
    pub migration: &'a Migration,
    /// Where the migration is.
    pub progress: &'a Progress,
    /// The image of the Deployment.
    pub image: &'a str,
    /// How revisions follow each other.
    pub record: &'a Record,
    /// The configuration of the candidate, where it has one of its own.
    pub candidate: Option<&'a Config>,
    /// Where the candidate's own pods are reached.
    pub forward: &'a str,
    /// Greatest epoch that is known from elsewhere: status and pods.
    pub known_epoch: u64,
}

/// The members as they shall be.
#[derive(Debug, Clone, PartialEq)]
pub struct Publication {
    /// `data` of the ConfigMap.
    pub data: BTreeMap<String, String>,
    /// The table in it.
    pub traffic: TrafficTable,
    /// Where the migration is with it.
    pub progress: Progress,
    /// How revisions follow each other with it.
    pub record: Record,
    /// Digest that pods shall report.
    pub digest: String,
    /// Whether the configuration differs from the published one.
    pub config_changed: bool,
    /// The split that was published before, if the new one differs.
    pub traffic_before: Option<Migration>,
}

/// The configuration does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the configuration has {bytes} bytes, and at most {MAX_STABLE_BYTES} can be published")]
pub struct TooLarge {
    /// Bytes of `stable.json`.
    pub bytes: usize,
}

/// The text of `stable.json`.
pub fn stable_text(config: &Config) -> Result<String, TooLarge> {
    // A Config has string keys only and always serialises.
    let stable = Stable { config_version: CONFIG_VERSION, config: config.clone() };
    let text = serde_json::to_string(&stable).unwrap_or_default();
    if text.len() > MAX_STABLE_BYTES { Err(TooLarge { bytes: text.len() }) } else { Ok(text) }
}

/// Decides what the ConfigMap shall hold.
pub fn publish(live: &Live, request: &Request<'_>) -> Result<Publication, TooLarge> {
    let intact = live.published.as_ref().filter(|published| is_intact(published));
    let same_config = intact.is_some_and(|published| published.config == *request.config);
    let stable = if same_config { live.text(STABLE) } else { stable_text(request.config)? };
    let same_candidate = intact.is_some() && live.candidate() == request.candidate;
    let candidate = match request.candidate {
        Some(_) if same_candidate => Some(live.text(CANDIDATE)),
        other => other.map(stable_text).transpose()?,
    };
    // What pods count begins anew with another split, and where something else begins to be watched.
    let watched = live.state.migration.as_ref().and_then(|progress| progress.watched);
    let begins = request.progress.watched.is_some() && request.progress.watched != watched;
    let before = live.published.as_ref().map(|published| &published.traffic);
    let rollout = rollout(request, candidate.as_deref());
    let table = |epoch| {
        let table = TrafficTable::new(request.migration, request.gateway_uid, epoch, &request.record.stable.id);
        let table = TrafficTable { rollout: rollout.clone(), ..table }.following(before);
        let since = if begins { epoch } else { table.since };
        TrafficTable { since, ..table }
    };
    let same_table = intact.is_some_and(|published| published.traffic == table(published.traffic.epoch));
    let same_state = live.state.state_version == STATE_VERSION
        && live.state.image == request.image
        && live.state.migration.as_ref() == Some(request.progress)
        && live.state.rollout.as_ref() == Some(request.record);
    let epochs_agree = intact.is_some_and(|published| published.traffic.epoch == live.state.epoch);
    let newest = live.epoch() >= request.known_epoch;
    let (progress, record) = (request.progress.clone(), request.record.clone());
    if same_config && same_candidate && same_table && same_state && epochs_agree && newest {
        let mut data: BTreeMap<_, _> =
            [STABLE, TRAFFIC, STATE].map(|member| (member.to_owned(), live.text(member))).into();
        data.extend(candidate.map(|text| (CANDIDATE.to_owned(), text)));
        let (traffic, digest) = (table(live.epoch()), digest(&stable, &live.text(TRAFFIC)));
        return Ok(Publication {
            data,
            traffic,
            progress,
            record,
            digest,
            config_changed: false,
            traffic_before: None,
        });
    }
    let epoch = live.epoch().max(request.known_epoch).saturating_add(1);
    let traffic = table(epoch);
    let state = State {
        state_version: STATE_VERSION,
        gateway_uid: request.gateway_uid.to_owned(),
        epoch,
        image: request.image.to_owned(),
        migration: Some(progress.clone()),
        rollout: Some(record.clone()),
        rest: live.state.rest.clone(),
    };
    let traffic_text = serde_json::to_string(&traffic).unwrap_or_default();
    let state_text = serde_json::to_string(&state).unwrap_or_default();
    let digest = digest(&stable, &traffic_text);
    let mut data: BTreeMap<_, _> = [(STABLE, stable), (TRAFFIC, traffic_text), (STATE, state_text)]
        .map(|(member, text)| (member.to_owned(), text))
        .into();
    data.extend(candidate.map(|text| (CANDIDATE.to_owned(), text)));
    Ok(Publication {
        digest,
        traffic,
        progress,
        record,
        config_changed: !same_config,
        traffic_before: live.migration().filter(|before| !before.splits_like(request.migration)),
        data,
    })
}

/// Whether this version wrote it, and nobody else since.
fn is_intact(published: &Published) -> bool {
    published.unknown.is_empty() && !matches!(published.candidate, Some(Err(_)))
}

/// The candidate's share; none where pods hold no candidate.
fn rollout(request: &Request<'_>, candidate: Option<&str>) -> Option<Rollout> {
    let (revision, served) = request.record.served()?;
    Some(Rollout {
        revision: revision.id.clone(),
        config: candidate.map(candidate_digest),
        percent: served.percent,
        since: 0,
        // Its users are others than those of the migration, and of the candidate before.
        salt: format!("{}/rollout/{}", request.migration.salt, revision.id),
        forward: served.pods.map(|_| request.forward.to_owned()),
        preview: served.preview,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::tests::{config, migration, progress};
    use crate::rollout::revision::Revision;
    use std::sync::LazyLock;

    static PROGRESS: LazyLock<Progress> = LazyLock::new(|| progress(10));
    static RECORD: LazyLock<Record> = LazyLock::new(|| Record::new(Revision::new("c", "r/g:1"), None));

    fn request<'a>(config: &'a Config, migration: &'a Migration) -> Request<'a> {
        Request {
            gateway_uid: "g",
            config,
            migration,
            progress: &PROGRESS,
            image: "r/g:1",
            record: &RECORD,
            candidate: None,
            forward: "http://ai-bifrost-candidate.llm.svc:8082",
            known_epoch: 0,
        }
    }

    fn first() -> Publication {
        publish(&Live::default(), &request(&config(), &migration(10))).unwrap()
    }

    fn live() -> Live {
        Live::parse(first().data, "g")
    }

    #[test]
    fn the_first_table_has_epoch_one_and_pods_can_read_it() {
        let first = first();
        let read = Published::parse(&first.data).unwrap();
        assert_eq!((read.traffic.epoch, read.traffic.percent), (1, 10));
        assert_eq!(read.digest, first.digest);
        assert!(first.config_changed);
    }

    #[test]
    fn nothing_new_changes_no_byte() {
        let again = publish(&live(), &request(&config(), &migration(10))).unwrap();
        assert_eq!((again.data, again.digest), (first().data, first().digest));
        assert!(!again.config_changed && again.traffic_before.is_none());
    }

    #[test]
    fn a_new_percent_rises_the_epoch_and_keeps_the_configuration() {
        let next = publish(&live(), &request(&config(), &migration(25))).unwrap();
        assert_eq!((next.traffic.epoch, next.traffic.percent), (2, 25));
        assert_eq!(next.data[STABLE], first().data[STABLE]);
        assert!(!next.config_changed);
        assert_eq!(next.traffic_before.map(|before| before.percent), Some(10));
    }

    #[test]
    fn a_text_of_the_same_meaning_is_kept() {
        let mut data = first().data;
        let spaced = data[STABLE].replacen(":{", ": {", 1);
        data.insert(STABLE.into(), spaced.clone());
        // The revision in the table belongs to the text, so another table follows once.
        let kept = publish(&Live::parse(data, "g"), &request(&config(), &migration(10))).unwrap();
        assert_eq!(kept.data[STABLE], spaced);
        assert!(!kept.config_changed);
    }

    #[test]
    fn a_table_that_somebody_changed_or_rolled_back_is_replaced_under_a_higher_epoch() {
        let mut edited = first().data;
        let hundred = edited[TRAFFIC].replace("\"percent\":10", "\"percent\":100");
        edited.insert(TRAFFIC.into(), hundred);
        let repaired = publish(&Live::parse(edited, "g"), &request(&config(), &migration(10))).unwrap();
        assert_eq!((repaired.traffic.epoch, repaired.traffic.percent), (2, 10));

        let (config, migration) = (config(), migration(10));
        let known = Request { known_epoch: 40, ..request(&config, &migration) };
        assert_eq!(publish(&live(), &known).unwrap().traffic.epoch, 41);
        assert_eq!(publish(&Live::default(), &known).unwrap().traffic.epoch, 41);
    }

    #[test]
    fn an_image_that_somebody_wrote_into_the_notebook_is_put_back() {
        let mut edited = first().data;
        let evil = edited[STATE].replace("r/g:1", "evil.example/x:1");
        edited.insert(STATE.into(), evil);
        let repaired = publish(&Live::parse(edited, "g"), &request(&config(), &migration(10))).unwrap();
        assert_eq!(Live::parse(repaired.data, "g").state.image, "r/g:1");
        assert!(!repaired.config_changed && repaired.traffic_before.is_none());
    }

    #[test]
    fn the_table_of_an_earlier_gateway_of_the_same_name_counts_for_nothing() {
        let other = Live::parse(first().data, "h");
        assert!(other.published.is_none());
        assert_eq!(other.epoch(), 0);
    }

    #[test]
    fn the_notebook_keeps_what_a_later_operator_wrote() {
        let mut data = first().data;
        let later = data[STATE].replacen('{', "{\"later\":5,", 1);
        data.insert(STATE.into(), later);
        let next = publish(&Live::parse(data, "g"), &request(&config(), &migration(11))).unwrap();
        assert!(next.data[STATE].contains("\"later\":5"), "{}", next.data[STATE]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let large = Config { ca_bundle: Some("x".repeat(MAX_STABLE_BYTES)), ..config() };
        assert!(publish(&live(), &request(&large, &migration(10))).is_err());
    }
}
