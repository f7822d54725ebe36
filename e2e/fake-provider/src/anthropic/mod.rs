//! Anthropic: which path is what, who may, and the headers of every answer.

mod complete;
mod error;
mod messages;

use http::{HeaderMap, Method};

pub(crate) use error::{scripted_error, too_large};

use crate::{
    accounts::Denied,
    api::Vendor,
    json::{Json, list, object},
    reply::{self, Reply, set, set_all},
    request::{Call, random_id},
    script::Script,
    shared::Shared,
};

/// Versions of the API; today's SDKs send the last one, older ones and curl commands the one before.
const VERSIONS: &[&str] = &["2023-01-01", "2023-06-01", "2026-10-21"];

/// An endpoint, with the id in its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route<'a> {
    Messages,
    CountTokens,
    Complete,
    Models,
    Model(&'a str),
}

fn route(path: &str) -> Option<Route<'_>> {
    Some(match path.strip_prefix("/v1/")? {
        "messages" => Route::Messages,
        "messages/count_tokens" => Route::CountTokens,
        "complete" => Route::Complete,
        "models" => Route::Models,
        rest => Route::Model(rest.strip_prefix("models/")?),
    })
}

impl Route<'_> {
    fn method(self) -> Method {
        if matches!(self, Self::Models | Self::Model(_)) { Method::GET } else { Method::POST }
    }
}

/// The vendor's answer: path, method, credential, version, body, in this order.
pub(crate) fn answer(shared: &Shared, call: &Call, script: &Script) -> Reply {
    let Some(route) = route(&call.path) else { return error::unknown_path(call) };
    if route.method() != call.method {
        return error::wrong_method(call);
    }
    let account = match shared.accounts().check(Vendor::Anthropic, call.credential.as_deref()) {
        Ok(account) => account,
        Err(Denied::Missing) => return error::no_key(call),
        Err(Denied::Invalid) => return error::wrong_key(call),
    };
    let mut reply = endpoint(shared, route, call, script).unwrap_or_else(|error| error);
    reply.account = Some(account);
    reply
}

fn endpoint(shared: &Shared, route: Route<'_>, call: &Call, script: &Script) -> Result<Reply, Reply> {
    let Some(version) = call.headers.get("anthropic-version") else {
        return Err(error::invalid(call, "anthropic-version: header is required"));
    };
    if !VERSIONS.iter().any(|v| v.as_bytes() == version.as_bytes()) {
        let message =
            format!("anthropic-version: {} is not a valid version", String::from_utf8_lossy(version.as_bytes()));
        return Err(error::invalid(call, &message));
    }
    match route {
        Route::Models => return Ok(models(shared)),
        Route::Model(id) => {
            known(shared, call, id)?;
            return Ok(reply::ok(&model_object(id), false));
        }
        _ => {}
    }
    if call.json.as_ref().is_none_or(|j| !j.is_object()) {
        return Err(error::invalid(
            call,
            "The request body is not valid JSON: expected value: line 1 column 1 (char 0)",
        ));
    }
    let asked = call.text("model").ok_or_else(|| error::required(call, "model"))?;
    let model = known(shared, call, asked)?;
    match route {
        Route::CountTokens => messages::count_tokens(call, script),
        Route::Complete => complete::answer(call, script, &model),
        _ => messages::answer(call, script, &model),
    }
}

/// The name a requested model answers with, or the vendor's 404.
fn known(shared: &Shared, call: &Call, model: &str) -> Result<String, Reply> {
    shared.models().snapshot(Vendor::Anthropic, model).ok_or_else(|| error::unknown_model(call, model))
}

fn model_object(id: &str) -> Json {
    object! {
        "type": "model", "id": id, "display_name": id, "created_at": "2024-10-22T00:00:00Z", "lifecycle": "active",
        "line": (), "deprecated_at": (), "retires_at": (),
    }
}

fn models(shared: &Shared) -> Reply {
    let all = shared.models().list(Vendor::Anthropic);
    let data = list(all.iter().map(|id| model_object(id)));
    reply::ok(&object! { "data": data, "has_more": false, "first_id": all.first(), "last_id": all.last() }, false)
}

/// The headers that every answer of this vendor has.
pub(crate) fn headers(reply: &Reply, call: &Call) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(32);
    set_all(
        &mut headers,
        &[
            ("server", "cloudflare"),
            ("via", "1.1 google"),
            ("strict-transport-security", "max-age=31536000; includeSubDomains; preload"),
            ("x-robots-tag", "none"),
            ("cf-cache-status", "DYNAMIC"),
        ],
    );
    set(&mut headers, "request-id", &call.request_id);
    set(&mut headers, "cf-ray", &random_id("", 16));
    let cookie = random_id("_cfuvid=", 43);
    set(
        &mut headers,
        "set-cookie",
        &format!("{cookie}; path=/; domain=.anthropic.com; HttpOnly; Secure; SameSite=None"),
    );
    let Some(account) = &reply.account else { return headers };
    set(&mut headers, "anthropic-organization-id", account);
    set_all(
        &mut headers,
        &[
            ("anthropic-ratelimit-requests-limit", "4000"),
            ("anthropic-ratelimit-requests-remaining", "3999"),
            ("anthropic-ratelimit-requests-reset", "2030-01-01T00:00:00Z"),
            ("anthropic-ratelimit-input-tokens-limit", "400000"),
            ("anthropic-ratelimit-input-tokens-remaining", "400000"),
            ("anthropic-ratelimit-input-tokens-reset", "2030-01-01T00:00:00Z"),
            ("anthropic-ratelimit-output-tokens-limit", "80000"),
            ("anthropic-ratelimit-output-tokens-remaining", "80000"),
            ("anthropic-ratelimit-output-tokens-reset", "2030-01-01T00:00:00Z"),
            ("anthropic-ratelimit-tokens-limit", "480000"),
            ("anthropic-ratelimit-tokens-remaining", "480000"),
            ("anthropic-ratelimit-tokens-reset", "2030-01-01T00:00:00Z"),
        ],
    );
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_the_vendors_and_only_those() {
        assert_eq!(route("/v1/messages/count_tokens"), Some(Route::CountTokens));
        assert_eq!(route("/v1/models/claude-2.1"), Some(Route::Model("claude-2.1")));
        for foreign in ["/messages", "/v1/chat/completions", "/anthropic/v1/messages", "/v1"] {
            assert_eq!(route(foreign), None, "{foreign}");
        }
    }
}
