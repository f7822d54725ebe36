//! The guide's `config.json`, as a file for a gateway without a cluster.
//!
//! Read strictly, all problems at once, each with its path. Members of the Go product's file that are not served yet are one
//! warning each; unknown ones are problems. One member is our own: `migration {strategy, canaryPercent, stickiness}`.

use serde_json::{Map, Value};

use crate::catalog::{OTHER_VENDORS, ProviderType};
use crate::draft::{Draft, KeyDraft, ProviderDraft, StickinessKind};
use crate::{AddressRule, Config, KeyValues, Migration, Problem, SecretValue, Strategy, validate};

/// Top-level members of the Go product's file that have no effect here yet.
const TOP_LATER: &[&str] = &[
    "source_of_truth",
    "server",
    "env_label",
    "encryption_key",
    "auth_config",
    "framework",
    "governance",
    "mcp",
    "vector_store",
    "config_store",
    "logs_store",
    "plugins",
    "cluster_config",
    "load_balancer_config",
    "guardrails_config",
    "saml_config",
    "audit_logs",
    "large_payload_optimization",
    "websocket",
    "circuit_breaker_config",
    "alerting",
    "access_profiles",
    "skills_registry",
];
const CLIENT_LATER: &[&str] = &[
    "drop_excess_requests",
    "initial_pool_size",
    "prometheus_labels",
    "allowed_origins",
    "allowed_headers",
    "enable_logging",
    "disable_content_logging",
    "disable_db_pings_in_health",
    "log_retention_days",
    "enforce_auth_on_inference",
    "enforce_governance_header",
    "allow_direct_keys",
    "enable_litellm_fallbacks",
    "compat",
    "header_filter_config",
    "required_headers",
    "logging_headers",
    "whitelisted_routes",
    "async_job_result_ttl",
    "mcp_agent_depth",
    "mcp_tool_execution_timeout",
    "mcp_tool_sync_interval",
    "mcp_code_mode_binding_level",
    "mcp_disable_auto_tool_inject",
    "mcp_server_auth_mode",
    "dual_credential_conflict_behavior",
    "routing_chain_max_depth",
    "oauth2_server_config",
    "dump_errors_in_console_logs",
    "delete_expired_virtual_keys",
    "retain_content_in_object_storage",
    "hidden_request_types",
];
/// Its overrides by request, one member for each kind of content.
const CLIENT_LATER_PREFIX: &str = "allow_per_request_";
const PROVIDER_LATER: &[&str] = &[
    "concurrency_and_buffer_size",
    "proxy_config",
    "send_back_raw_request",
    "send_back_raw_response",
    "store_raw_request_response",
    "pricing_overrides",
    "openai_config",
    "prompt_cache",
];
const KEY_LATER: &[&str] = &[
    "id",
    "blacklisted_models",
    "use_for_batch_api",
    "aliases",
    "azure_key_config",
    "vertex_key_config",
    "bedrock_key_config",
    "vllm_key_config",
    "replicate_key_config",
    "huggingface_key_config",
    "ollama_key_config",
    "sgl_key_config",
];
/// The backoff members have two spellings in the wild; both are known.
const NETWORK_LATER: &[&str] = &[
    "max_retries",
    "retry_backoff_initial",
    "retry_backoff_max",
    "retry_backoff_initial_ms",
    "retry_backoff_max_ms",
    "extra_headers",
    "max_conns_per_host",
    "insecure_skip_verify",
    "ca_cert_pem",
    "enforce_http2",
    "beta_header_overrides",
    "allow_private_network",
    "stream_throughput_guard",
];

/// A file that was read.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// The split; DropIn unless the file says otherwise.
    pub migration: Migration,
    /// The values of its keys.
    pub values: KeyValues,
    /// Members that have no effect yet.
    pub warnings: Vec<String>,
}

