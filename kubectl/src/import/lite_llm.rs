//! LiteLLM's `config.yaml`: its deployments as providers and keys.

use std::time::Duration;

use bifrost_config::catalog::OTHER_VENDORS;
use bifrost_config::{BaseUrl, ProviderType, SecretValue};
use serde_json::Value as Json;

use super::config_json::duration;
use super::draft::{Imported, Key, Provider, Value, scale_weights};
use super::names::Names;

/// Prefixes of models whose servers speak OpenAI's dialect at an address of their own.
const COMPATIBLE: [&str; 6] = ["hosted_vllm", "openai_like", "custom_openai", "llamafile", "lm_studio", "vllm"];
/// Beginnings of model names without a prefix, by which the vendor is known.
const OPENAI_MODELS: [&str; 8] = ["gpt-", "o1", "o3", "o4", "chatgpt-", "text-embedding-", "ft:", "davinci"];
/// Members of `litellm_params` that are carried, or that are said elsewhere.
const CARRIED: [&str; 5] = ["model", "api_key", "api_base", "base_url", "weight"];

/// Reads the file.
pub(super) fn read(root: &Json) -> Imported {
    let mut reader = Reader::default();
    for (index, entry) in root["model_list"].as_array().into_iter().flatten().enumerate() {
        reader.deployment(&format!("model_list[{index}]"), entry);
    }
    reader.settings(root);
    reader.finish()
}

#[derive(Default)]
struct Reader {
    imported: Imported,
    /// Address of each provider, in its order.
    addresses: Vec<Option<String>>,
    provider_names: Names,
    key_names: Names,
}

/// What a model's name says.
struct Target<'a> {
    provider_type: ProviderType,
    model: &'a str,
}

impl Reader {
    fn note(&mut self, note: impl Into<String>) {
        self.imported.notes.push(note.into());
    }

    fn change(&mut self, change: impl Into<String>) {
        self.imported.changes.push(change.into());
    }

    fn deployment(&mut self, path: &str, entry: &Json) {
        let params = &entry["litellm_params"];
        let Some(name) = params["model"].as_str() else {
            return self.note(format!("{path}.litellm_params.model: is missing, the deployment is left out"));
        };
        let base = params.get("api_base").or_else(|| params.get("base_url"));
        let target = match target(name, base.is_some()) {
            Ok(target) => target,
            Err(why) => return self.note(format!("{path}: {why}; the deployment is left out")),
        };
        let base_url = match base.map(base_url).transpose() {
            Ok(url) => url,
            Err(why) => return self.note(format!("{path}.litellm_params.api_base: {why}; the deployment is left out")),
        };
        let base_url = base_url.filter(|url| url.to_string() != target.provider_type.vendor().base_url);
        let provider = self.provider(target.provider_type, base_url.as_ref());
        self.key(path, params, &provider, &target, base_url.as_ref());
        self.rest(path, entry, &target);
    }

    /// The provider of a type at an address, made when it is met first.
    fn provider(&mut self, provider_type: ProviderType, base_url: Option<&BaseUrl>) -> String {
        let address = base_url.map(BaseUrl::to_string);
        let pairs = self.imported.providers.iter().zip(&self.addresses);
        let mut known = pairs.filter(|(provider, at)| provider.provider_type == provider_type && **at == address);
        if let Some((provider, _)) = known.next() {
            return provider.name.clone();
        }
        let wish = base_url.map_or(provider_type.vendor().name, |url| url.host.as_str());
        let name = self.provider_names.label(wish);
        let base_url = address.clone();
        self.addresses.push(address);
        self.imported.providers.push(Provider { name: name.clone(), provider_type, base_url, network: Vec::new() });
        name
    }

    /// Adds the model to the key of this value, made when it is met first.
    fn key(&mut self, path: &str, params: &Json, provider: &str, target: &Target<'_>, base_url: Option<&BaseUrl>) {
        let value = match params["api_key"].as_str() {
            Some(text) => match text.strip_prefix("os.environ/") {
                Some(variable) => Value::Env(variable.to_owned()),
                None => Value::Literal(SecretValue::new(text)),
            },
            // Where it names none it takes the vendor's own variable.
            None => Value::Env(format!("{}_API_KEY", target.provider_type.vendor().name.to_ascii_uppercase())),
        };
        let weight = params["weight"].as_u64().and_then(|weight| u32::try_from(weight).ok());
        let is_all = target.model == "*";
        let known = self.imported.keys.iter_mut().find(|key| key.provider == provider && key.value == value);
        if let Some(key) = known {
            let differs = weight.is_some_and(|weight| weight != key.weight);
            match is_all {
                true => key.models.clear(),
                false if key.models.is_empty() || key.models.iter().any(|model| model == target.model) => {}
                false => key.models.push(target.model.to_owned()),
            }
            if differs {
                self.change(format!(
                    "{path}.litellm_params.weight: a key has one weight for all its models; the first one counts"
                ));
            }
            return;
        }
        self.imported.keys.push(Key {
            path: format!("{path}.litellm_params.api_key"),
            name: self.key_names.label(provider),
            provider: provider.to_owned(),
            value,
            models: if is_all { Vec::new() } else { vec![target.model.to_owned()] },
            weight: weight.unwrap_or(1),
            enabled: true,
            hosts: base_url.map(|url| url.host.clone()).into_iter().collect(),
        });
    }

