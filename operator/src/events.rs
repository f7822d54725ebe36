//! Kubernetes Events: a closed list of reasons, published in the background so that no reconciliation waits for them.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::{Event as ApiEvent, EventSeries};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use tokio::sync::mpsc;
use tokio::time::{Duration, Instant};
use tracing::{debug, warn};

use crate::leader::Leadership;

/// Events that may wait to be published; more are dropped.
const QUEUE: usize = 256;
/// The same event within this time is counted, not repeated.
const SERIES: Duration = Duration::from_mins(10);
/// Longest note that the API takes, in bytes.
const MAX_NOTE: usize = 1000;

/// Why an event is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// A new configuration was published to the pods.
    ConfigApplied,
    /// The spec is not valid; the pods keep what they have.
    ConfigRejected,
    /// The configuration is larger than what can be published.
    ConfigTooLarge,
    /// An object of a name that is needed belongs to somebody else.
    NameConflict,
    /// A Secret or its member is not there.
    SecretMissing,
    /// Something else that is referred to is not there or cannot be used.
    NotResolved,
    /// The resource holds what this version of the operator does not know.
    Unreadable,
    /// The value of a key changed.
    KeyRotated,
    /// A key is out of every pod.
    KeyRevoked,
    /// The split changed.
    TrafficChanged,
    /// A step of the canary began.
    StepStarted,
    /// A step of the migration waits for a promotion.
    StepPaused,
    /// A phase of the gradual migration began.
    PhaseStarted,
    /// The other colour became active.
    Promoted,
    /// A check of the analysis failed.
    AnalysisFailed,
    /// A hold is over and the analysis has not passed.
    AnalysisInconclusive,
    /// The migration went back by itself, or somebody aborted it.
    RolledBack,
    /// A rollout's candidate was taken back, and nobody had asked for it.
    CandidateFailed,
    /// What somebody asked for by an annotation was done.
    RequestHandled,
    /// What somebody asked for by an annotation was not done.
    RequestRefused,
    /// The share of requests differs much from the share of users.
    SkewedCohort,
    /// An owned object was changed by another hand, and is again what it should be.
    DriftCorrected,
    /// The gateway works, but not as the spec asks for.
    Degraded,
    /// It does again.
    Recovered,
}

impl Reason {
    /// Whether the event is a warning.
    const fn is_warning(self) -> bool {
        matches!(
            self,
            Self::ConfigRejected
                | Self::ConfigTooLarge
                | Self::NameConflict
                | Self::SecretMissing
                | Self::NotResolved
                | Self::Unreadable
                | Self::SkewedCohort
                | Self::RolledBack
                | Self::CandidateFailed
                | Self::AnalysisFailed
                | Self::RequestRefused
                | Self::Degraded
        )
    }

    /// What the operator did when it found this.
    const fn action(self) -> &'static str {
        match self {
            Self::ConfigApplied | Self::TrafficChanged | Self::KeyRotated | Self::KeyRevoked => "Publish",
            Self::StepStarted | Self::StepPaused | Self::PhaseStarted | Self::Promoted | Self::RolledBack => "Migrate",
            Self::CandidateFailed => "RollOut",
            Self::AnalysisFailed | Self::AnalysisInconclusive => "Analyse",
            Self::RequestHandled | Self::RequestRefused => "Request",
            Self::ConfigRejected | Self::ConfigTooLarge | Self::NameConflict | Self::Unreadable => "Validate",
            Self::SecretMissing | Self::NotResolved => "Resolve",
            Self::DriftCorrected => "Apply",
            Self::SkewedCohort | Self::Degraded | Self::Recovered => "Observe",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// One event before it is published. The note holds no key material.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Why.
    pub reason: Reason,
    /// A sentence for people.
    pub note: String,
}

impl Event {
    /// For a resource that a newer version wrote, or that was stored before the schema forbade it.
    pub fn unreadable(why: impl fmt::Display, then: &str) -> Self {
        Self::new(Reason::Unreadable, format!("this version of the operator cannot read the resource ({why}); {then}"))
    }

