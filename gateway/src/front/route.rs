//! From a path to what is asked for: `/openai/chat/completions` → the OpenAI front's chat completions.

use bifrost_config::catalog::Front;
use http::Method;

/// What a request asks for, as far as the gateway's behaviour differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An inference call with a JSON body that names a model: collected, peeked at, passed on.
    Json(Endpoint),
    /// The list of models, or one of them.
    Models,
    /// Another inference call: its body is passed on as it comes.
    Raw,
    /// Everything else that the vendor may know: files, batches, stored objects, organisation. Goes with the caller's own credential only.
    Account,
}

/// The inference calls whose bodies are understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// OpenAI chat completions.
    ChatCompletions,
    /// OpenAI text completions.
    Completions,
    /// OpenAI responses.
    Responses,
    /// OpenAI embeddings.
    Embeddings,
    /// Anthropic messages.
    Messages,
    /// Anthropic token count.
    CountTokens,
    /// A JSON call that is relayed raw, but whose model can be seen.
    OtherJson,
}

impl Endpoint {
    /// Label of the request type in metrics, for a plain and a streamed answer.
    pub const fn method_labels(self) -> (&'static str, &'static str) {
        match self {
            Self::ChatCompletions => ("chat_completion", "chat_completion_stream"),
            Self::Completions => ("text_completion", "text_completion_stream"),
            Self::Responses | Self::Messages => ("responses", "responses_stream"),
            Self::Embeddings => ("embedding", "embedding"),
            Self::CountTokens => ("count_tokens", "count_tokens"),
            Self::OtherJson => ("other", "other_stream"),
        }
    }
}

/// A request's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route<'p> {
    /// The dialect.
    pub front: Front,
    /// What is asked for.
    pub kind: Kind,
    /// The vendor's path behind its version, with a leading slash: `/chat/completions`.
    pub rest: &'p str,
    /// The path with what varies taken out, for metrics.
    pub template: &'static str,
}

/// Why a path leads nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoRoute {
    /// It begins with no front.
    UnknownFront,
    /// It has segments that could lead elsewhere at the vendor (`..`, an encoded slash).
    Unsafe,
}

/// One row: the path behind the version, what it is, and its template.
type Row = (&'static str, Kind, &'static str);

const OPENAI: &[Row] = &[
    ("/chat/completions", Kind::Json(Endpoint::ChatCompletions), "/openai/v1/chat/completions"),
    ("/completions", Kind::Json(Endpoint::Completions), "/openai/v1/completions"),
    ("/responses", Kind::Json(Endpoint::Responses), "/openai/v1/responses"),
    ("/responses/input_tokens", Kind::Json(Endpoint::OtherJson), "/openai/v1/responses/input_tokens"),
    ("/embeddings", Kind::Json(Endpoint::Embeddings), "/openai/v1/embeddings"),
    ("/moderations", Kind::Json(Endpoint::OtherJson), "/openai/v1/moderations"),
    ("/images/generations", Kind::Json(Endpoint::OtherJson), "/openai/v1/images/generations"),
    ("/images/edits", Kind::Raw, "/openai/v1/images/edits"),
    ("/images/variations", Kind::Raw, "/openai/v1/images/variations"),
    ("/audio/speech", Kind::Json(Endpoint::OtherJson), "/openai/v1/audio/speech"),
    ("/audio/transcriptions", Kind::Raw, "/openai/v1/audio/transcriptions"),
    ("/audio/translations", Kind::Raw, "/openai/v1/audio/translations"),
];

const ANTHROPIC: &[Row] = &[
    ("/messages", Kind::Json(Endpoint::Messages), "/anthropic/v1/messages"),
    ("/messages/count_tokens", Kind::Json(Endpoint::CountTokens), "/anthropic/v1/messages/count_tokens"),
    ("/complete", Kind::Json(Endpoint::OtherJson), "/anthropic/v1/complete"),
];