    /// What of a deployment is not carried.
    fn rest(&mut self, path: &str, entry: &Json, target: &Target<'_>) {
        let asked = entry["model_name"].as_str().unwrap_or_default();
        let bare = asked.rsplit_once('/').map_or(asked, |(_, bare)| bare);
        if bare != target.model && asked != "*" {
            self.change(format!(
                "{path}.model_name: names of one's own are not served: ask for {} instead of {asked}",
                target.model
            ));
        }
        for name in members(&entry["litellm_params"]).filter(|name| !CARRIED.contains(name)) {
            self.note(format!("{path}.litellm_params.{name}: has no counterpart"));
        }
        for name in members(entry).filter(|name| !["model_name", "litellm_params"].contains(name)) {
            self.note(format!("{path}.{name}: has no counterpart"));
        }
    }

    fn settings(&mut self, root: &Json) {
        let seconds = ["/router_settings/timeout", "/litellm_settings/request_timeout"];
        let found = seconds.into_iter().find_map(|path| Some((path, root.pointer(path)?.as_f64()?)));
        let limit = found.filter(|(_, seconds)| (0.1..=86_400.0).contains(seconds));
        if let Some((_, seconds)) = limit {
            let limit = duration(Duration::from_millis((seconds * 1000.0).round() as u64));
            for provider in &mut self.imported.providers {
                provider.network = vec![("firstByteTimeout", limit.clone()), ("requestTimeout", limit.clone())];
            }
        }
        for section in members(root).filter(|name| *name != "model_list") {
            let below: Vec<_> = members(&root[section]).collect();
            if below.is_empty() {
                self.note(format!("{section}: has no counterpart"));
            }
            for name in below {
                if limit.is_some_and(|(path, _)| path == format!("/{section}/{name}")) {
                    continue;
                }
                let why = match (section, name) {
                    ("general_settings", "master_key") => {
                        "callers are not asked for a key of the gateway; spec.networkPolicy says who may call"
                    }
                    (
                        "router_settings" | "litellm_settings",
                        "fallbacks" | "context_window_fallbacks" | "num_retries",
                    ) => "retries and fallbacks are not served yet",
                    ("router_settings", "routing_strategy") => "keys share the load by their weights",
                    _ => "has no counterpart",
                };
                self.note(format!("{section}.{name}: {why}"));
            }
        }
    }

    fn finish(mut self) -> Imported {
        let names: Vec<_> = self.imported.providers.iter().map(|provider| provider.name.clone()).collect();
        for name in names {
            let mut keys: Vec<_> = self.imported.keys.iter_mut().filter(|key| key.provider == name).collect();
            if scale_weights(&mut keys) {
                self.change(format!("model_list: the weights of {name} are rounded to between 1 and 1000"));
            }
        }
        // A front's own provider is called by the bare model; the others by their names.
        for index in 0..self.imported.providers.len() {
            let Provider { name, provider_type, base_url, .. } = self.imported.providers[index].clone();
            let of_type = self.imported.providers.iter().filter(|other| other.provider_type == provider_type).count();
            if let Some(url) = base_url.filter(|_| of_type > 1) {
                self.change(format!("model_list: models at {url} are asked for as {name}/MODEL"));
            }
        }
        self.imported
    }
}

fn members(value: &Json) -> impl Iterator<Item = &str> {
    value.as_object().into_iter().flatten().map(|(name, _)| name.as_str())
}

/// The vendor and the model of a name such as `openai/gpt-4o`.
fn target(name: &str, has_address: bool) -> Result<Target<'_>, String> {
    let found = |provider_type, model| Ok(Target { provider_type, model });
    let Some((prefix, model)) = name.split_once('/') else {
        return if name.starts_with("claude") {
            found(ProviderType::Anthropic, name)
        } else if has_address || OPENAI_MODELS.iter().any(|beginning| name.starts_with(beginning)) {
            found(ProviderType::OpenAI, name)
        } else {
            Err(format!("the vendor of model {name} is not known"))
        };
    };
    match (ProviderType::by_vendor_name(prefix), prefix) {
        (Some(provider_type), _) => found(provider_type, model),
        (None, "text-completion-openai") => found(ProviderType::OpenAI, model),
        (None, prefix) if has_address && COMPATIBLE.contains(&prefix) => found(ProviderType::OpenAI, model),
        (None, prefix) if OTHER_VENDORS.contains(&prefix) => {
            Err(format!("providers of type {prefix} are not served yet"))
        }
        (None, prefix) => Err(format!("{prefix} is no vendor that is served")),
    }
}

fn base_url(value: &Json) -> Result<BaseUrl, String> {
    let text = value.as_str().ok_or("must be a text")?;
    if let Some(variable) = text.strip_prefix("os.environ/") {
        return Err(format!("stands in the environment variable {variable}; write the address into the file first"));
    }
    let url = BaseUrl::parse(text).map_err(|error| error.to_string())?;
    if url.is_local() {
        return Err(format!("{} would be the gateway's own pod", url.host));
    }
    Ok(url)
}