    /// An event.
    pub fn new(reason: Reason, note: impl Into<String>) -> Self {
        Self { reason, note: note.into() }
    }
}

/// Takes events; cheap to clone.
#[derive(Debug, Clone)]
pub struct Recorder {
    queue: mpsc::Sender<(ObjectReference, Event)>,
}

impl Recorder {
    /// Starts publishing in the background, under the name of this pod, until the last recorder is gone. What waits while this
    /// process loses the lead is dropped: the next leader tells it.
    pub fn start(client: Client, pod_name: &str, leadership: Arc<Leadership>) -> Self {
        let (queue, events) = mpsc::channel(QUEUE);
        tokio::spawn(publish_all(client, pod_name.to_owned(), leadership, events));
        Self { queue }
    }

    /// Publishes an event about an object, soon.
    pub fn publish(&self, regarding: &ObjectReference, event: Event) {
        if self.queue.try_send((regarding.clone(), event)).is_err() {
            warn!("an event was dropped: too many wait to be published");
        }
    }
}

type SeriesKey = (Option<String>, Reason, String);

struct Series {
    name: String,
    count: i32,
    last: Instant,
}

async fn publish_all(
    client: Client,
    pod_name: String,
    leadership: Arc<Leadership>,
    mut events: mpsc::Receiver<(ObjectReference, Event)>,
) {
    let mut known: HashMap<SeriesKey, Series> = HashMap::new();
    while let Some((regarding, event)) = events.recv().await {
        if !leadership.holds() {
            continue;
        }
        let now = Instant::now();
        known.retain(|_, series| now.duration_since(series.last) < SERIES);
        let api: Api<ApiEvent> = Api::namespaced(client.clone(), regarding.namespace.as_deref().unwrap_or("default"));
        let key = (regarding.uid.clone(), event.reason, event.note.clone());
        let published = match known.get_mut(&key) {
            Some(series) => {
                series.count += 1;
                series.last = now;
                repeat(&api, series).await
            }
            None => {
                let object = api_event(&regarding, &event, &pod_name, Timestamp::now());
                let name = object.metadata.name.clone().unwrap_or_default();
                known.insert(key, Series { name, count: 1, last: now });
                api.create(&PostParams::default(), &object).await.map(drop)
            }
        };
        if let Err(error) = published {
            debug!(%error, reason = %event.reason, "an event could not be published");
        }
    }
}

async fn repeat(api: &Api<ApiEvent>, series: &Series) -> Result<(), kube::Error> {
    let seen = EventSeries { count: series.count, last_observed_time: MicroTime(Timestamp::now()) };
    let patch = serde_json::json!({"series": seen});
    api.patch(&series.name, &PatchParams::default(), &Patch::Merge(&patch)).await.map(drop)
}

fn api_event(regarding: &ObjectReference, event: &Event, pod_name: &str, now: Timestamp) -> ApiEvent {
    let name = regarding.name.as_deref().unwrap_or("bifrost");
    ApiEvent {
        metadata: ObjectMeta {
            name: Some(format!("{name}.{:x}", now.as_nanosecond())),
            namespace: regarding.namespace.clone(),
            ..ObjectMeta::default()
        },
        action: Some(event.reason.action().to_owned()),
        reason: Some(event.reason.to_string()),
        note: Some(cut(&event.note)),
        type_: Some(if event.reason.is_warning() { "Warning" } else { "Normal" }.to_owned()),
        event_time: Some(MicroTime(now)),
        regarding: Some(regarding.clone()),
        reporting_controller: Some("bifrost.dev/operator".to_owned()),
        reporting_instance: Some(pod_name.to_owned()),
        ..ApiEvent::default()
    }
}

fn cut(note: &str) -> String {
    if note.len() <= MAX_NOTE {
        return note.to_owned();
    }
    let end = (0..=MAX_NOTE).rev().find(|end| note.is_char_boundary(*end)).unwrap_or(0);
    format!("{}…", &note[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_names_what_and_who() {
        let regarding =
            ObjectReference { name: Some("ai".into()), namespace: Some("llm".into()), ..ObjectReference::default() };
        let event = Event::new(Reason::SecretMissing, "ä".repeat(2000));
        let made = api_event(&regarding, &event, "operator-0", Timestamp::UNIX_EPOCH);
        assert_eq!(made.reason.as_deref(), Some("SecretMissing"));
        assert_eq!(made.type_.as_deref(), Some("Warning"));
        assert_eq!(made.reporting_instance.as_deref(), Some("operator-0"));
        assert_eq!(made.metadata.namespace.as_deref(), Some("llm"));
        assert!(made.note.unwrap().len() <= 1024);
    }
}
