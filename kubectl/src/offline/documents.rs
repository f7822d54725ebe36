//! Manifests, read strictly: every member that is not known, and every value of a wrong type, is a problem with its path.

use std::collections::BTreeMap;

use bifrost_crds::{BifrostGateway, GROUP, ProviderKey};
use kube::ResourceExt;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// A resource and where it stands.
pub(super) struct Placed<K> {
    /// `FILE: KIND NAMESPACE/NAME`.
    pub(super) place: String,
    pub(super) resource: K,
}

/// What some files hold.
#[derive(Default)]
pub(super) struct Documents {
    pub(super) gateways: Vec<Placed<BifrostGateway>>,
    pub(super) keys: Vec<Placed<ProviderKey>>,
    /// Namespace, name and members of the Secrets; their values are not kept.
    pub(super) secrets: BTreeMap<(String, String), Vec<String>>,
    /// `data` of the ConfigMaps by namespace and name.
    pub(super) config_maps: BTreeMap<(String, String), BTreeMap<String, String>>,
    /// Problems of reading.
    pub(super) problems: Vec<String>,
}

impl Documents {
    /// Reads a file.
    pub(super) fn read(&mut self, file: &str, text: &str) {
        for (index, document) in serde_yaml_ng::Deserializer::from_str(text).enumerate() {
            // Its own kind of value first: it refuses members that are there twice.
            let value = serde_yaml_ng::Value::deserialize(document).map_err(|error| error.to_string());
            match value.and_then(|value| serde_json::to_value(value).map_err(|error| error.to_string())) {
                Ok(Value::Null) => {}
                Ok(value) => self.document(file, value),
                Err(why) => {
                    self.problems.push(format!("{file}: document {}: {why}", index + 1));
                    // What follows a document that cannot be read has no known beginning.
                    return;
                }
            }
        }
    }

    fn document(&mut self, file: &str, value: Value) {
        let text = |path: &str| value.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (version, kind) = (text("/apiVersion"), text("/kind"));
        let (namespace, name) = (text("/metadata/namespace"), text("/metadata/name"));
        let shown = if namespace.is_empty() { name.clone() } else { format!("{namespace}/{name}") };
        let place = format!("{file}: {kind} {shown}");
        if version.split('/').next() == Some(GROUP) && version != bifrost_crds::API_VERSION {
            let wanted = bifrost_crds::API_VERSION;
            return self.problems.push(format!("{place}: apiVersion: {version:?} is not served: write {wanted}"));
        }
        match (version.as_str(), kind.as_str()) {
            ("v1", "List") => {
                for item in value["items"].as_array().into_iter().flatten() {
                    self.document(file, item.clone());
                }
            }
            (bifrost_crds::API_VERSION, "BifrostGateway") => {
                let gateway = strict(&place, &value, &mut self.problems);
                self.gateways.extend(gateway.map(|resource| Placed { place, resource }));
            }
            (bifrost_crds::API_VERSION, "ProviderKey") => {
                let key = strict(&place, &value, &mut self.problems);
                self.keys.extend(key.map(|resource| Placed { place, resource }));
            }
            (bifrost_crds::API_VERSION, kind) => {
                self.problems.push(format!("{place}: kind: {kind:?} is not known: BifrostGateway or ProviderKey"));
            }
            ("v1", "Secret") => {
                let members = ["data", "stringData"].into_iter().filter_map(|member| value[member].as_object());
                let names = members.flat_map(|data| data.keys().cloned()).collect();
                self.secrets.insert((namespace, name), names);
            }
            ("v1", "ConfigMap") => {
                let data = value["data"].as_object().into_iter().flatten();
                let texts = data.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())));
                self.config_maps.insert((namespace, name), texts.collect());
            }
            // What else a file holds is not ours to judge.
            _ => {}
        }
    }
}

/// Namespace and name.
pub(super) fn key_of(resource: &impl kube::Resource) -> (String, String) {
    (resource.namespace().unwrap_or_default(), resource.name_any())
}

fn strict<K: DeserializeOwned>(place: &str, value: &Value, problems: &mut Vec<String>) -> Option<K> {
    let mut unknown = Vec::new();
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(value, &mut track);
    let read = serde_ignored::deserialize(tracked, |path| unknown.push(plain(&path.to_string())));
    // The types of a kind leave its name to the API's client.
    let unknown = unknown.into_iter().filter(|path| !["apiVersion", "kind"].contains(&path.as_str()));
    let unknown = unknown.map(|path| format!("{place}: {path}: is not known: take it out, or mend its spelling"));
    problems.extend(unknown);
    match read {
        Ok(resource) => Some(resource),
        Err(error) => {
            problems.push(format!("{place}: {}: {error}", plain(&track.path().to_string())));
            None
        }
    }
}

/// A path as problems of the rules have it: `spec.config.providers[0].name`.
fn plain(path: &str) -> String {
    let mut plain = String::new();
    for part in path.split('.').filter(|part| !part.is_empty() && *part != "?") {
        if part.bytes().all(|byte| byte.is_ascii_digit()) {
            plain.push_str(&format!("[{part}]"));
        } else {
            if !plain.is_empty() {
                plain.push('.');
            }
            plain.push_str(part);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_look_the_same_whoever_found_the_problem() {
        assert_eq!(plain("spec.config.providers.0.network.?.x"), "spec.config.providers[0].network.x");
        assert_eq!(plain("spec.config.providers[0].name"), "spec.config.providers[0].name");
    }

    #[test]
    fn the_values_of_secrets_are_not_kept() {
        let mut documents = Documents::default();
        documents.read("f", "apiVersion: v1\nkind: Secret\nmetadata: {name: openai}\nstringData: {api-key: sk-1}\n");
        assert_eq!(documents.secrets[&(String::new(), "openai".to_owned())], ["api-key"]);
    }
}
