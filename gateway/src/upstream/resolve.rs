//! Names to addresses: the system's resolver behind a cache that all runtimes share.
//!
//! An answer is used for [`FRESH`]; near the end of that time its next use looks the name up anew in the background, so that a
//! busy name never makes a request wait. When a look-up fails, or is slow, the last answer goes on serving for up to [`STALE`].
//! There is one look-up per name at a time. The cache is asked when a connection is opened, not per request.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

/// How long an answer is used as it is.
pub const FRESH: Duration = Duration::from_secs(30);

/// From this age on a use looks the name up again in the background.
const REFRESH: Duration = Duration::from_secs(20);

/// How old an answer may be that stands in for a failed look-up. Bounded: an address inside a cluster is given to others in time.
pub const STALE: Duration = Duration::from_secs(3_600);

/// How long a caller waits for a look-up before it takes an old answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// After a failed look-up, how long the old answer serves before the next is tried.
const PAUSE: Duration = Duration::from_secs(5);

/// Names kept; beyond that the one unused for longest goes. Names come from configurations: this is a bound, not a working size.
const NAMES: usize = 1_024;

/// Addresses kept of one answer.
const ADDRESSES: usize = 16;

/// The addresses of a name in the resolver's order of preference; never empty.
pub type Addresses = Arc<[IpAddr]>;

/// What looks a name up, given the name.
type Lookup = Box<dyn Fn(Arc<str>) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> + Send + Sync>;

/// A name has no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{host}: {reason}")]
pub struct ResolveError {
    /// The name.
    pub host: Arc<str>,
    /// The resolver's words.
    pub reason: Arc<str>,
}

/// Looks names up. Clones share one cache.
#[derive(Clone)]
pub struct Resolver(Arc<Shared>);

struct Shared {
    lookup: Lookup,
    names: Mutex<HashMap<Arc<str>, Name>>,
}

type Outcome = Result<Addresses, ResolveError>;

/// Where the outcome of a look-up arrives.
type Landing = watch::Receiver<Option<Outcome>>;

struct Name {
    answer: Option<Answer>,
    /// The outcome of the look-up under way.
    flight: Option<Landing>,
    used: Instant,
}

#[derive(Clone)]
struct Answer {
    addresses: Addresses,
    at: Instant,
    /// Set by a failed look-up.
    retry_at: Option<Instant>,
}

/// What to do for a caller, decided from the state of a name.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Use,
    UseAndRefresh,
    /// Wait for a look-up, and let the old answer stand in for it.
    WaitOrUse,
    Wait,
}

fn verdict(answer: Option<&Answer>, now: Instant) -> Verdict {
    let Some(answer) = answer else { return Verdict::Wait };
    let age = now.saturating_duration_since(answer.at);
    let paused = answer.retry_at.is_some_and(|at| now < at);
    match age {
        age if age >= STALE => Verdict::Wait,
        age if age < REFRESH || paused => Verdict::Use,
        age if age < FRESH => Verdict::UseAndRefresh,
        _ => Verdict::WaitOrUse,
    }
}

impl Resolver {
    /// The system's resolver (`/etc/hosts`, `/etc/resolv.conf`), on the runtime's blocking threads.
    pub fn system() -> Self {
        Self::with_lookup(|host| {
            Box::pin(async move {
                // The port has no meaning here: the standard library wants one.
                Ok(tokio::net::lookup_host((&*host, 0)).await?.map(|address| address.ip()).collect())
            })
        })
    }

    /// A resolver over any look-up.
    pub fn with_lookup<F>(lookup: F) -> Self
    where
        F: Fn(Arc<str>) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> + Send + Sync + 'static,
    {
        Self(Arc::new(Shared { lookup: Box::new(lookup), names: Mutex::default() }))
    }

    /// The addresses of `host`: a lower-case name, or a literal address, which is not looked up.
    ///
    /// Waits as long as the system's resolver does when nothing is known: bound it.
    pub async fn resolve(&self, host: &str) -> Result<Addresses, ResolveError> {
        if let Ok(literal) = host.parse::<IpAddr>() {
            return Ok(Arc::new([literal]));
        }
        let (verdict, answer, landing) = self.ask(host, Instant::now());
        match (verdict, answer) {
            (Verdict::Use | Verdict::UseAndRefresh, Some(answer)) => Ok(answer),
            (Verdict::WaitOrUse, Some(answer)) => match timeout(PATIENCE, landed(landing, host)).await {
                Ok(Ok(addresses)) => Ok(addresses),
                _ => Ok(answer),
            },
            _ => landed(landing, host).await,
        }
    }

