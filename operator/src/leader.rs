//! Leader election by a Lease. Expiry is counted from this process's own observation of the last change, never by comparing the
//! clocks of two machines. The identity is the pod's name, so a restarted container goes on at once.
//!
//! A Lease cannot stop a process that was suspended in mid-write; what must never be undone by one is fenced by resource versions
//! where it is written.

use std::sync::Mutex;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::cluster::{FIELD_MANAGER, is_conflict};

/// How long a Lease lives without being renewed.
pub const DURATION: Duration = Duration::from_secs(10);
/// How often it is renewed and looked at.
pub const RENEWAL: Duration = Duration::from_secs(2);
/// A leader that could not renew for this long stops, a renewal before anybody else may begin.
const STEP_DOWN: Duration = DURATION.saturating_sub(RENEWAL);

/// Whether this process leads, for everyone who writes.
#[derive(Debug)]
pub struct Leadership {
    until: Mutex<Option<Instant>>,
    always: bool,
    changed: watch::Sender<bool>,
    observed: watch::Sender<bool>,
}

impl Leadership {
    /// Not elected yet.
    pub fn candidate() -> Self {
        Self {
            until: Mutex::new(None),
            always: false,
            changed: watch::Sender::new(false),
            observed: watch::Sender::new(false),
        }
    }

    /// A process that works alone.
    pub fn alone() -> Self {
        Self {
            until: Mutex::new(None),
            always: true,
            changed: watch::Sender::new(true),
            observed: watch::Sender::new(true),
        }
    }

    /// Whether this process may write now.
    pub fn holds(&self) -> bool {
        self.always || self.lock().is_some_and(|until| Instant::now() < until)
    }

    /// Follows gains and losses.
    pub fn subscribe(&self) -> watch::Receiver<bool> {
        self.changed.subscribe()
    }

    /// Whether the Lease was looked at once: a standby is ready from then on.
    pub fn observed(&self) -> bool {
        *self.observed.borrow()
    }

    fn set(&self, until: Option<Instant>) {
        *self.lock() = until;
        self.changed.send_if_modified(|leads| std::mem::replace(leads, until.is_some()) != until.is_some());
    }

    /// Tells followers that the lead ran out, if it did.
    fn lapse(&self) -> bool {
        let lapsed = *self.changed.borrow() && !self.holds();
        if lapsed {
            warn!("leadership lost: the Lease could not be renewed in time");
            self.set(None);
        }
        lapsed
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.until.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// What to do about the Lease as it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Move {
    /// There is none: make it.
    Create,
    /// It is ours, free or expired: write it.
    Write,
    /// It is another's until then, unless it changes.
    Wait(Instant),
}

/// One candidate's memory of the Lease.
#[derive(Debug)]
struct Election {
    identity: String,
    /// What the Lease said when it last changed, and when that was seen.
    last: Option<(String, Instant)>,
}

impl Election {
    fn decide(&mut self, lease: Option<&Lease>, now: Instant) -> Move {
        let Some(lease) = lease else { return Move::Create };
        let spec = lease.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.unwrap_or_default();
        if holder.is_empty() || holder == self.identity {
            return Move::Write;
        }
        let version = lease.resource_version().unwrap_or_default();
        let since = match &self.last {
            Some((seen, since)) if *seen == version => *since,
            _ => {
                self.last = Some((version, now));
                now
            }
        };
        let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        let expires = since + seconds.map_or(DURATION, Duration::from_secs);
        if now >= expires { Move::Write } else { Move::Wait(expires) }
    }

    /// The Lease as this candidate writes it over the one it read.
    fn written(&self, read: Option<&Lease>, name: &str, wall: Timestamp) -> Lease {
        let old = read.and_then(|lease| lease.spec.clone()).unwrap_or_default();
        let ours = old.holder_identity.as_deref() == Some(self.identity.as_str());
        let acquire_time = if ours { old.acquire_time } else { Some(MicroTime(wall)) };
        let transitions = old.lease_transitions.unwrap_or(0) + i32::from(!ours && read.is_some());
        Lease {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                resource_version: read.and_then(ResourceExt::resource_version),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.identity.clone()),
                lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
                acquire_time,
                renew_time: Some(MicroTime(wall)),
                lease_transitions: Some(transitions),
                ..LeaseSpec::default()
            }),
        }
    }
}

/// Takes part in the election until `stop` turns true, then releases the Lease.
pub async fn run(
    client: Client,
    namespace: &str,
    name: &str,
    identity: &str,
    leadership: &Leadership,
    mut stop: watch::Receiver<bool>,
) {
    let api: Api<Lease> = Api::namespaced(client, namespace);
    let mut election = Election { identity: identity.to_owned(), last: None };
    loop {
        // The process may have been suspended in the pause. Followers have to see the loss before the lead may come back.
        if leadership.lapse() {
            tokio::task::yield_now().await;
        }
        let pause = match tokio::time::timeout(RENEWAL, attempt(&api, name, &mut election, leadership)).await {
            Ok(Ok(pause)) => pause,
            Ok(Err(error)) => {
                warn!(%error, "the Lease could not be read or written");
                RENEWAL / 2
            }
            Err(_) => {
                warn!("the API server did not answer about the Lease");
                RENEWAL / 4
            }
        };
        leadership.lapse();
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = stop.wait_for(|stop| *stop) => break,
        }
    }
    if leadership.holds() {
        leadership.set(None);
        release(&api, name, identity).await;
    }
}

