//! Where a migration is: a member of `state.json`, and what may be taken in its place where that is lost.

use bifrost_config::{Migration, Position, Strategy};
use k8s_openapi::jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::request::Requests;

/// Where a migration is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// Short name of the `spec.migration` and `spec.config` that were followed last.
    pub revision: String,
    /// Short name of that `spec.config` alone.
    #[serde(default)]
    pub config: String,
    /// Short name of that `spec.migration` alone; none of a rollout, and where an earlier operator noted none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub migration: String,
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
    /// Since when what is seen of the stage counts, under this revision; none while it is not watched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watched: Option<Timestamp>,
    /// The rollback that is in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback: Option<Rollback>,
    /// The end of a gateway container that led to a rollback: it counts once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crash: Option<String>,
    /// Why the analysis made it wait for somebody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<String>,
    /// How often a failed stage of this revision was tried again by itself.
    #[serde(default)]
    pub retries: u32,
    /// How many stages were entered, or watched anew: of a strategy by hand nobody knows how many there will be, and each has its part of what the
    /// analysis may spend on false alarms.
    #[serde(default)]
    pub entered: u32,
    /// What was asked for so far.
    #[serde(flatten)]
    pub requests: Requests,
}

/// A rollback. It stays in force until a retry, a restart or another revision; one that somebody asked for outlasts another configuration.
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
    /// The bifrost arm was worse than allowed.
    AnalysisFailed,
    /// A gateway container ended.
    GatewayCrash,
    /// A candidate's pods were not ready in time.
    ProgressDeadlineExceeded,
}

impl Cause {
    /// As statuses spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Aborted => "Aborted",
            Self::AnalysisFailed => "AnalysisFailed",
            Self::GatewayCrash => "GatewayCrash",
            Self::ProgressDeadlineExceeded => "ProgressDeadlineExceeded",
        }
    }
}

impl Progress {
    /// At the very beginning. A request that is there already is not run: it may have come with a backup.
    pub fn new(strategy: Strategy, revision: &str, request: Option<&str>, now: Timestamp) -> Self {
        Self {
            revision: revision.to_owned(),
            config: String::new(),
            migration: String::new(),
            strategy,
            position: None,
            started: now,
            confirmed: None,
            watched: None,
            rollback: None,
            crash: None,
            paused: None,
            retries: 0,
            entered: 0,
            requests: Requests::new(request),
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
        if self.position == position {
            return self;
        }
        let entered = self.entered.saturating_add(1);
        Self { position, entered, ..self }.begun(now)
    }

    /// The same stage, from its beginning.
    #[must_use]
    pub fn begun(self, now: Timestamp) -> Self {
        Self { started: now, confirmed: None, watched: None, paused: None, ..self }
    }

    /// A stage that is watched anew, as the spec was edited meanwhile, may be wrong anew: it has a part of its own of what may be spent on
    /// false alarms.
    pub fn count_watch(&mut self, before: &Self) {
        let is_same = self.entered == before.entered && before.watched.is_some();
        if is_same && self.watched.is_some() && self.watched != before.watched {
            self.entered = self.entered.saturating_add(1);
        }
    }
}
