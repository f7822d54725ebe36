//! What is known of the ConfigMap and the Secret, put together. Pure: the watch brings objects, the parts of snapshots come out.

use std::collections::BTreeMap;

use bifrost_config::published::{Published, PublishedError, PublishedKeys};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::snapshot::Parts;

/// How an object was learned of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// Asked for: it is what the API server has.
    Asked,
    /// Told by a watch, which may lag behind what was asked for.
    Told,
}

/// Which write of which object was seen last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Seen {
    uid: String,
    /// Resource versions are numbers of one object's writes in order; none where an API server makes them otherwise.
    version: Option<u64>,
}

impl Seen {
    fn of(meta: &ObjectMeta) -> Self {
        let version = meta.resource_version.as_ref().and_then(|version| version.parse().ok());
        Self { uid: meta.uid.clone().unwrap_or_default(), version }
    }

    /// Whether a watch tells of an earlier write than the one seen.
    fn is_after(&self, told: &Self) -> bool {
        self.uid == told.uid && self.version.zip(told.version).is_some_and(|(seen, told)| told < seen)
    }
}

/// The two objects as last seen.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    config: Option<BTreeMap<String, String>>,
    config_seen: Seen,
    /// `None` before the Secret was looked for. One that is missing keeps its last content serving.
    keys: Option<PublishedKeys>,
    keys_seen: Seen,
    /// Whether the ConfigMap was looked for and is not there.
    config_is_missing: bool,
}

impl Inbox {
    /// One that knows these keys from a copy until the Secret is seen.
    pub(super) fn new(keys: Option<PublishedKeys>) -> Self {
        Self { keys, ..Self::default() }
    }

    /// The ConfigMap as it is now; `None`: there is none.
    pub(super) fn config_map(&mut self, news: News, object: Option<ConfigMap>) {
        self.config_is_missing = object.is_none();
        let Some(object) = object else { return };
        let seen = Seen::of(&object.metadata);
        if news == News::Asked || !self.config_seen.is_after(&seen) {
            self.config = Some(object.data.unwrap_or_default());
            self.config_seen = seen;
        }
    }

    /// The Secret as it is now; `None`: there is none.
    pub(super) fn secret(&mut self, news: News, object: Option<Secret>) {
        let Some(object) = object else {
            self.keys.get_or_insert_default();
            return;
        };
        let seen = Seen::of(&object.metadata);
        if news == News::Asked || !self.keys_seen.is_after(&seen) {
            let data = object.data.unwrap_or_default();
            self.keys =
                Some(PublishedKeys::parse(data.iter().map(|(name, value)| (name.as_str(), value.0.as_slice()))));
            self.keys_seen = seen;
        }
    }

    /// Whether the ConfigMap was looked for in vain.
    pub(super) fn config_is_missing(&self) -> bool {
        self.config_is_missing
    }

    /// The members of the ConfigMap last seen.
    pub(super) fn members(&self) -> Option<&BTreeMap<String, String>> {
        self.config.as_ref()
    }

    /// Keys as last seen.
    pub(super) fn keys(&self) -> Option<&PublishedKeys> {
        self.keys.as_ref()
    }

    /// Whether a configuration names a key that `known` does not, and whose value is not known here.
    pub(super) fn lacks_a_new_value(&self, known: &Parts) -> bool {
        let Some(Ok(Read { parts, .. })) = self.parts() else { return false };
        let is_known = |name: &str| known.configs().flat_map(|config| &config.keys).any(|key| key.name == name);
        let mut names = parts.configs().flat_map(|config| &config.keys).map(|key| &key.name);
        names.any(|name| !parts.keys.values.contains_key(name) && !is_known(name))
    }

    /// What the two make, once both are known.
    pub(super) fn parts(&self) -> Option<Result<Read, PublishedError>> {
        let (members, keys) = (self.config.as_ref()?, self.keys.as_ref()?);
        Some(Read::new(members, keys.clone()))
    }
}

/// A ConfigMap's members and keys, read.
pub(super) struct Read {
    pub(super) parts: Parts,
    /// Members that this version does not know; they have no effect.
    pub(super) unknown: Vec<String>,
}

impl Read {
    pub(super) fn new(members: &BTreeMap<String, String>, keys: PublishedKeys) -> Result<Self, PublishedError> {
        let Published { config, candidate: tried, traffic, digest, unknown } = Published::parse(members)?;
        Ok(Self { parts: Parts { config, tried, traffic, digest, keys, file: None }, unknown })
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::super::store::tests::members;
    use super::*;

    fn meta(version: u64) -> ObjectMeta {
        ObjectMeta { uid: Some("o".into()), resource_version: Some(version.to_string()), ..ObjectMeta::default() }
    }

    fn config_map(version: u64, epoch: u64) -> Option<ConfigMap> {
        Some(ConfigMap { metadata: meta(version), data: Some(members("u", epoch, 10)), ..ConfigMap::default() })
    }

    fn secret(version: u64, value: &str) -> Option<Secret> {
        let data = BTreeMap::from([("key.main".to_owned(), ByteString(value.as_bytes().to_vec()))]);
        Some(Secret { metadata: meta(version), data: Some(data), ..Secret::default() })
    }

    fn read(inbox: &Inbox) -> Parts {
        inbox.parts().unwrap().ok().unwrap().parts
    }

    fn value(inbox: &Inbox) -> String {
        read(inbox).keys.values["main"].expose().to_owned()
    }

    #[test]
    fn there_is_nothing_before_both_objects_were_looked_for() {
        let mut inbox = Inbox::default();
        inbox.config_map(News::Told, config_map(1, 7));
        assert!(inbox.parts().is_none());
        inbox.secret(News::Told, None);
        let parts = read(&inbox);
        assert_eq!((parts.traffic.epoch, parts.keys.values.len()), (7, 0));
    }

    #[test]
    fn a_secret_that_is_deleted_keeps_its_last_values_serving() {
        let mut inbox = Inbox::default();
        inbox.config_map(News::Told, config_map(1, 7));
        inbox.secret(News::Told, secret(2, "sk-1"));
        inbox.secret(News::Told, None);
        assert_eq!(value(&inbox), "sk-1");
    }

    #[test]
    fn a_watch_that_lags_does_not_bring_back_what_was_before() {
        let mut inbox = Inbox::default();
        inbox.config_map(News::Asked, config_map(5, 8));
        inbox.secret(News::Asked, secret(9, "sk-2"));
        inbox.config_map(News::Told, config_map(4, 7));
        inbox.secret(News::Told, secret(8, "sk-1"));
        assert_eq!(value(&inbox), "sk-2");
        assert_eq!(read(&inbox).traffic.epoch, 8);
        // A restored API server counts anew, and is believed once asked.
        inbox.secret(News::Asked, secret(3, "sk-0"));
        assert_eq!(value(&inbox), "sk-0");
    }

    #[test]
    fn members_that_cannot_be_read_say_which() {
        let mut inbox = Inbox::new(Some(PublishedKeys::default()));
        inbox.config_map(News::Told, Some(ConfigMap { metadata: meta(1), ..ConfigMap::default() }));
        let problem = inbox.parts().unwrap().err().unwrap();
        assert_eq!(problem.to_string(), "stable.json is missing");
    }
}