/// Finds the place of a path; `/v1` may be there or not.
pub fn route<'p>(method: &Method, path: &'p str) -> Result<Route<'p>, NoRoute> {
    // No path of a vendor's: it asks for a tunnel.
    if method == Method::CONNECT {
        return Err(NoRoute::UnknownFront);
    }
    let after = |front: Front| {
        path.strip_prefix('/')?.strip_prefix(front.name()).filter(|rest| rest.starts_with('/') || rest.is_empty())
    };
    let (front, rest) =
        Front::ALL.into_iter().find_map(|f| after(f).map(|rest| (f, rest))).ok_or(NoRoute::UnknownFront)?;
    let rest = match rest.strip_prefix("/v1") {
        Some(versioned) if versioned.starts_with('/') || versioned.is_empty() => versioned,
        _ => rest,
    };
    if !is_safe(rest) {
        return Err(NoRoute::Unsafe);
    }
    let (rows, models, account) = match front {
        Front::OpenAI => (OPENAI, "/openai/v1/models", "/openai/*"),
        Front::Anthropic => (ANTHROPIC, "/anthropic/v1/models", "/anthropic/*"),
    };
    let place = |kind, template| Route { front, kind, rest, template };
    if method == Method::POST
        && let Some((_, kind, template)) = rows.iter().find(|(row, ..)| *row == rest)
    {
        return Ok(place(*kind, template));
    }
    let is_models = rest.strip_prefix("/models").is_some_and(|id| id.is_empty() || id.starts_with('/'));
    if is_models && (method == Method::GET || method == Method::HEAD) {
        return Ok(place(Kind::Models, models));
    }
    Ok(place(Kind::Account, account))
}

/// Whether every reader of a path agrees on where it leads.
fn is_safe(rest: &str) -> bool {
    // Nearly every path: nothing to look at closely.
    if !rest.contains("//") && !rest.contains(['%', '\\', '.']) {
        return true;
    }
    let lower = rest.to_ascii_lowercase();
    let decoded = lower.replace("%2e", ".");
    !lower.contains("%2f")
        && !lower.contains("%5c")
        && !lower.contains('\\')
        && !lower.contains("//")
        && !decoded.split('/').any(|segment| segment == "." || segment == "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(method: Method, path: &str) -> Kind {
        route(&method, path).unwrap().kind
    }

    #[test]
    fn paths_work_with_and_without_the_version() {
        for path in ["/openai/v1/chat/completions", "/openai/chat/completions"] {
            let route = route(&Method::POST, path).unwrap();
            assert_eq!(
                (route.front, route.kind, route.rest),
                (Front::OpenAI, Kind::Json(Endpoint::ChatCompletions), "/chat/completions")
            );
        }
        assert_eq!(kind(Method::POST, "/anthropic/v1/messages"), Kind::Json(Endpoint::Messages));
        assert_eq!(kind(Method::POST, "/anthropic/v1/messages/count_tokens"), Kind::Json(Endpoint::CountTokens));
        assert_eq!(kind(Method::GET, "/openai/models/gpt-4o"), Kind::Models);
    }

    #[test]
    fn what_touches_an_account_is_told_apart() {
        for (method, path) in [
            (Method::GET, "/openai/v1/files"),
            (Method::POST, "/openai/v1/batches"),
            (Method::GET, "/openai/v1/responses/resp_1"),
            (Method::GET, "/openai/v1/chat/completions"),
            (Method::DELETE, "/openai/v1/models/ft:1"),
            (Method::POST, "/anthropic/v1/messages/batches"),
            (Method::POST, "/openai/v1/whatever"),
        ] {
            assert_eq!(kind(method, path), Kind::Account, "{path}");
        }
    }

    #[test]
    fn paths_that_could_lead_elsewhere_are_refused() {
        for path in ["/openai/v1/chat/../files", "/openai/%2e%2E/x", "/openai/v1/models/a%2fb", "/openai//v1/files"] {
            assert_eq!(route(&Method::POST, path), Err(NoRoute::Unsafe), "{path}");
        }
        for path in ["/", "/openaix/v1/models", "/v1/chat/completions", ""] {
            assert_eq!(route(&Method::POST, path), Err(NoRoute::UnknownFront), "{path}");
        }
    }
}
