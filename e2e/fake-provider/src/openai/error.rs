//! OpenAI's errors, with its own texts: clients and gateways read them.

use http::StatusCode;

use crate::{json::object, reply::Reply, request::Call, script::Script};

const REQUEST: &str = "invalid_request_error";

fn error(status: StatusCode, kind: &str, code: Option<&str>, param: Option<&str>, message: &str) -> Reply {
    let error = object! { "message": message, "type": kind, "param": param, "code": code };
    Reply::json(status, object! { "error": error }.pretty())
}

pub(super) fn bad_json() -> Reply {
    let message = "We could not parse the JSON body of your request. (HINT: This likely means you aren't using your \
        HTTP library correctly. The OpenAI API expects a JSON payload, but what was sent was not valid JSON. If you \
        have trouble figuring out how to fix this, please contact us through our help center at help.openai.com.)";
    error(StatusCode::BAD_REQUEST, REQUEST, None, None, message)
}

pub(super) fn no_model() -> Reply {
    error(StatusCode::BAD_REQUEST, REQUEST, None, None, "you must provide a model parameter")
}

pub(super) fn missing(param: &str) -> Reply {
    let message = format!("Missing required parameter: '{param}'.");
    error(StatusCode::BAD_REQUEST, REQUEST, Some("missing_required_parameter"), Some(param), &message)
}

pub(super) fn unknown_model(model: &str) -> Reply {
    let message = format!("The model `{model}` does not exist or you do not have access to it.");
    error(StatusCode::NOT_FOUND, REQUEST, Some("model_not_found"), None, &message)
}

pub(super) fn unknown_path(call: &Call) -> Reply {
    let message = format!("Invalid URL ({} {})", call.method, call.path);
    error(StatusCode::NOT_FOUND, REQUEST, None, None, &message)
}

pub(super) fn wrong_method(call: &Call) -> Reply {
    let hint = "(HINT: Perhaps you meant to use a different HTTP method?)";
    let message = format!("Not allowed to {} on {}. {hint}", call.method, call.path);
    error(StatusCode::METHOD_NOT_ALLOWED, REQUEST, Some("method_not_supported"), None, &message)
}

pub(super) fn no_key() -> Reply {
    let message = "You didn't provide an API key. You need to provide your API key in an Authorization header using \
        Bearer auth (i.e. Authorization: Bearer YOUR_KEY), or as the password field (with blank username) if you're \
        accessing the API from your browser and are prompted for a username and password. You can obtain an API key \
        from https://platform.openai.com/account/api-keys.";
    error(StatusCode::UNAUTHORIZED, REQUEST, None, None, message)
}

/// The vendor repeats the ends of the key, which a gateway must not let out for a key of its own.
pub(super) fn wrong_key(key: &str) -> Reply {
    let message = format!(
        "Incorrect API key provided: {}. You can find your API key at https://platform.openai.com/account/api-keys.",
        masked(key)
    );
    error(StatusCode::UNAUTHORIZED, REQUEST, Some("invalid_api_key"), None, &message)
}

fn masked(key: &str) -> String {
    let chars: Vec<char> = key.chars().collect();
    match chars.len() {
        0..=12 => chars.iter().take(2).chain(&['*'; 6]).collect(),
        len => chars.iter().take(8).chain(&['*'; 12]).chain(chars.iter().skip(len - 4)).collect(),
    }
}

pub(super) fn mismatched_organization() -> Reply {
    let message = "OpenAI-Organization header should match organization for API key";
    error(StatusCode::UNAUTHORIZED, REQUEST, Some("mismatched_organization"), None, message)
}

/// An id that the account does not have.
pub(super) fn unknown_response(id: &str) -> Reply {
    error(StatusCode::NOT_FOUND, REQUEST, None, None, &format!("Response with id '{id}' not found."))
}

/// Status of a `previous_response_id` that the account does not have.
const PREVIOUS_RESPONSE: StatusCode = StatusCode::NOT_FOUND;

pub(super) fn unknown_previous_response(id: &str) -> Reply {
    let message = format!("Previous response with id '{id}' not found.");
    let code = Some("previous_response_not_found");
    error(PREVIOUS_RESPONSE, REQUEST, code, Some("previous_response_id"), &message)
}

pub(super) fn unknown_file(id: &str) -> Reply {
    error(StatusCode::NOT_FOUND, REQUEST, None, Some("id"), &format!("No such File object: {id}"))
}

pub(super) fn not_multipart() -> Reply {
    error(StatusCode::BAD_REQUEST, REQUEST, None, None, "Could not parse multipart form")
}

pub(crate) fn too_large() -> Reply {
    let message = "Maximum content size limit exceeded";
    error(StatusCode::PAYLOAD_TOO_LARGE, REQUEST, None, None, message)
}

/// The error that goes with a scripted status.
pub(crate) fn scripted_error(status: StatusCode, script: &Script) -> Reply {
    let (kind, code, message) = match status.as_u16() {
        401 => (REQUEST, Some("invalid_api_key"), "Incorrect API key provided."),
        402 => ("insufficient_quota", Some("insufficient_quota"), "You exceeded your current quota."),
        403 => (REQUEST, Some("unsupported_country_region_territory"), "Country, region, or territory not supported"),
        404 => (REQUEST, None, "Not found"),
        429 => ("requests", Some("rate_limit_exceeded"), "Rate limit reached for requests"),
        503 => ("service_unavailable", None, "The engine is currently overloaded, please try again later"),
        400..=499 => (REQUEST, None, "Invalid request"),
        _ => ("server_error", None, "The server had an error while processing your request. Sorry about that!"),
    };
    let kind = script.kind.as_deref().unwrap_or(kind);
    let code = script.code.as_deref().or(code);
    error(status, kind, code, None, script.message.as_deref().unwrap_or(message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_key_is_shown_by_its_ends_only() {
        assert_eq!(masked("sk-abcdefghijklmnop1234"), "sk-abcde************1234");
        assert_eq!(masked("dummy"), "du******");
    }
}
