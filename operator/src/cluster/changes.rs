//! Watches that tell only what matters: every deletion, and a change only where the part of the object that is looked at changed.
//! Most changes are a status, and a controller that wakes others by its own status would never come to rest.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use futures::{Stream, StreamExt, stream};
use kube::ResourceExt;
use kube::runtime::watcher::{Error, Event};

/// The objects of a watch whose deletion or change is worth a look. `part` is what is looked at.
pub fn changes<K, P>(
    events: impl Stream<Item = Result<Event<K>, Error>> + Send + 'static,
    part: impl Fn(&K) -> P + Send + 'static,
) -> impl Stream<Item = Result<K, Error>> + Send + 'static
where
    K: ResourceExt + Clone + Send + 'static,
    P: Hash,
{
    let mut seen = Seen::default();
    events.flat_map(move |event| {
        let told: Vec<_> = match event {
            Ok(event) => seen.worth(event, &part).into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error)],
        };
        stream::iter(told)
    })
}

type Name = (Option<String>, String);

struct Seen<K> {
    /// A fingerprint of what is looked at, and the object.
    known: HashMap<Name, (u64, K)>,
    /// What a list that has begun named so far.
    listed: HashSet<Name>,
}

impl<K> Default for Seen<K> {
    fn default() -> Self {
        Self { known: HashMap::new(), listed: HashSet::new() }
    }
}

impl<K: ResourceExt + Clone> Seen<K> {
    fn worth<P: Hash>(&mut self, event: Event<K>, part: impl Fn(&K) -> P) -> Vec<K> {
        match event {
            Event::Apply(object) => self.applied(object, part),
            Event::Delete(object) => {
                self.known.remove(&name(&object));
                vec![object]
            }
            Event::Init => {
                self.listed.clear();
                Vec::new()
            }
            Event::InitApply(object) => {
                self.listed.insert(name(&object));
                self.applied(object, part)
            }
            // What was deleted while the watch was broken is told by its absence alone.
            Event::InitDone => {
                let listed = std::mem::take(&mut self.listed);
                self.known.extract_if(|name, _| !listed.contains(name)).map(|(_, (_, object))| object).collect()
            }
        }
    }

    fn applied<P: Hash>(&mut self, object: K, part: impl Fn(&K) -> P) -> Vec<K> {
        let mut hasher = DefaultHasher::new();
        (object.uid(), part(&object)).hash(&mut hasher);
        let now = hasher.finish();
        let before = self.known.insert(name(&object), (now, object.clone()));
        if before.is_some_and(|(before, _)| before == now) { Vec::new() } else { vec![object] }
    }
}

fn name<K: ResourceExt>(object: &K) -> Name {
    (object.namespace(), object.name_any())
}

/// What changes with the spec and with the labels by which objects are selected, not with the status.
pub fn spec_and_labels<K: ResourceExt>(object: &K) -> (Option<i64>, Vec<(String, String)>) {
    let labels = object.labels().iter().map(|(key, value)| (key.clone(), value.clone()));
    (object.meta().generation, labels.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;

    fn object(uid: &str, generation: i64, team: &str) -> ConfigMap {
        serde_json::from_value(serde_json::json!({"metadata": {
            "name": "a", "namespace": "n", "uid": uid, "generation": generation, "labels": {"team": team}}}))
        .unwrap()
    }

    #[test]
    fn a_status_is_no_change_and_a_deletion_always_is() {
        let mut seen = Seen::default();
        let mut told = |event| !seen.worth(event, spec_and_labels).is_empty();
        assert!(told(Event::InitApply(object("1", 1, "x"))));
        assert!(!told(Event::Apply(object("1", 1, "x"))));
        assert!(told(Event::Apply(object("1", 2, "x"))));
        assert!(told(Event::Apply(object("1", 2, "y"))));
        assert!(!told(Event::Init));
        assert!(!told(Event::InitApply(object("1", 2, "y"))));
        assert!(told(Event::Delete(object("1", 2, "y"))));
        assert!(told(Event::Apply(object("1", 2, "y"))));
        assert!(told(Event::Apply(object("2", 2, "y"))), "another object of the name");
    }

    #[test]
    fn what_a_list_does_not_name_any_more_was_deleted() {
        let mut seen = Seen::default();
        let other = |uid| {
            let mut other = object(uid, 1, "x");
            other.metadata.name = Some("b".into());
            other
        };
        let mut told = |event| seen.worth(event, spec_and_labels).iter().map(ResourceExt::name_any).collect::<Vec<_>>();
        for event in [Event::Init, Event::InitApply(object("1", 1, "x")), Event::InitApply(other("2"))] {
            told(event);
        }
        assert!(told(Event::InitDone).is_empty());
        told(Event::Init);
        told(Event::InitApply(object("1", 1, "x")));
        assert!(told(Event::Init).is_empty(), "the list broke off");
        told(Event::InitApply(other("2")));
        assert_eq!(told(Event::InitDone), ["a"]);
        assert_eq!(told(Event::Apply(object("1", 1, "x"))), ["a"]);
    }
}
