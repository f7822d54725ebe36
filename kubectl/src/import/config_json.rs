//! The Go product's `config.json`. Read by the same reader as the gateway's own: what it does not take is cut out and named, until
//! it takes the rest.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::time::Duration;

use bifrost_config::file::{Loaded, load};
use bifrost_config::{Config, Migration, Network, Problem, Reason, StickyKey};
use serde_json::Value as Json;

use super::draft::{Imported, Key, Provider, Value, scale_weights};
use super::names::Names;
use crate::human::count;

/// How often something is cut out before it is given up: problems come in layers, as a member must be read before its value is judged.
const LAYERS: usize = 8;
/// The salt of a file that names none.
const FILE_SALT: &str = "standalone";
/// The largest request body of a file that names none.
const MAX_REQUEST_BODY: u64 = 100 << 20;

/// Reads the file.
pub(super) fn read(mut root: Json) -> Result<Imported, String> {
    let disabled = enable_all(&mut root);
    let variables = RefCell::new(BTreeSet::new());
    // Every variable is there, and its value is its name: the values themselves are not wanted here.
    let env = |name: &str| {
        variables.borrow_mut().insert(name.to_owned());
        Some(placeholder(name))
    };
    let mut notes = Vec::new();
    let mut loaded = None;
    for _ in 0..LAYERS {
        match load(&root.to_string(), &env) {
            Ok(found) => {
                loaded = Some(found);
                break;
            }
            Err(problems) => cut_all(&mut root, &problems, &mut notes)?,
        }
    }
    let Some(loaded) = loaded else { return Err(format!("cannot be read:\n  {}", notes.join("\n  "))) };
    let variables = variables.into_inner();
    notes.extend(loaded.warnings.iter().cloned());
    Ok(Reader {
        root: &root,
        disabled: &disabled,
        variables: &variables,
        names: Names::default(),
        notes,
        changes: Vec::new(),
    }
    .read(&loaded))
}

fn placeholder(variable: &str) -> String {
    format!("${{{variable}}}")
}

/// Disabled keys are left out by the reader, but not by an import: switched on here, switched off again in the manifests.
fn enable_all(root: &mut Json) -> BTreeSet<String> {
    let mut disabled = BTreeSet::new();
    for (provider, entry) in root.get_mut("providers").and_then(Json::as_object_mut).into_iter().flatten() {
        let keys = entry.get_mut("keys").and_then(Json::as_array_mut).into_iter().flatten();
        for (index, key) in keys.enumerate() {
            let name = key_name(provider, index, key);
            if let Some(enabled) = key.get_mut("enabled").filter(|enabled| **enabled == Json::Bool(false)) {
                *enabled = Json::Bool(true);
                disabled.insert(name);
            }
        }
    }
    disabled
}

/// The name that the reader gives a key.
fn key_name(provider: &str, index: usize, key: &Json) -> String {
    let named = key.get("name").and_then(Json::as_str).map(str::to_owned);
    named.unwrap_or_else(|| format!("{provider}-{}", index + 1))
}

/// Cuts every member out that has a problem. The last first, so that the numbers of those before it stay right.
fn cut_all(root: &mut Json, problems: &[Problem], notes: &mut Vec<String>) -> Result<(), String> {
    let before = notes.len();
    let mut cut_out = Vec::new();
    for problem in problems.iter().rev() {
        // What lies below a member that was cut out goes with it.
        if cut_out.iter().any(|path: &String| problem.path.starts_with(path.as_str())) {
            continue;
        }
        let path = owner(problem);
        if cut(root, path).is_some() {
            cut_out.push(path.to_owned());
            let whole = if path == problem.path { String::new() } else { format!(" (so {path} is left out)") };
            notes.insert(before, format!("{}: {}{whole}", problem.path, problem.message));
        }
    }
    if cut_out.is_empty() {
        let all: Vec<_> = problems.iter().map(Problem::to_string).collect();
        return Err(format!("cannot be read:\n  {}", all.join("\n  ")));
    }
    Ok(())
}

/// What must go so that a problem goes: the member itself, or what makes no sense without it.
fn owner(problem: &Problem) -> &str {
    let path = problem.path.as_str();
    let needed = [".value", ".base_url", ".provider", ".hosts", ".name", ".baseURL"];
    let is_needed = problem.reason != Reason::Unknown && needed.iter().any(|member| path.ends_with(member));
    match path.strip_suffix(".network_config.base_url") {
        Some(provider) if is_needed => provider,
        _ if is_needed => path.rsplit_once('.').map_or(path, |(owner, _)| owner),
        _ => path,
    }
}

/// Takes a member out. Names may hold dots, so each step takes the longest that fits.
fn cut(root: &mut Json, path: &str) -> Option<Json> {
    match root {
        Json::Object(members) => {
            if members.contains_key(path) {
                return members.remove(path);
            }
            let fits =
                |name: &&String| path.strip_prefix(name.as_str()).is_some_and(|rest| rest.starts_with(['.', '[']));
            let name = members.keys().filter(fits).max_by_key(|name| name.len())?.clone();
            cut(members.get_mut(&name)?, path[name.len()..].trim_start_matches('.'))
        }
        Json::Array(list) => {
            let (number, rest) = path.strip_prefix('[')?.split_once(']')?;
            let index: usize = number.parse().ok()?;
            match rest.trim_start_matches('.') {
                "" => (index < list.len()).then(|| list.remove(index)),
                rest => cut(list.get_mut(index)?, rest),
            }
        }
        _ => None,
    }
}

struct Reader<'a> {
    root: &'a Json,
    disabled: &'a BTreeSet<String>,
    variables: &'a BTreeSet<String>,
    names: Names,
    notes: Vec<String>,
    changes: Vec<String>,
}

