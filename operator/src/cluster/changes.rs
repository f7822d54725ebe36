//! Watches that tell only what matters: every deletion, and a change only where the part of the object that is looked at changed.
//! Most changes are a status, and a controller that wakes others by its own status would never come to rest.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use futures::{Stream, StreamExt, future};
use kube::ResourceExt;
use kube::runtime::watcher::{Error, Event};

/// The objects of a watch whose deletion or change is worth a look. `part` is what is looked at.
pub fn changes<K, P>(
    events: impl Stream<Item = Result<Event<K>, Error>> + Send + 'static,
    part: impl Fn(&K) -> P + Send + 'static,
) -> impl Stream<Item = Result<K, Error>> + Send + 'static
where
    K: ResourceExt + Send + 'static,
    P: Hash,
{
    let mut seen = HashMap::new();
    events.filter_map(move |event| future::ready(event.map(|event| worth(&mut seen, event, &part)).transpose()))
}

type Seen = HashMap<(Option<String>, String), u64>;

fn worth<K: ResourceExt, P: Hash>(seen: &mut Seen, event: Event<K>, part: impl Fn(&K) -> P) -> Option<K> {
    let name = |object: &K| (object.namespace(), object.name_any());
    match event {
        Event::Apply(object) | Event::InitApply(object) => {
            let mut hasher = DefaultHasher::new();
            (object.uid(), part(&object)).hash(&mut hasher);
            let now = hasher.finish();
            (seen.insert(name(&object), now) != Some(now)).then_some(object)
        }
        Event::Delete(object) => {
            seen.remove(&name(&object));
            Some(object)
        }
        Event::Init | Event::InitDone => None,
    }
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
        let mut seen = Seen::new();
        let mut told = |event| worth(&mut seen, event, spec_and_labels).is_some();
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
}