    /// The verdict, the answer known, and the look-up under way where the verdict wants one.
    fn ask(&self, host: &str, now: Instant) -> (Verdict, Option<Addresses>, Option<Landing>) {
        let mut new = None;
        let mut names = self.names();
        let host: Arc<str> = match names.get_key_value(host) {
            Some((known, _)) => Arc::clone(known),
            None => {
                make_room(&mut names);
                Arc::from(host)
            }
        };
        let name = names.entry(Arc::clone(&host)).or_insert_with(|| Name { answer: None, flight: None, used: now });
        name.used = now;
        let verdict = verdict(name.answer.as_ref(), now);
        let answer = name.answer.as_ref().map(|answer| Arc::clone(&answer.addresses));
        let landing = (verdict != Verdict::Use).then(|| {
            let start = || {
                let (tell, landing) = watch::channel(None);
                new = Some(Flight { resolver: self.clone(), host, tell });
                landing
            };
            name.flight.get_or_insert_with(start).clone()
        });
        // Its end takes the lock, and a runtime that is going down ends it at once.
        drop(names);
        if let Some(flight) = new {
            // A task of its own: it ends, and fills the cache, even if the caller leaves.
            tokio::spawn(flight.run());
        }
        (verdict, answer, landing)
    }

    fn names(&self) -> MutexGuard<'_, HashMap<Arc<str>, Name>> {
        self.0.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes the name that was unused for longest once there are too many.
fn make_room(names: &mut HashMap<Arc<str>, Name>) {
    if names.len() < NAMES {
        return;
    }
    if let Some(oldest) = names.iter().min_by_key(|(_, name)| name.used).map(|(host, _)| Arc::clone(host)) {
        names.remove(&oldest);
    }
}

/// Waits for the outcome of a look-up.
async fn landed(landing: Option<Landing>, host: &str) -> Outcome {
    let lost = || Err(ResolveError { host: Arc::from(host), reason: Arc::from("the look-up was cut short") });
    let Some(mut landing) = landing else { return lost() };
    match landing.wait_for(Option::is_some).await {
        Ok(outcome) => outcome.clone().unwrap_or_else(lost),
        Err(_) => lost(),
    }
}

/// One look-up under way. However it ends, its name is free for the next.
struct Flight {
    resolver: Resolver,
    host: Arc<str>,
    tell: watch::Sender<Option<Outcome>>,
}

impl Flight {
    async fn run(self) {
        let outcome = self.look_up().await;
        self.keep(&outcome, Instant::now());
        self.tell.send_replace(Some(outcome));
    }

    async fn look_up(&self) -> Outcome {
        let error = |reason: &str| ResolveError { host: Arc::clone(&self.host), reason: Arc::from(reason) };
        let found = (self.resolver.0.lookup)(Arc::clone(&self.host)).await;
        let mut addresses = found.map_err(|failure| error(&failure.to_string()))?;
        let mut seen = Vec::with_capacity(ADDRESSES);
        addresses.retain(|address| {
            let new = seen.len() < ADDRESSES && !seen.contains(address);
            if new {
                seen.push(*address);
            }
            new
        });
        if addresses.is_empty() { Err(error("the name has no address")) } else { Ok(Arc::from(addresses)) }
    }

    fn keep(&self, outcome: &Outcome, now: Instant) {
        let mut names = self.resolver.names();
        let Some(name) = names.get_mut(&self.host) else { return };
        match outcome {
            Ok(addresses) => {
                name.answer = Some(Answer { addresses: Arc::clone(addresses), at: now, retry_at: None });
            }
            Err(_) => {
                if let Some(answer) = &mut name.answer {
                    answer.retry_at = Some(now + PAUSE);
                }
            }
        }
    }
}

impl Drop for Flight {
    /// Also after a panic, and when the runtime ends.
    fn drop(&mut self) {
        if let Some(name) = self.resolver.names().get_mut(&self.host) {
            name.flight = None;
        }
    }
}

#[cfg(test)]
mod tests;
