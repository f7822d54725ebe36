//! How a migration moves from stage to stage. Pure: the spec's plan, the recorded progress, what was seen and the time go in, the next
//! progress and the split that it means come out. Canary steps, gradual phases and blue-green are plans of one machine.
//!
//! The spec is the goal and the ceiling, the progress the position. Whatever is lost, a migration only ever starts lower than it was.

pub mod crash;
pub mod guard;
pub mod hold;
pub mod metric;
pub mod outlook;
pub mod progress;
pub mod request;
pub mod step;
#[cfg(test)]
mod tests;

use bifrost_analysis::{Action, Verdict};
use bifrost_config::{Axis, Migration, Position};
use k8s_openapi::jiff::Timestamp;

use self::crash::Crash;
use self::progress::Progress;
use crate::events::Event;

/// What was seen of a migration.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seen<'a> {
    /// The annotation by which somebody asks for something.
    pub request: Option<&'a str>,
    /// Whether at least one pod is ready and every ready pod confirms what is published.
    pub confirmed: bool,
    /// A gateway container that ended since the stage is watched.
    pub crash: Option<&'a Crash>,
    /// What the analysis says of the stage.
    pub judged: Option<&'a Judged>,
    /// Which providers have no key in use, in a sentence: nothing rises by itself onto what answers 503.
    pub keyless: Option<&'a str>,
}

/// What an analysis comes to.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// The verdict.
    pub verdict: Verdict,
    /// What the failed checks ask for.
    pub action: Option<Action>,
    /// The reason in a sentence: of the checks that failed, else of those that hold the verdict up.
    pub reason: String,
}

/// What follows.
#[derive(Debug, Clone, PartialEq)]
pub struct Transition {
    /// Where the migration is now.
    pub progress: Progress,
    /// Which requests take the bifrost arm.
    pub split: Migration,
    /// What is worth an event once it is published.
    pub events: Vec<Event>,
    /// When to look again, although nothing happened.
    pub wake: Option<Timestamp>,
}

/// What identifies the spec that is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revision<'a> {
    /// Short name of `spec.migration` and `spec.config`.
    pub whole: &'a str,
    /// Short name of `spec.config`.
    pub config: &'a str,
    /// Short name of `spec.migration`; none of a rollout.
    pub migration: &'a str,
}

/// A position for people.
pub fn describe(axis: Axis, position: Option<&Position>) -> String {
    match position {
        None => axis.floor().to_owned(),
        Some(Position::Percent(percent)) => format!("{percent} %"),
        Some(Position::Phase(name)) => format!("phase {name}"),
        Some(Position::Green) => match axis {
            Axis::Migration => "green".to_owned(),
            Axis::Rollout => "the candidate".to_owned(),
        },
    }
}
