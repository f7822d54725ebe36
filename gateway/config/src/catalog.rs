//! The vendors as rows of data. A vendor that speaks the OpenAI dialect is one more row.

use serde::{Deserialize, Serialize};

/// Kind of a provider: which row of the catalogue it follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ProviderType {
    /// api.openai.com and what speaks its dialect.
    OpenAI,
    /// api.anthropic.com.
    Anthropic,
}

/// A client-facing dialect: the first segment of the path an application calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Front {
    /// `/openai`
    OpenAI,
    /// `/anthropic`
    Anthropic,
}

impl Front {
    /// Every front.
    pub const ALL: [Self; 2] = [Self::OpenAI, Self::Anthropic];

    /// The first path segment, also the front's name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OpenAI => "openai",
            Self::Anthropic => "anthropic",
        }
    }

    /// The type of the vendor whose own dialect this front is.
    pub const fn provider_type(self) -> ProviderType {
        match self {
            Self::OpenAI => ProviderType::OpenAI,
            Self::Anthropic => ProviderType::Anthropic,
        }
    }
}

/// How a vendor wants its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthScheme {
    /// `authorization: Bearer KEY`
    Bearer,
    /// `x-api-key: KEY`
    XApiKey,
}

/// What is known of a vendor.
#[derive(Debug)]
pub struct Vendor {
    /// Its type in configurations.
    pub provider_type: ProviderType,
    /// Its name in the guide's `config.json`.
    pub name: &'static str,
    /// The front that speaks its dialect.
    pub front: Front,
    /// Where it is reached unless a configuration says otherwise.
    pub base_url: &'static str,
    /// Hosts a key of this vendor may be sent to unless the key says otherwise.
    pub hosts: &'static [&'static str],
    /// How the key travels.
    pub auth: AuthScheme,
    /// First segment of every path of its API; added where a client left it out.
    pub version_prefix: &'static str,
    /// Header that is set on the bifrost arm where the client sent none.
    pub default_header: Option<(&'static str, &'static str)>,
    /// Whether streams report usage only when asked (`stream_options.include_usage`), so that the gateway asks.
    pub stream_usage_on_request: bool,
    /// Environment variable that its SDKs read the base URL from.
    pub base_url_env: &'static str,
    /// What that variable holds behind the host: the OpenAI SDK wants the version, the other does not.
    pub base_url_env_path: &'static str,
}

const OPENAI: Vendor = Vendor {
    provider_type: ProviderType::OpenAI,
    name: "openai",
    front: Front::OpenAI,
    base_url: "https://api.openai.com",
    hosts: &["api.openai.com"],
    auth: AuthScheme::Bearer,
    version_prefix: "/v1",
    default_header: None,
    stream_usage_on_request: true,
    base_url_env: "OPENAI_BASE_URL",
    base_url_env_path: "/v1",
};

const ANTHROPIC: Vendor = Vendor {
    provider_type: ProviderType::Anthropic,
    name: "anthropic",
    front: Front::Anthropic,
    base_url: "https://api.anthropic.com",
    hosts: &["api.anthropic.com"],
    auth: AuthScheme::XApiKey,
    version_prefix: "/v1",
    default_header: Some(("anthropic-version", "2023-06-01")),
    stream_usage_on_request: false,
    base_url_env: "ANTHROPIC_BASE_URL",
    base_url_env_path: "",
};

impl ProviderType {
    /// Every type.
    pub const ALL: [Self; 2] = [Self::OpenAI, Self::Anthropic];

    /// The vendor's row.
    pub const fn vendor(self) -> &'static Vendor {
        match self {
            Self::OpenAI => &OPENAI,
            Self::Anthropic => &ANTHROPIC,
        }
    }

    /// The type as configurations spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OpenAI => "OpenAI",
            Self::Anthropic => "Anthropic",
        }
    }

    /// The type of a vendor's name in the guide's `config.json`.
    pub fn by_vendor_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.vendor().name == name)
    }
}

/// Names of the Go product's other vendors: known, not served yet.
pub const OTHER_VENDORS: &[&str] = &[
    "azure",
    "bedrock",
    "cohere",
    "vertex",
    "mistral",
    "ollama",
    "groq",
    "sgl",
    "parasail",
    "perplexity",
    "cerebras",
    "gemini",
    "openrouter",
    "elevenlabs",
    "huggingface",
    "nebius",
    "xai",
    "replicate",
    "vllm",
    "runway",
    "fireworks",
    "bedrock_mantle",
    "databricks",
    "deepseek",
    "sarvam",
    "wafer",
];
