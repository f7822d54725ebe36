//! Anthropic's errors; each repeats the request id of the answer's header.

use http::StatusCode;

use crate::{json::object, reply::Reply, request::Call, script::Script};

fn error(call: &Call, status: u16, kind: &str, message: &str) -> Reply {
    let error = object! { "type": kind, "message": message };
    let body = object! { "type": "error", "error": error, "request_id": call.request_id };
    Reply::json(StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), body.into_bytes())
}

pub(super) fn invalid(call: &Call, message: &str) -> Reply {
    error(call, 400, "invalid_request_error", message)
}

pub(super) fn required(call: &Call, field: &str) -> Reply {
    invalid(call, &format!("{field}: Field required"))
}

pub(super) fn no_key(call: &Call) -> Reply {
    error(call, 401, "authentication_error", "x-api-key header is required")
}

pub(super) fn wrong_key(call: &Call) -> Reply {
    let by_key = call.headers.contains_key("x-api-key");
    error(call, 401, "authentication_error", if by_key { "invalid x-api-key" } else { "Invalid bearer token" })
}

pub(super) fn unknown_path(call: &Call) -> Reply {
    error(call, 404, "not_found_error", "Not Found")
}

pub(super) fn unknown_model(call: &Call, model: &str) -> Reply {
    error(call, 404, "not_found_error", &format!("model: {model}"))
}

pub(super) fn wrong_method(call: &Call) -> Reply {
    error(call, 405, "invalid_request_error", "Method Not Allowed")
}

pub(crate) fn too_large(call: &Call) -> Reply {
    error(call, 413, "request_too_large", "Request exceeds the maximum size")
}

/// The error that goes with a scripted status.
pub(crate) fn scripted_error(call: &Call, status: StatusCode, script: &Script) -> Reply {
    let (kind, message) = match status.as_u16() {
        401 => ("authentication_error", "invalid x-api-key"),
        402 => ("billing_error", "Your credit balance is too low to access the Anthropic API."),
        403 => ("permission_error", "Your API key does not have permission to use the specified resource."),
        404 => ("not_found_error", "Not Found"),
        413 => ("request_too_large", "Request exceeds the maximum size"),
        429 => ("rate_limit_error", "This request would exceed your organization's rate limit."),
        400..=499 => ("invalid_request_error", "Invalid request"),
        504 => ("timeout_error", "Request timed out"),
        529 => ("overloaded_error", "Overloaded"),
        _ => ("api_error", "Internal server error"),
    };
    let kind = script.kind.as_deref().or(script.code.as_deref()).unwrap_or(kind);
    error(call, status.as_u16(), kind, script.message.as_deref().unwrap_or(message))
}