/// Reads the text of a `config.json`. `env` looks up an environment variable for values of the form `env.NAME`.
pub fn load(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Loaded, Vec<Problem>> {
    let root: Value =
        serde_json::from_str(text).map_err(|error| vec![Problem::invalid("", format!("is no JSON: {error}"))])?;
    let mut reader = Reader {
        env,
        empty_is_none: root.get("version").and_then(Value::as_u64).is_some_and(|version| version >= 2),
        draft: Draft::default(),
        values: KeyValues::new(),
        warnings: Vec::new(),
        problems: Vec::new(),
    };
    reader.root(&root);
    let Reader { draft, values, warnings, mut problems, .. } = reader;
    match validate(&draft, AddressRule::Any) {
        Ok((config, plan)) if problems.is_empty() => Ok(Loaded { config, migration: plan.goal(), values, warnings }),
        Ok(_) => Err(problems),
        Err(more) => {
            problems.extend(more);
            Err(problems)
        }
    }
}

struct Reader<'a> {
    env: &'a dyn Fn(&str) -> Option<String>,
    /// From version 2 of the file on a key without models serves none; before that, all.
    empty_is_none: bool,
    draft: Draft,
    values: KeyValues,
    warnings: Vec<String>,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn root(&mut self, root: &Value) {
        let Some(members) = self.object(root, "") else { return };
        self.draft.migration.path = "migration".into();
        self.draft.migration.default_salt = "standalone".into();
        for (name, value) in members {
            match name.as_str() {
                "$schema" => {}
                "version" => drop(self.number(value, "version")),
                "providers" => self.providers(value),
                "client" => self.client(value),
                "migration" => self.migration(value),
                name => self.rest("", name, TOP_LATER),
            }
        }
        if !members.contains_key("providers") {
            self.problems
                .push(Problem::invalid("providers", "is missing: name at least one provider, such as \"openai\""));
        }
    }

    fn client(&mut self, value: &Value) {
        for (name, value) in self.object(value, "client").into_iter().flatten() {
            match name.as_str() {
                "max_request_body_size_mb" => {
                    if let Some(mb) = self.number(value, "client.max_request_body_size_mb") {
                        self.draft.max_request_body =
                            Some(("client.max_request_body_size_mb".into(), format!("{mb}Mi")));
                    }
                }
                name if name.starts_with(CLIENT_LATER_PREFIX) => self.rest("client", name, &[name]),
                name => self.rest("client", name, CLIENT_LATER),
            }
        }
    }

    fn providers(&mut self, value: &Value) {
        for (name, value) in self.object(value, "providers").into_iter().flatten() {
            self.provider(name, value);
        }
    }

    fn provider(&mut self, name: &str, value: &Value) {
        let path = format!("providers.{name}");
        let Some(members) = self.object(value, &path) else { return };
        let base_type =
            members.get("custom_provider_config").and_then(|c| c.get("base_provider_type")).and_then(Value::as_str);
        let vendor = base_type.unwrap_or(name);
        let Some(provider_type) = ProviderType::by_vendor_name(vendor) else {
            if OTHER_VENDORS.contains(&vendor) {
                self.warnings
                    .push(format!("{path}: providers of type {vendor} are not served yet; this one is left out"));
            } else {
                let message = "is no known vendor; for one of your own add custom_provider_config.base_provider_type (openai or anthropic) and network_config.base_url";
                self.problems.push(Problem::not_found(path, message));
            }
            return;
        };
        let mut draft = ProviderDraft {
            path: path.clone(),
            name: name.to_owned(),
            provider_type,
            base_url: None,
            network: Default::default(),
        };
        for (member, value) in members {
            match member.as_str() {
                "keys" => self.keys(name, value),
                "network_config" => self.network(&mut draft, value),
                "custom_provider_config" => self.custom(&format!("{path}.custom_provider_config"), value),
                member => self.rest(&path, member, PROVIDER_LATER),
            }
        }
        // In a file the author of the key is the author of the URL, so a key may go wherever its provider is.
        let base_url = draft.base_url.as_ref().map_or(provider_type.vendor().base_url, |(_, url)| url);
        if let Ok(url) = crate::BaseUrl::parse(base_url) {
            for key in self.draft.keys.iter_mut().filter(|key| key.provider == name) {
                key.hosts = vec![url.host.clone()];
            }
        }
        self.draft.providers.push(draft);
    }

    fn custom(&mut self, path: &str, value: &Value) {
        for (name, _) in self.object(value, path).into_iter().flatten() {
            if name != "base_provider_type" {
                self.rest(path, name, &["is_key_less", "allowed_requests", "request_path_overrides"]);
            }
        }
    }

    fn network(&mut self, draft: &mut ProviderDraft, value: &Value) {
        let path = format!("{}.network_config", draft.path);
        for (name, value) in self.object(value, &path).into_iter().flatten() {
            let at = format!("{path}.{name}");
            match name.as_str() {
                "base_url" => draft.base_url = self.text(value, &at).map(|url| (at, url)),
                "default_request_timeout_in_seconds" => {
                    if let Some(seconds) = self.number(value, &at) {
                        draft.network.request_timeout = Some((at.clone(), format!("{seconds}s")));
                        draft.network.first_byte_timeout = Some((at, format!("{seconds}s")));
                    }
                }
                "stream_idle_timeout_in_seconds" => {
                    draft.network.stream_idle_timeout =
                        self.number(value, &at).map(|seconds| (at, format!("{seconds}s")));
                }
                name => self.rest(&path, name, NETWORK_LATER),
            }
        }
    }

    fn keys(&mut self, provider: &str, value: &Value) {
        let path = format!("providers.{provider}.keys");
        let Some(list) = value.as_array() else {
            self.problems.push(Problem::invalid(path, "must be a list"));
            return;
        };
        for (index, value) in list.iter().enumerate() {
            self.key(provider, &format!("{path}[{index}]"), index, value);
        }
    }

    fn key(&mut self, provider: &str, path: &str, index: usize, value: &Value) {
        let mut key = KeyDraft {
            path: path.to_owned(),
            name: format!("{provider}-{}", index + 1),
            provider: provider.to_owned(),
            models: Vec::new(),
            weight: 1000,
            enabled: true,
            hosts: Vec::new(),
        };
        let mut secret = None;
        let mut all_models = false;
        for (name, value) in self.object(value, path).into_iter().flatten() {
            let at = format!("{path}.{name}");
            match name.as_str() {
                "name" => key.name = self.text(value, &at).unwrap_or(key.name),
                "value" => secret = self.secret(value, &at),
                "models" => (all_models, key.models) = self.models(value, &at),
                "weight" => key.weight = self.weight(value, &at),
                "enabled" => match value.as_bool() {
                    Some(enabled) => key.enabled = enabled,
                    None => self.problems.push(Problem::invalid(at, "must be true or false")),
                },
                name => self.rest(path, name, KEY_LATER),
            }
        }
        match secret {
            Some(value) => {
                self.values.insert(key.name.clone(), value);
            }
            None if value.get("value").is_none() => {
                self.problems
                    .push(Problem::invalid(format!("{path}.value"), "is missing: give the key, or \"env.NAME\""));
            }
            None => {}
        }
        if self.empty_is_none && key.models.is_empty() && !all_models {
            self.warnings.push(format!(
                "{path}.models: from version 2 of the file on no models means none, so this key is left out; write [\"*\"] for all"
            ));
            return;
        }
        self.draft.keys.push(key);
    }

    /// A key's value: a text, or an object `{value}` or `{env_var, from_env}`, as newer versions of the Go product write it.
    fn secret(&mut self, value: &Value, path: &str) -> Option<SecretValue> {
        let text = match value.as_object() {
            Some(object) if self.is_secret_of_env(object, path) => {
                let name = self.text(object.get("env_var").unwrap_or(&Value::Null), &format!("{path}.env_var"))?;
                format!("env.{}", name.strip_prefix("env.").unwrap_or(&name))
            }
            Some(object) => self.text(object.get("value").unwrap_or(&Value::Null), &format!("{path}.value"))?,
            None => self.text(value, path)?,
        };
        let value = match text.strip_prefix("env.") {
            None => SecretValue::new(&text),
            Some(name) => match (self.env)(name) {
                Some(value) => SecretValue::new(&value),
                None => {
                    self.problems.push(Problem::not_found(path, format!("environment variable {name} is not set")));
                    return None;
                }
            },
        };
        if value.is_empty() || !value.is_header_safe() {
            self.problems.push(Problem::invalid(path, "is empty, or has characters that no key has"));
            return None;
        }
        Some(value)
    }

    fn is_secret_of_env(&mut self, object: &Map<String, Value>, path: &str) -> bool {
        for name in object.keys().filter(|name| !["value", "env_var", "from_env"].contains(&name.as_str())) {
            self.rest(path, name, &[]);
        }
        object.get("from_env") == Some(&Value::Bool(true))
    }

    /// Whether all models are meant, else which.
    fn models(&mut self, value: &Value, path: &str) -> (bool, Vec<String>) {
        let list = value
            .as_array()
            .and_then(|list| list.iter().map(|m| m.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>());
        match list {
            // Newer versions of the Go product write "all models" so.
            Some(models) if models == ["*"] => (true, Vec::new()),
            Some(models) => (false, models),
            None => {
                self.problems.push(Problem::invalid(path, "must be a list of model names"));
                (false, Vec::new())
            }
        }
    }

    /// Weights are fractions in the file and whole numbers here; only their proportion counts.
    fn weight(&mut self, value: &Value, path: &str) -> u32 {
        match value.as_f64() {
            Some(weight) if (0.0..=1000.0).contains(&weight) => (weight * 1000.0).round() as u32,
            _ => {
                self.problems.push(Problem::invalid(path, "must be a number between 0 and 1000"));
                0
            }
        }
    }

    fn migration(&mut self, value: &Value) {
        for (name, value) in self.object(value, "migration").into_iter().flatten() {
            let at = format!("migration.{name}");
            match name.as_str() {
                "strategy" => match value.as_str() {
                    Some("DropIn") => self.draft.migration.strategy = Some(Strategy::DropIn),
                    Some("Canary") => self.draft.migration.strategy = Some(Strategy::Canary),
                    _ => self.problems.push(Problem::invalid(at, "must be \"DropIn\" or \"Canary\"")),
                },
                "canaryPercent" => match value.as_i64() {
                    Some(percent) => self.draft.migration.canary_percent = Some(percent),
                    None => self.problems.push(Problem::invalid(at, "must be a whole number between 0 and 100")),
                },
                "stickiness" => self.stickiness(value),
                name => self.rest("migration", name, &[]),
            }
        }
    }

    fn stickiness(&mut self, value: &Value) {
        for (name, value) in self.object(value, "migration.stickiness").into_iter().flatten() {
            let at = format!("migration.stickiness.{name}");
            match (name.as_str(), value.as_str()) {
                ("key", Some("Auto")) => self.draft.migration.stickiness.kind = StickinessKind::Auto,
                ("key", Some("Header")) => self.draft.migration.stickiness.kind = StickinessKind::Header,
                ("key", Some("Body")) => self.draft.migration.stickiness.kind = StickinessKind::Body,
                ("key", Some("Credential")) => self.draft.migration.stickiness.kind = StickinessKind::Credential,
                ("key", Some("None")) => self.draft.migration.stickiness.kind = StickinessKind::None,
                ("key", _) => {
                    self.problems.push(Problem::invalid(at, "must be Auto, Header, Body, Credential or None"))
                }
                ("header", _) => self.draft.migration.stickiness.header = self.text(value, &at),
                ("salt", _) => self.draft.migration.stickiness.salt = self.text(value, &at),
                (name, _) => self.rest("migration.stickiness", name, &[]),
            }
        }
    }

    /// A member that has no effect: a warning if it is known, else a problem.
    fn rest(&mut self, parent: &str, name: &str, later: &[&str]) {
        let path = if parent.is_empty() { name.to_owned() } else { format!("{parent}.{name}") };
        if later.contains(&name) {
            self.warnings.push(format!("{path}: not served yet, has no effect"));
        } else {
            self.problems
                .push(Problem::unknown(path, "is not a member of this file's form: take it out, or mend its spelling"));
        }
    }

    fn object<'v>(&mut self, value: &'v Value, path: &str) -> Option<&'v Map<String, Value>> {
        if value.as_object().is_none() {
            let path = if path.is_empty() { "the file" } else { path };
            self.problems.push(Problem::invalid(path, "must be an object"));
        }
        value.as_object()
    }

    fn text(&mut self, value: &Value, path: &str) -> Option<String> {
        if !value.is_string() {
            self.problems.push(Problem::invalid(path, "must be a text"));
        }
        value.as_str().map(str::to_owned)
    }

    fn number(&mut self, value: &Value, path: &str) -> Option<u64> {
        if value.as_u64().is_none() {
            self.problems.push(Problem::invalid(path, "must be a whole number"));
        }
        value.as_u64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUIDE: &str = include_str!("../testdata/guide.json");

    fn env(name: &str) -> Option<String> {
        matches!(name, "OPENAI_API_KEY" | "ANTHROPIC_API_KEY").then(|| format!("value-of-{name}"))
    }

    fn paths(text: &str) -> Vec<String> {
        load(text, &env).unwrap_err().into_iter().map(|p| p.path).collect()
    }

    #[test]
    fn the_guides_first_file_is_read_as_it_stands() {
        let loaded = load(GUIDE, &env).unwrap();
        assert_eq!(loaded.migration.strategy, Strategy::DropIn);
        assert_eq!(loaded.migration.percent, 100);
        assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
        let key = &loaded.config.keys[1];
        assert_eq!(
            (key.name.as_str(), key.provider.as_str(), key.models.as_slice()),
            ("openai-1", "openai", ["gpt-4o-mini".to_owned()].as_slice())
        );
        assert_eq!(loaded.values["openai-1"].expose(), "value-of-OPENAI_API_KEY");
    }

    #[test]
    fn members_not_served_yet_warn_and_both_spellings_of_the_backoff_are_known() {
        let text = r#"{"client":{"enable_logging":true},"providers":{"groq":{"keys":[]},"openai":{"keys":[{"value":"sk-1"}],
            "network_config":{"default_request_timeout_in_seconds":45,"max_retries":3,"retry_backoff_initial_ms":500,"retry_backoff_max":5000},
            "concurrency_and_buffer_size":{"concurrency":15,"buffer_size":100}}}}"#;
        let loaded = load(text, &env).unwrap();
        assert_eq!(loaded.warnings.len(), 6, "{:#?}", loaded.warnings);
        assert_eq!(loaded.config.providers[0].network.request_timeout_ms, 45_000);
    }

    #[test]
    fn values_and_lists_of_newer_versions_mean_what_they_mean_there() {
        let text = r#"{"version":2,"client":{"allow_per_request_content_storage_override":true},"providers":{"deepseek":{"keys":[]},
            "openai":{"keys":[{"value":{"env_var":"env.OPENAI_API_KEY","from_env":true},"models":["*"]},
            {"value":{"value":"sk-2"},"models":[]}]}}}"#;
        let loaded = load(text, &env).unwrap();
        assert_eq!(loaded.values["openai-1"].expose(), "value-of-OPENAI_API_KEY");
        assert_eq!(loaded.config.keys.iter().map(|key| key.name.as_str()).collect::<Vec<_>>(), ["openai-1"]);
        assert!(loaded.config.keys[0].models.is_empty());
        assert_eq!(loaded.warnings.len(), 3, "{:#?}", loaded.warnings);
    }

    #[test]
    fn every_problem_is_named_with_its_path() {
        let text = r#"{"providrs":{},"providers":{"openai":{"keys":[{"value":"env.NOWHERE","weight":"x","model":[]}]},"acme":{}},
            "migration":{"canaryPercent":101}}"#;
        let mut paths = paths(text);
        paths.sort();
        let expected = [
            "migration.canaryPercent",
            "providers.acme",
            "providers.openai.keys[0].model",
            "providers.openai.keys[0].value",
            "providers.openai.keys[0].weight",
            "providrs",
        ];
        assert_eq!(paths, expected);
    }

    #[test]
    fn several_entries_of_one_type_have_names_of_their_own() {
        let text = r#"{"providers":{"openai":{"keys":[{"value":"sk-1"}]},
            "openai-eu":{"keys":[{"value":"sk-2"}],"custom_provider_config":{"base_provider_type":"openai"},"network_config":{"base_url":"https://eu.example"}}}}"#;
        let loaded = load(text, &env).unwrap();
        assert_eq!(loaded.config.providers[1].provider_type, ProviderType::OpenAI);
        assert_eq!(loaded.config.keys[1].hosts, ["eu.example"]);
    }

    #[test]
    fn what_is_no_json_says_where() {
        let problems = load("{\"providers\": ", &env).unwrap_err();
        assert!(problems[0].message.contains("line 1"), "{}", problems[0]);
    }
}
