//! The fronts of a gateway, and the calls in their dialects.

use bifrost_config::catalog::{AuthScheme, Front};
use bifrost_crds::{BifrostGateway, ProviderKey, ProviderSpec, ProviderType};
use http::Method;
use serde_json::{Value, json};

use crate::call::Call;
use crate::failure::Failure;
use crate::redact::redact;

/// The provider that belongs to a front, as pods decide it: the only one of its type, or the one named like the front.
pub(crate) fn own_provider(gateway: &BifrostGateway, front: Front) -> Option<&ProviderSpec> {
    let wanted = match front {
        Front::OpenAI => ProviderType::OpenAI,
        Front::Anthropic => ProviderType::Anthropic,
    };
    let of_type: Vec<_> = gateway.spec.config.providers.iter().filter(|provider| provider.type_ == wanted).collect();
    match of_type.as_slice() {
        [only] => Some(*only),
        several => several.iter().copied().find(|provider| provider.name == front.name()),
    }
}

/// A small model that the front's provider has a key for: the vendor's small one, unless every key lists others.
pub(crate) fn model(gateway: &BifrostGateway, front: Front, keys: &[ProviderKey], asked: Option<&str>) -> String {
    let small = match front {
        Front::OpenAI => "gpt-4o-mini",
        Front::Anthropic => "claude-3-haiku-20240307",
    };
    if let Some(asked) = asked {
        return asked.to_owned();
    }
    let provider = own_provider(gateway, front).map(|provider| provider.name.as_str());
    let own: Vec<_> =
        keys.iter().filter(|key| Some(key.spec.provider.as_str()) == provider && key.spec.enabled).collect();
    let serves = |key: &&ProviderKey| key.spec.models.is_empty() || key.spec.models.iter().any(|model| model == small);
    match own.iter().copied().find(serves) {
        Some(_) => small.to_owned(),
        None => own.iter().find_map(|key| key.spec.models.first()).map_or_else(|| small.to_owned(), Clone::clone),
    }
}

/// The credential for a front from the environment, by `--api-key-env [FRONT=]NAME`. What is given is not printed unless it can be
/// nothing but a name: some give the key itself.
pub(crate) fn credential(
    front: Front,
    names: &[String],
    env: impl Fn(&str) -> Option<String>,
) -> Result<Option<String>, Failure> {
    let mut for_all = None;
    let mut own = None;
    for name in names {
        match name.split_once('=') {
            Some((of, name)) if of == front.name() => own = Some(name),
            Some((of, _)) if Front::ALL.iter().any(|known| known.name() == of) => {}
            Some(_) => return Err(Failure::Usage("--api-key-env: before = stands openai or anthropic".to_owned())),
            None => for_all = Some(name.as_str()),
        }
    }
    let Some(variable) = own.or(for_all) else { return Ok(None) };
    if variable.is_empty() || !variable.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        let message = "--api-key-env takes the name of an environment variable that holds the key, not the key";
        return Err(Failure::Usage(message.to_owned()));
    }
    match env(variable).filter(|value| !value.trim().is_empty()) {
        Some(value) => Ok(Some(value.trim().to_owned())),
        None => {
            let shown = redact(variable);
            Err(Failure::Usage(format!("--api-key-env: the environment variable {shown} is not set")))
        }
    }
}

/// A chat completion in the front's dialect.
pub(crate) fn chat(front: Front, path: String, model: &str, stream: bool, credential: Option<&str>) -> Call {
    let mut body = json!({"model": model, "messages": [{"role": "user", "content": "Answer with one word: test"}]});
    if front == Front::Anthropic {
        body["max_tokens"] = json!(16);
    }
    if stream {
        body["stream"] = json!(true);
    }
    post(front, path, &body, credential)
}

/// A call with a JSON body.
pub(crate) fn post(front: Front, path: String, body: &Value, credential: Option<&str>) -> Call {
    let mut headers = headers(front, credential);
    headers.push(("content-type", "application/json".to_owned()));
    Call { method: Method::POST, path, headers, body: body.to_string() }
}

/// A call without a body.
pub(crate) fn get(front: Front, path: String, credential: Option<&str>) -> Call {
    Call { method: Method::GET, path, headers: headers(front, credential), body: String::new() }
}

fn headers(front: Front, credential: Option<&str>) -> Vec<(&'static str, String)> {
    let vendor = front.provider_type().vendor();
    let mut headers: Vec<_> = vendor.default_header.map(|(name, value)| (name, value.to_owned())).into_iter().collect();
    headers.extend(credential.map(|credential| match vendor.auth {
        AuthScheme::Bearer => ("authorization", format!("Bearer {credential}")),
        AuthScheme::XApiKey => ("x-api-key", credential.to_owned()),
    }));
    headers
}

/// Path of a chat completion behind the version.
pub(crate) const fn chat_path(front: Front) -> &'static str {
    match front {
        Front::OpenAI => "/chat/completions",
        Front::Anthropic => "/messages",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::tests::keys;
    use crate::status::tests::gateway;

    #[test]
    fn of_several_providers_of_a_type_the_one_named_like_the_front_is_its_own() {
        let mut gateway = gateway();
        assert!(own_provider(&gateway, Front::Anthropic).is_some());
        gateway.spec.config.providers.push(gateway.spec.config.providers[1].clone());
        gateway.spec.config.providers[2].name = "second".into();
        assert_eq!(own_provider(&gateway, Front::Anthropic).map(|provider| provider.name.as_str()), Some("anthropic"));
        gateway.spec.config.providers[1].name = "first".into();
        assert!(own_provider(&gateway, Front::Anthropic).is_none());
    }

    #[test]
    fn the_model_is_one_that_a_key_serves() {
        let mut keys = keys();
        assert_eq!(model(&gateway(), Front::OpenAI, &keys, None), "gpt-4o-mini");
        keys[0].spec.models = vec!["o4-mini".into()];
        assert_eq!(model(&gateway(), Front::OpenAI, &keys, None), "o4-mini");
        assert_eq!(model(&gateway(), Front::OpenAI, &keys, Some("x")), "x");
        assert_eq!(model(&gateway(), Front::Anthropic, &[], None), "claude-3-haiku-20240307");
    }

    #[test]
    fn a_credential_is_the_fronts_own_or_the_one_for_all() {
        let env = |name: &str| (name != "UNSET").then(|| format!("value of {name}"));
        let of = |front, names: &[&str]| {
            credential(front, &names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>(), env)
        };
        let names = ["ALL", "anthropic=OWN"];
        assert_eq!(of(Front::OpenAI, &names).unwrap().as_deref(), Some("value of ALL"));
        assert_eq!(of(Front::Anthropic, &names).unwrap().as_deref(), Some("value of OWN"));
        assert!(of(Front::OpenAI, &[]).unwrap().is_none());
        assert!(of(Front::OpenAI, &["UNSET"]).is_err());
        assert!(of(Front::OpenAI, &["cohere=KEY"]).is_err());
    }

    #[test]
    fn a_key_that_is_given_instead_of_a_name_is_not_printed() {
        for key in ["sk-proj-abc", "gsk_abcdefgh"] {
            let failure = credential(Front::OpenAI, &[key.to_owned()], |_| None).unwrap_err().to_string();
            assert!(!failure.contains(key), "{failure}");
        }
    }
}
