//! What a revision is.

use bifrost_config::Config;
use bifrost_config::published::revision as short_name;
use serde::{Deserialize, Serialize};

/// A revision of the gateway: what it is told to do, and which image does it. Keys are no part of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Revision {
    /// Its name: ten digits that stand for the other two.
    pub id: String,
    /// Short name of `spec.config`.
    pub config: String,
    /// Image of the pods.
    pub image: String,
}

impl Revision {
    /// Of a configuration's short name and an image.
    pub fn new(config: &str, image: &str) -> Self {
        Self { id: short_name(&format!("{config}\n{image}")), config: config.to_owned(), image: image.to_owned() }
    }

    /// Of a published configuration of which nobody noted what the spec said.
    pub fn of_published(config: &Config, image: &str) -> Self {
        Self::new(&meaning(config), image)
    }
}

/// Short name of what a configuration comes to. Keys and certificates are followed at once by whatever serves, and no part of it.
pub fn meaning(config: &Config) -> String {
    let alone = Config { keys: Vec::new(), ca_bundle: None, ..config.clone() };
    // It has string keys only and always serialises.
    short_name(&serde_json::to_string(&alone).unwrap_or_default())
}
