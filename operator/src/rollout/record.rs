//! What is noted of rollouts: a member of `state.json`.

use bifrost_config::Strategy;
use k8s_openapi::jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Served;
use super::revision::Revision;
use crate::migration::progress::Progress;
use crate::migration::request::Requests;

/// Revisions that can be gone back to.
const HISTORY: usize = 5;

/// What is noted of rollouts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// The revision that serves.
    pub stable: Revision,
    /// Whether pods ever served it. One that never worked is no reason to try another one carefully.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub proven: bool,
    /// The image that ran before, until all pods run the stable revision's. One that took over without a candidate may not exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ran: Option<String>,
    /// Whether the Deployment was on its way to a candidate's image and has to come back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub returning: bool,
    /// The one that is to replace it, also where it was taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<Candidate>,
    /// What was asked for while there was no candidate.
    #[serde(flatten)]
    pub own_requests: Requests,
    /// Revisions that were stable and are kept, the newest last. One that somebody deleted is not made again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<String>,
}

/// A candidate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Candidate {
    /// What it is.
    pub revision: Revision,
    /// Short name of what its configuration comes to, however the spec spells it.
    #[serde(default)]
    pub meaning: String,
    /// How far it is.
    pub progress: Progress,
    /// Since when it waits for pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Timestamp>,
    /// Whether it has everything, and the Deployment is on its way to it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub promoting: bool,
    /// What pods hold of it; none of one that was taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub served: Option<Served>,
}

impl Record {
    /// At the very beginning. A request that is there already is not run: it may have come with a backup.
    pub fn new(stable: Revision, request: Option<&str>) -> Self {
        let own_requests = Requests::new(request);
        Self { stable, proven: false, ran: None, returning: false, candidate: None, own_requests, history: Vec::new() }
    }

    /// The image that the Deployment shall run.
    pub fn image(&self) -> &str {
        let promoted = self.candidate.as_ref().filter(|candidate| candidate.promoting);
        &promoted.map_or(&self.stable, |candidate| &candidate.revision).image
    }

    /// Whether there is a candidate with an image of its own.
    pub fn has_own_pods(&self) -> bool {
        self.candidate.as_ref().is_some_and(|candidate| candidate.revision.image != self.stable.image)
    }

    /// The candidate that pods hold, and what of it.
    pub fn served(&self) -> Option<(&Revision, Served)> {
        let candidate = self.candidate.as_ref()?;
        Some((&candidate.revision, candidate.served?))
    }

    /// What was asked for so far.
    pub fn requests(&self) -> &Requests {
        self.candidate.as_ref().map_or(&self.own_requests, |candidate| &candidate.progress.requests)
    }

    /// Goes on with this revision as the stable one, and without a candidate.
    pub(super) fn settle(&mut self, stable: &Revision) {
        if let Some(candidate) = self.candidate.take() {
            self.own_requests = candidate.progress.requests;
        }
        self.proven &= self.stable == *stable;
        if self.stable.image != stable.image {
            self.ran.get_or_insert_with(|| self.stable.image.clone());
        }
        self.stable = stable.clone();
    }

    /// Notes that a revision can be gone back to, and forgets those of long ago.
    pub fn keep(&mut self, id: &str) {
        self.history.retain(|kept| kept != id);
        self.history.push(id.to_owned());
        let more = self.history.len().saturating_sub(HISTORY);
        self.history.drain(..more);
    }
}

impl Candidate {
    /// At the very beginning.
    pub fn new(revision: &Revision, strategy: Strategy, requests: &Requests, now: Timestamp) -> Self {
        let progress = Progress {
            config: revision.config.clone(),
            requests: requests.clone(),
            ..Progress::new(strategy, &revision.id, None, now)
        };
        let meaning = String::new();
        Self { revision: revision.clone(), meaning, progress, waiting: None, promoting: false, served: None }
    }
}