impl Reader<'_> {
    fn read(mut self, loaded: &Loaded) -> Imported {
        let config = &loaded.config;
        let mut imported = Imported {
            max_request_body: max_request_body(config),
            stickiness: stickiness(&loaded.migration),
            ..Imported::default()
        };
        let mut provider_names = Names::default();
        for provider in &config.providers {
            let path = format!("providers.{}", provider.name);
            if provider.base_url.is_local() {
                let keys = count(config.keys.iter().filter(|key| key.provider == provider.name).count(), "key");
                let host = &provider.base_url.host;
                self.notes.push(format!(
                    "{path}.network_config.base_url: {host} would be the gateway's own pod; the provider and its {keys} are left out"
                ));
                continue;
            }
            let name = provider_names.label(&provider.name);
            if name != provider.name {
                self.changes.push(format!(
                    "{path}: is called {name} here, so write the model as {name}/MODEL instead of {}/MODEL",
                    provider.name
                ));
            }
            let vendor = provider.provider_type.vendor();
            let base_url = Some(provider.base_url.to_string()).filter(|url| url != vendor.base_url);
            self.keys(loaded, &provider.name, &name, &mut imported);
            imported.providers.push(Provider {
                name,
                provider_type: provider.provider_type,
                base_url,
                network: network(&provider.network),
            });
        }
        if self.root.get("migration").is_some() {
            self.changes.push(
                "migration: an import starts at canaryPercent 0; raise it with `kubectl bifrost set-percent`"
                    .to_owned(),
            );
        }
        imported.notes = self.notes;
        imported.changes = self.changes;
        imported
    }

    fn keys(&mut self, loaded: &Loaded, provider: &str, provider_label: &str, imported: &mut Imported) {
        let first = imported.keys.len();
        for key in loaded.config.keys.iter().filter(|key| key.provider == provider) {
            let Some(value) = loaded.values.get(&key.name) else { continue };
            let variable = self.variables.iter().find(|name| placeholder(name) == value.expose());
            let vendor_hosts = loaded.config.providers.iter().find(|entry| entry.name == provider);
            let is_vendors = vendor_hosts.is_some_and(|entry| key.hosts == entry.provider_type.vendor().hosts);
            imported.keys.push(Key {
                path: format!("{}.value", self.path(provider, &key.name)),
                name: self.names.label(&key.name),
                provider: provider_label.to_owned(),
                value: variable.map_or_else(|| Value::Literal(value.clone()), |name| Value::Env(name.clone())),
                models: key.models.clone(),
                weight: key.weight,
                enabled: !self.disabled.contains(&key.name),
                hosts: if is_vendors { Vec::new() } else { key.hosts.clone() },
            });
        }
        let mut keys: Vec<_> = imported.keys[first..].iter_mut().collect();
        if scale_weights(&mut keys) {
            self.changes.push(format!("providers.{provider}.keys: the weights are rounded to between 1 and 1000"));
        }
    }

    fn path(&self, provider: &str, name: &str) -> String {
        let keys = self.root["providers"][provider]["keys"].as_array();
        let index = keys.into_iter().flatten().enumerate().find(|(index, key)| key_name(provider, *index, key) == name);
        format!("providers.{provider}.keys[{}]", index.map_or(0, |(index, _)| index))
    }
}

fn max_request_body(config: &Config) -> Option<String> {
    let bytes = config.client.max_request_body;
    let text = if bytes.is_multiple_of(1 << 20) { format!("{}Mi", bytes >> 20) } else { bytes.to_string() };
    (bytes != MAX_REQUEST_BODY).then_some(text)
}

/// The limits that are not the default.
fn network(network: &Network) -> Vec<(&'static str, String)> {
    let limits = [
        ("connectTimeout", network.connect_timeout_ms, 10),
        ("firstByteTimeout", network.first_byte_timeout_ms, 600),
        ("requestTimeout", network.request_timeout_ms, 600),
        ("streamIdleTimeout", network.stream_idle_timeout_ms, 300),
    ];
    let set = limits.into_iter().filter(|(_, milliseconds, default)| *milliseconds != default * 1000);
    set.map(|(name, milliseconds, _)| (name, duration(Duration::from_millis(milliseconds)))).collect()
}

/// A duration as manifests have it.
pub(super) fn duration(duration: Duration) -> String {
    if duration.subsec_millis() == 0 {
        format!("{}s", duration.as_secs())
    } else {
        format!("{}ms", duration.as_millis())
    }
}

fn stickiness(migration: &Migration) -> Vec<(&'static str, String)> {
    let key = |key: &str| ("key", key.to_owned());
    let mut members = match &migration.sticky_key {
        StickyKey::Auto => Vec::new(),
        StickyKey::Header { name } => vec![key("Header"), ("header", name.clone())],
        StickyKey::Body => vec![key("Body")],
        StickyKey::Credential => vec![key("Credential")],
        StickyKey::None => vec![key("None")],
    };
    if migration.salt != FILE_SALT {
        members.push(("salt", migration.salt.clone()));
    }
    members
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_found_by_their_path_also_where_names_have_dots() {
        let mut root = serde_json::json!({"a.b": {"keys": [{"x": 1}, {"y": 2}]}, "a": 3});
        assert_eq!(cut(&mut root, "a.b.keys[1].y"), Some(Json::from(2)));
        assert!(cut(&mut root, "a.b.keys[0]").is_some());
        assert_eq!(cut(&mut root, "a.c"), None);
        assert_eq!(root, serde_json::json!({"a.b": {"keys": [{}]}, "a": 3}));
    }
}
