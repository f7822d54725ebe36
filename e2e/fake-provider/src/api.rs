//! The types of the control API, shared by server and client. Times are Unix milliseconds.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A vendor that is played.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Vendor {
    /// The OpenAI API.
    OpenAi,
    /// The Anthropic API.
    Anthropic,
}

impl Vendor {
    /// The name in URLs and JSON: `openai` or `anthropic`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
        }
    }
}

/// A credential that the vendor knows (`POST /keys`).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeySpec {
    /// Whose key it is.
    pub vendor: Vendor,
    /// The credential as a client sends it.
    pub key: String,
    /// The account it belongs to; by default each key is an account of its own.
    #[serde(default)]
    pub account: Option<String>,
    /// `false`: the vendor answers 401, as for a revoked key.
    #[serde(default = "yes")]
    pub enabled: bool,
}

fn yes() -> bool {
    true
}

impl std::fmt::Debug for KeySpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeySpec")
            .field("vendor", &self.vendor)
            .field("account", &self.account)
            .field("enabled", &self.enabled)
            .finish_non_exhaustive()
    }
}

/// A model that the vendor has or no longer has (`POST /models`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    /// Whose model it is.
    pub vendor: Vendor,
    /// The model's id.
    pub model: String,
    /// `false`: the vendor answers 404 for it.
    #[serde(default = "yes")]
    pub enabled: bool,
}

/// One request as the vendor received it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Number of the request, from 1 since start or reset.
    pub seq: u64,
    /// When its head had arrived.
    pub time: u64,
    /// When its answer was handed over or given up; absent while it is open.
    pub ended: Option<u64>,
    /// The vendor addressed, by Host; absent for a foreign Host.
    pub vendor: Option<Vendor>,
    /// The Host header.
    pub host: String,
    /// The name asked for in the TLS handshake; absent on plain HTTP.
    pub sni: Option<String>,
    /// Number of the connection, and of the request on it (from 1).
    pub conn: u64,
    /// Which request of its connection this is, from 1.
    pub conn_request: u32,
    /// HTTP method.
    pub method: String,
    /// Path without the query.
    pub path: String,
    /// Query without `?`.
    pub query: Option<String>,
    /// All headers in order of arrival, names in lower case; repeated ones appear repeatedly.
    pub headers: Vec<(String, String)>,
    /// The credential as received, without its scheme.
    pub key: Option<String>,
    /// Length of the body in bytes.
    pub body_len: u64,
    /// SHA-256 of the body, hexadecimal.
    pub body_sha256: String,
    /// The first 16 KiB of the body, invalid UTF-8 replaced.
    pub body: String,
    /// `safety_identifier`, `user` or `metadata.user_id` of the body.
    pub user: Option<String>,
    /// `model` of the body.
    pub model: Option<String>,
    /// The body asked for a stream.
    pub streamed: bool,
    /// Status answered; 0 while none is, and for a connection ended before an answer.
    pub status: u16,
    /// The whole answer was handed to the connection.
    pub completed: bool,
}

impl Record {
    /// The first header of that (lower-case) name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

impl std::fmt::Debug for Record {
    // Records hold credentials on purpose; a failing test prints this form, which does not.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Record")
            .field("seq", &self.seq)
            .field("vendor", &self.vendor)
            .field("path", &self.path)
            .field("user", &self.user)
            .field("model", &self.model)
            .field("status", &self.status)
            .field("completed", &self.completed)
            .finish_non_exhaustive()
    }
}

/// Which records to read (`GET /records`). All given members must fit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RecordQuery {
    /// Only records with a greater `seq`.
    pub since: u64,
    /// Of this user.
    pub user: Option<String>,
    /// With this credential.
    pub key: Option<String>,
    /// Of this vendor.
    pub vendor: Option<Vendor>,
    /// With exactly this path.
    pub path: Option<String>,
    /// For this model.
    pub model: Option<String>,
    /// Answered with this status.
    pub status: Option<u16>,
    /// At most so many, oldest first; default 1,000.
    pub limit: Option<usize>,
}

/// Records that fit a query.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordsPage {
    /// The records, oldest first.
    pub records: Vec<Record>,
    /// `seq` of the newest request of all, for the next `since`.
    pub last: u64,
    /// `seq` of the oldest record still kept; older ones were dropped.
    pub oldest: u64,
}

/// Requests of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// The vendor addressed.
    pub vendor: Option<Vendor>,
    /// The credential received.
    pub key: Option<String>,
    /// Path without the query; `other` once there are very many.
    pub path: String,
    /// Status answered; 0 for a connection ended before an answer.
    pub status: u16,
    /// How many.
    pub count: u64,
}

/// Counters since start or reset (`GET /counts`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// All requests that were answered or dropped.
    pub total: u64,
    /// By vendor, key, path and status.
    pub by: Vec<Count>,
}

impl Counts {
    /// Sum over the kinds that `keep` accepts.
    pub fn sum(&self, keep: impl Fn(&Count) -> bool) -> u64 {
        self.by.iter().filter(|c| keep(c)).map(|c| c.count).sum()
    }

    /// Requests of one vendor that carried this credential.
    pub fn of_key(&self, vendor: Vendor, key: &str) -> u64 {
        self.sum(|c| c.vendor == Some(vendor) && c.key.as_deref() == Some(key))
    }
}

/// user → credential → requests (`GET /users`). A request without a credential counts under the empty string.
pub type Users = BTreeMap<String, BTreeMap<String, u64>>;
