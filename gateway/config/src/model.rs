//! The validated configuration. Its serialised form is `stable.json`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::catalog::Front;
use crate::{BaseUrl, MatchRule, ProviderType, Shadow};

/// Everything a gateway needs but the keys' values and the traffic table. Made by [`crate::validate()`] only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    /// Limits towards the applications.
    pub client: Client,
    /// PEM certificates trusted beside the built-in ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<String>,
    /// Providers, with unique names.
    pub providers: Vec<Provider>,
    /// Provider keys without their values, with unique names, each of an existing provider.
    pub keys: Vec<Key>,
}

impl Config {
    /// The provider that belongs to a front.
    pub fn own_provider(&self, front: Front) -> OwnProvider {
        let is_of_type = |provider: &Provider| provider.provider_type == front.provider_type();
        let mut of_type = self.providers.iter().enumerate().filter(|(_, provider)| is_of_type(provider));
        match (of_type.next(), of_type.next()) {
            (None, _) => OwnProvider::Missing,
            (Some((index, _)), None) => OwnProvider::One(index),
            _ => match self.providers.iter().position(|p| p.name == front.name() && is_of_type(p)) {
                Some(index) => OwnProvider::One(index),
                None => OwnProvider::Ambiguous,
            },
        }
    }
}

/// The provider that belongs to a front.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnProvider {
    /// The index of the only entry of the front's type, or the one named like the front.
    One(usize),
    /// Several, none of them named like the front.
    Ambiguous,
    /// None of the front's type.
    Missing,
}

/// Limits towards the applications.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Client {
    /// Largest request body, in bytes.
    pub max_request_body: u64,
}

/// One provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Provider {
    /// Unique name: a lower-case label without a slash.
    pub name: String,
    /// Row of the catalogue.
    #[serde(rename = "type")]
    pub provider_type: ProviderType,
    /// Where it is reached.
    #[serde(rename = "baseURL")]
    pub base_url: BaseUrl,
    /// Time limits.
    pub network: Network,
}

/// Time limits of one provider, in milliseconds, each above zero.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Network {
    /// Connection and TLS handshake.
    pub connect_timeout_ms: u64,
    /// From the request's last byte to the answer's head.
    pub first_byte_timeout_ms: u64,
    /// A whole call that is no stream.
    pub request_timeout_ms: u64,
    /// Silence within a stream.
    pub stream_idle_timeout_ms: u64,
}

impl Network {
    /// Connection and TLS handshake.
    pub fn connect_timeout(&self) -> Duration {
        Duration::from_millis(self.connect_timeout_ms)
    }
}

/// One provider key. The value lies apart, in a Secret or the environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Key {
    /// Unique name: the ProviderKey's.
    pub name: String,
    /// Name of its provider.
    pub provider: String,
    /// Models it serves; empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<String>,
    /// Weight relative to the provider's other keys; 0 is used only when all are 0.
    pub weight: u32,
    /// Hosts the key may be sent to, in lower case; the provider's own host is one of them.
    pub hosts: Vec<String>,
}

/// How traffic moves onto the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Strategy {
    /// All eligible traffic takes the bifrost arm.
    DropIn,
    /// What the rules of the phases say.
    Gradual,
    /// A percentage of it does.
    Canary,
    /// Nothing (blue) or everything (green).
    BlueGreen,
}

impl Strategy {
    /// The strategy as configurations spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DropIn => "DropIn",
            Self::Gradual => "Gradual",
            Self::Canary => "Canary",
            Self::BlueGreen => "BlueGreen",
        }
    }
}

/// What holds a user on an arm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "from", rename_all = "camelCase")]
pub enum StickyKey {
    /// `x-bf-session-id`, else the body's `safety_identifier`, `user` or `metadata.user_id`; else each request by itself.
    Auto,
    /// This header (lower case), else each request by itself.
    Header {
        /// Lower-case header name.
        name: String,
    },
    /// Only the body's user.
    Body,
    /// The caller's credential.
    Credential,
    /// Each request by itself.
    None,
}

/// Which requests take the bifrost arm. The operator makes the traffic table of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Migration {
    /// The strategy.
    pub strategy: Strategy,
    /// Share of the eligible users that takes the bifrost arm, 0 to 100; 0 for Gradual.
    pub percent: u8,
    /// Gradual: a request that one of these fits takes the bifrost arm.
    pub rules: Vec<MatchRule>,
    /// What holds a user on an arm.
    pub sticky_key: StickyKey,
    /// Salt of the cohort hash.
    pub salt: String,
    /// Whether a request may choose its arm by the header `x-bf-arm`.
    pub allow_arm_header: bool,
    /// Copies of one arm's requests to the other; none: there are none.
    pub shadow: Option<Shadow>,
    /// Whether the tool calls in answers are looked at, as a check asks for it.
    pub tool_calls: bool,
    /// Whether plain answers are looked at for being empty, as a check asks for it.
    pub empty_answers: bool,
}

impl Migration {
    /// Whether two send every request the same way; what is copied and counted besides is no matter.
    pub fn splits_like(&self, other: &Self) -> bool {
        let alone =
            |migration: &Self| Self { shadow: None, tool_calls: false, empty_answers: false, ..migration.clone() };
        alone(self) == alone(other)
    }
}
