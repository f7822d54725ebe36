//! Where a migration is: a member of `state.json`, and what may be taken in its place where that is lost.

use bifrost_config::{Migration, Position, Strategy};
use k8s_openapi::jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Where a migration is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// Short name of the `spec.migration` and `spec.config` that were followed last.
    pub revision: String,
    /// The strategy that was followed last.
    pub strategy: Strategy,
    /// The stage; none: the floor, where nothing takes the bifrost arm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
    /// When the stage was published.
    pub started: Timestamp,
    /// Since when every ready pod confirms it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirmed: Option<Timestamp>,
    /// The rollback that is in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback: Option<Rollback>,
    /// The newest request that was handled or refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handled: Option<String>,
}

/// A rollback. It stays in force until a retry, a restart or another revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rollback {
    /// The stage that was left; none where that is lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Position>,
    /// When.
    pub at: Timestamp,
    /// Why, as a word.
    pub reason: Cause,
    /// Why, in a sentence.
    pub message: String,
}

/// Why a migration went back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// Somebody asked for it.
    Aborted,
}

impl Cause {
    /// As statuses spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Aborted => "Aborted",
        }
    }
}

impl Progress {
    /// At the very beginning. A request that is there already is not run: it may have come with a backup.
    pub fn new(strategy: Strategy, revision: &str, request: Option<&str>, now: Timestamp) -> Self {
        Self {
            revision: revision.to_owned(),
            strategy,
            position: None,
            started: now,
            confirmed: None,
            rollback: None,
            handled: request.map(super::request::kept),
        }
    }

    /// Of a table that was published by an operator that recorded no progress.
    pub fn of_table(table: &Migration, revision: &str, request: Option<&str>, now: Timestamp) -> Self {
        let position = match table.strategy {
            Strategy::DropIn | Strategy::Canary => Some(Position::Percent(table.percent)),
            Strategy::BlueGreen => (table.percent > 0).then_some(Position::Green),
            Strategy::Gradual => None,
        };
        Self { position, ..Self::new(table.strategy, revision, request, now) }
    }

    /// The same, at another stage.
    #[must_use]
    pub fn at(self, position: Option<Position>, now: Timestamp) -> Self {
        if self.position == position { self } else { Self { position, started: now, confirmed: None, ..self } }
    }
}
