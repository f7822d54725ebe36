//! How a new revision of the gateway itself takes over: its configuration, its image, or both. Pure.
//!
//! The stages are walked by the machine of the migration ([`crate::migration::step`]). What is added here: which revision is stable and
//! which the candidate, that a share only rises where there is room for it, the deadline, and what follows the last stage.

pub mod decide;
pub mod hold;
pub mod plan;
pub mod record;
pub mod revision;
pub mod status;
#[cfg(test)]
mod tests;

use bifrost_analysis::Report;
use k8s_openapi::jiff::Timestamp;
use serde::{Deserialize, Serialize};

use self::record::Record;
use crate::events::Event;
use crate::migration::{Judged, Seen};

/// Annotation by which somebody asks something of a rollout: `<verb>/<id>`, or `<verb>/<id>@<candidate's revision>`.
pub const ANNOTATION: &str = "bifrost.dev/rollout-request";

/// What was seen of a rollout.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sight<'a> {
    /// What the machine asks for. `confirmed` is of the table alone, as it is for a migration.
    pub seen: Seen<'a>,
    /// Whether every ready pod holds the candidate that is published, and those of its own what is published at all.
    pub loaded: bool,
    /// Pods of the candidate's own that are ready and act upon what is published.
    pub ready: usize,
    /// Those that are ready and hold it for all that is known, whatever was written since: every write is something new, and that must
    /// not look like pods that are gone. Nor must one that was not asked yet.
    pub alive: usize,
    /// Whether every ready pod has the candidate, likewise.
    pub is_kept: bool,
    /// Whether pods of an earlier candidate are still behind the same Service: they would refuse what is meant for this one.
    pub is_shared: bool,
    /// Whether pods were asked at all: an operator that begins knows nothing yet.
    pub is_known: bool,
    /// Pods that the gateway shall have.
    pub replicas: usize,
    /// Whether the Deployment runs the candidate's image, and no pod of another.
    pub rolled: bool,
    /// Whether it has the stable image.
    pub is_back: bool,
    /// Whether it runs that, and no pod of another.
    pub runs_stable: bool,
    /// What keeps the candidate's own pods from being ready, in a sentence.
    pub trouble: Option<&'a str>,
}

impl Sight<'_> {
    /// Whether the candidate could serve this share. One of the same image is served by the pods that are there.
    fn has_room(&self, percent: u8, own_pods: bool) -> bool {
        self.loaded && (!own_pods || (!self.is_shared && self.ready >= size(self.replicas, percent)))
    }
}

/// Pods of its own that a candidate needs for a share: as many of the gateway's as the share is, and one before it has any.
pub fn size(replicas: usize, percent: u8) -> usize {
    (replicas * usize::from(percent)).div_ceil(100).max(1)
}

/// What the pods shall do about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// What is to be noted; what pods shall hold of the candidate stands in it.
    pub record: Record,
    /// What is worth an event once it is published.
    pub events: Vec<Event>,
    /// When to look again, although nothing happened.
    pub wake: Option<Timestamp>,
}

/// What pods hold of a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Served {
    /// Percent of the users.
    pub percent: u8,
    /// Whether the preview's port serves it.
    #[serde(default)]
    pub preview: bool,
    /// How many pods of its own it shall have; none where it has the stable image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods: Option<usize>,
    /// The percent that these pods are for, where that is more than it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<u8>,
}

/// What a report comes to for a rollout. Reports speak of arms.
pub fn judged(report: Option<&Report>) -> Judged {
    let judged = crate::analysis::judged(report);
    Judged { reason: in_words(&judged.reason), ..judged }
}

/// A report's sentence with the stable revision and the candidate in the place of the arms.
pub fn in_words(text: &str) -> String {
    let stable =
        text.replace("the baseline arm", "the stable revision").replace("on baseline", "on the stable revision");
    let stable = stable.replace("on each arm", "of each revision");
    stable.replace("the bifrost arm", "the candidate").replace("baseline has", "the stable revision has")
}
