//! Which requests a phase of a gradual migration means. The gateway evaluates it for each request; see [`MatchRule`].

use serde::{Deserialize, Serialize};

/// A rule. Every list that is not empty must have an entry that fits the request (ANDed); an empty rule fits every request. A member
/// that this version does not know makes the table unreadable: to leave a condition out would send more than was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct MatchRule {
    /// Paths as the vendor has them (`/v1/chat/completions`), exact, or with a `*` at the end.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
    /// Kinds of request.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<EndpointKind>,
    /// Models as the request names them, exact, or with a `*` at the end.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<String>,
    /// Names of providers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub providers: Vec<String>,
    /// Values of the header `x-bf-feature`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<String>,
    /// Headers that the request must have, all of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<HeaderMatch>,
    /// Users, as the stickiness names them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<String>,
    /// Percent of the users, by the cohort hash.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_percent: Option<u8>,
}

/// A header that a request must have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HeaderMatch {
    /// Its name, in lower case.
    pub name: String,
    /// Its whole value; none: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// A kind of inference request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum EndpointKind {
    /// OpenAI's chat completions.
    ChatCompletions,
    /// OpenAI's completions.
    Completions,
    /// OpenAI's responses.
    Responses,
    /// OpenAI's embeddings.
    Embeddings,
    /// Anthropic's messages.
    Messages,
    /// Anthropic's token counting.
    CountTokens,
}
