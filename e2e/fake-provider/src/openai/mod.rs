//! OpenAI: which path is what, who may, and the headers of every answer.

mod chat;
mod completions;
mod error;
mod files;
mod misc;
mod responses;

use http::{HeaderMap, Method, StatusCode};

pub(crate) use error::{scripted_error, too_large};

use crate::{
    accounts::{Denied, organization},
    api::Vendor,
    reply::{Reply, set, set_all},
    request::{Call, random_id},
    script::Script,
    shared::Shared,
};

/// An endpoint, with the id in its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route<'a> {
    Chat,
    Completions,
    Responses,
    Response(&'a str),
    Embeddings,
    Models,
    Model(&'a str),
    Moderations,
    Images,
    Transcriptions,
    Files,
    File(&'a str),
}

/// The endpoint of a path; the vendor has nothing outside `/v1`.
fn route(path: &str) -> Option<Route<'_>> {
    let path = path.strip_prefix("/v1/")?;
    Some(match path {
        "chat/completions" => Route::Chat,
        "completions" => Route::Completions,
        "responses" => Route::Responses,
        "embeddings" => Route::Embeddings,
        "models" => Route::Models,
        "moderations" => Route::Moderations,
        "images/generations" => Route::Images,
        "audio/transcriptions" => Route::Transcriptions,
        "files" => Route::Files,
        _ => match path.split_once('/')? {
            ("responses", id) => Route::Response(id),
            ("models", id) => Route::Model(id),
            ("files", id) => Route::File(id),
            _ => return None,
        },
    })
}

impl Route<'_> {
    fn allows(self, method: &Method) -> bool {
        match self {
            Self::Models | Self::Model(_) => method == Method::GET,
            Self::Files => method == Method::GET || method == Method::POST,
            Self::File(_) | Self::Response(_) => method == Method::GET || method == Method::DELETE,
            _ => method == Method::POST,
        }
    }
}

/// What an endpoint needs besides the request.
struct Context<'a> {
    shared: &'a Shared,
    script: &'a Script,
    account: String,
}

impl Context<'_> {
    /// The name a requested model answers with, or the vendor's 404.
    fn model(&self, model: Option<&str>) -> Result<String, Reply> {
        let model = model.ok_or_else(error::no_model)?;
        self.shared.models().snapshot(Vendor::OpenAi, model).ok_or_else(|| error::unknown_model(model))
    }
}

/// The vendor's answer: path, method, credential, organisation, body, in this order.
pub(crate) fn answer(shared: &Shared, call: &Call, script: &Script) -> Reply {
    let Some(route) = route(&call.path) else { return error::unknown_path(call) };
    if !route.allows(&call.method) {
        return error::wrong_method(call);
    }
    let account = match shared.accounts().check(Vendor::OpenAi, call.credential.as_deref()) {
        Ok(account) => account,
        Err(Denied::Missing) => return error::no_key(),
        Err(Denied::Invalid) => return error::wrong_key(call.credential.as_deref().unwrap_or_default()),
    };
    let asked = call.headers.get("openai-organization").map(http::HeaderValue::as_bytes);
    if asked.is_some_and(|org| org != organization(&account).as_bytes()) {
        return error::mismatched_organization();
    }
    let context = Context { shared, script, account };
    let mut reply = endpoint(route, call, &context).unwrap_or_else(|error| error);
    reply.account = Some(context.account);
    reply
}

fn endpoint(route: Route<'_>, call: &Call, context: &Context<'_>) -> Result<Reply, Reply> {
    match route {
        Route::Models => return Ok(misc::models(context)),
        Route::Model(id) => return misc::model(context, id),
        Route::Response(id) => return responses::stored(call, context, id),
        Route::Files => return files::collection(call, context),
        Route::File(id) => return files::one(call, context, id),
        Route::Transcriptions => return files::transcription(call, context),
        _ => {}
    }
    if call.json.as_ref().is_none_or(|j| !j.is_object()) {
        return Err(error::bad_json());
    }
    let model = context.model(call.text("model").or(
        matches!(route, Route::Moderations | Route::Images).then_some(if route == Route::Images {
            "dall-e-3"
        } else {
            "omni-moderation-latest"
        }),
    ))?;
    match route {
        Route::Chat => chat::answer(call, context, &model),
        Route::Completions => completions::answer(call, context, &model),
        Route::Responses => responses::answer(call, context, &model),
        Route::Embeddings => misc::embeddings(call, context, &model),
        Route::Images => misc::images(call, context),
        _ => misc::moderations(call, &model),
    }
}

/// The headers that every answer of this vendor has.
pub(crate) fn headers(reply: &Reply, call: &Call) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(32);
    set_all(
        &mut headers,
        &[
            ("server", "cloudflare"),
            ("access-control-expose-headers", "X-Request-ID"),
            ("strict-transport-security", "max-age=31536000; includeSubDomains; preload"),
            ("x-content-type-options", "nosniff"),
            ("cf-cache-status", "DYNAMIC"),
            ("alt-svc", "h3=\":443\"; ma=86400"),
        ],
    );
    set(&mut headers, "x-request-id", &call.request_id);
    set(&mut headers, "cf-ray", &random_id("", 16));
    let cookie = random_id("__cf_bm=", 43);
    set(
        &mut headers,
        "set-cookie",
        &format!("{cookie}; path=/; domain=.api.openai.com; HttpOnly; Secure; SameSite=None"),
    );
    let Some(account) = &reply.account else { return headers };
    set(&mut headers, "openai-organization", &organization(account));
    set(&mut headers, "openai-processing-ms", &call.started.elapsed().as_millis().to_string());
    set_all(&mut headers, &[("openai-version", "2020-10-01")]);
    if reply.status != StatusCode::NOT_FOUND {
        set_all(
            &mut headers,
            &[
                ("x-ratelimit-limit-requests", "10000"),
                ("x-ratelimit-limit-tokens", "10000000"),
                ("x-ratelimit-remaining-requests", "9999"),
                ("x-ratelimit-remaining-tokens", "9999978"),
                ("x-ratelimit-reset-requests", "6ms"),
                ("x-ratelimit-reset-tokens", "0s"),
            ],
        );
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_the_vendors_and_only_those() {
        assert_eq!(route("/v1/chat/completions"), Some(Route::Chat));
        assert_eq!(route("/v1/models/gpt-4o"), Some(Route::Model("gpt-4o")));
        for foreign in ["/chat/completions", "/v1/messages", "/openai/v1/models", "/v1", "/"] {
            assert_eq!(route(foreign), None, "{foreign}");
        }
    }
}