/// One look at the Lease; returns when to look again.
async fn attempt(
    api: &Api<Lease>,
    name: &str,
    election: &mut Election,
    leadership: &Leadership,
) -> Result<Duration, kube::Error> {
    let started = Instant::now();
    let read = api.get_opt(name).await?;
    leadership.observed.send_replace(true);
    let mv = election.decide(read.as_ref(), started);
    if let Move::Wait(expires) = mv {
        if *leadership.changed.borrow() {
            warn!("leadership lost: another process holds the Lease");
            leadership.set(None);
        }
        return Ok(expires.duration_since(started).min(RENEWAL));
    }
    let lease = election.written(read.as_ref(), name, Timestamp::now());
    let written = match mv {
        Move::Create => api.create(&PostParams::default(), &lease).await,
        _ => api.replace(name, &PostParams::default(), &lease).await,
    };
    match written {
        Ok(_) => {
            if !*leadership.changed.borrow() {
                info!(identity = election.identity, "leadership gained");
            }
            // Counted from before the request: the Lease lives at least until then.
            leadership.set(Some(started + STEP_DOWN));
            Ok(RENEWAL)
        }
        Err(error) if is_conflict(&error) => Ok(RENEWAL / 4),
        Err(error) => Err(error),
    }
}

/// Gives the Lease up, so that another takes it at once.
async fn release(api: &Api<Lease>, name: &str, identity: &str) {
    let Ok(Ok(Some(lease))) = tokio::time::timeout(RENEWAL, api.get_opt(name)).await else { return };
    if lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()) != Some(identity) {
        return;
    }
    let patch = serde_json::json!({
        "metadata": {"resourceVersion": lease.resource_version()},
        "spec": {"holderIdentity": ""},
    });
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    match tokio::time::timeout(RENEWAL, api.patch(name, &params, &Patch::Merge(&patch))).await {
        Ok(Ok(_)) => info!("the Lease was released"),
        Ok(Err(error)) => warn!(%error, "the Lease could not be released"),
        Err(_) => warn!("the Lease could not be released in time"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(holder: &str, version: &str) -> Lease {
        Lease {
            metadata: ObjectMeta { resource_version: Some(version.to_owned()), ..ObjectMeta::default() },
            spec: Some(LeaseSpec {
                holder_identity: Some(holder.to_owned()),
                lease_duration_seconds: Some(10),
                lease_transitions: Some(3),
                // A clock far ahead: it must not matter.
                renew_time: Some(MicroTime("2199-01-01T00:00:00Z".parse().unwrap())),
                ..LeaseSpec::default()
            }),
        }
    }

    fn election() -> Election {
        Election { identity: "a".into(), last: None }
    }

    #[test]
    fn a_lease_that_does_not_change_expires_by_own_observation() {
        let (mut election, start) = (election(), Instant::now());
        let other = lease("b", "1");
        assert_eq!(election.decide(Some(&other), start), Move::Wait(start + DURATION));
        let later = start + Duration::from_secs(9);
        assert_eq!(election.decide(Some(&other), later), Move::Wait(start + DURATION));
        assert_eq!(election.decide(Some(&other), start + DURATION), Move::Write);
    }

    #[test]
    fn a_renewal_by_another_begins_the_count_anew() {
        let (mut election, start) = (election(), Instant::now());
        election.decide(Some(&lease("b", "1")), start);
        let renewed = start + Duration::from_secs(9);
        assert_eq!(election.decide(Some(&lease("b", "2")), renewed), Move::Wait(renewed + DURATION));
    }

    #[test]
    fn a_restarted_container_and_a_released_lease_need_no_wait() {
        let now = Instant::now();
        assert_eq!(election().decide(Some(&lease("a", "1")), now), Move::Write);
        assert_eq!(election().decide(Some(&lease("", "1")), now), Move::Write);
        assert_eq!(election().decide(None, now), Move::Create);
    }

    #[test]
    fn a_takeover_is_counted_and_a_renewal_is_not() {
        let wall = Timestamp::now();
        let taken = election().written(Some(&lease("b", "7")), "x", wall);
        assert_eq!(taken.metadata.resource_version.as_deref(), Some("7"));
        assert_eq!(taken.spec.unwrap().lease_transitions, Some(4));
        let renewed = election().written(Some(&lease("a", "8")), "x", wall).spec.unwrap();
        assert_eq!((renewed.lease_transitions, renewed.acquire_time), (Some(3), None));
    }

    #[tokio::test(start_paused = true)]
    async fn leadership_ends_by_itself_when_it_is_not_renewed() {
        let leadership = Leadership::candidate();
        assert!(!leadership.holds());
        leadership.set(Some(Instant::now() + STEP_DOWN));
        assert!(leadership.holds());
        let mut leads = leadership.subscribe();
        assert!(!leadership.lapse() && *leads.borrow_and_update());
        tokio::time::advance(STEP_DOWN).await;
        assert!(!leadership.holds() && !leads.has_changed().unwrap(), "nobody has looked yet");
        assert!(leadership.lapse() && !*leads.borrow_and_update());
        assert!(!leadership.lapse(), "it is told once");
    }
}
