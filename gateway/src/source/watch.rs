//! A watch of one object that comes back by itself.

use std::fmt::Debug;
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use kube::runtime::utils::{Backoff, StreamBackoff};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::inbox::News;

/// First and longest wait before a broken watch is opened again. Short: the API server's return must not find pods that wait
/// half a minute to hear of a rollback.
const DELAY: (Duration, Duration) = (Duration::from_millis(300), Duration::from_secs(5));
/// A watch that held for so long starts at the first wait again.
const HELD: Duration = Duration::from_secs(20);
/// Seconds after which the server ends a watch and we open the next; a dead connection is noticed after as long.
const WATCH_SECONDS: u32 = 60;

/// The object called `name`, whenever it changes; `None`: there is none. Goes on after errors, and never ends.
pub(super) fn watch_one<K>(
    api: Api<K>,
    name: &str,
) -> impl Stream<Item = Result<(News, Option<K>), watcher::Error>> + Send + use<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    // The role allows this name only, so the request must carry it as a selector.
    let config = watcher::Config::default().fields(&format!("metadata.name={name}")).timeout(WATCH_SECONDS);
    let events = StreamBackoff::new(watcher(api, config), Delay::default());
    events.scan(false, |listed, event| futures::future::ready(Some(news(listed, event)))).flat_map(stream::iter)
}

/// `listed`: whether the list in progress has brought the object.
fn news<K, E>(listed: &mut bool, event: Result<Event<K>, E>) -> Option<Result<(News, Option<K>), E>> {
    match event {
        Ok(Event::Init) => {
            *listed = false;
            None
        }
        Ok(Event::InitApply(object)) => {
            *listed = true;
            Some(Ok((News::Asked, Some(object))))
        }
        Ok(Event::InitDone) => (!*listed).then_some(Ok((News::Asked, None))),
        Ok(Event::Apply(object)) => Some(Ok((News::Told, Some(object)))),
        Ok(Event::Delete(_)) => Some(Ok((News::Told, None))),
        Err(error) => Some(Err(error)),
    }
}

/// Doubling waits with jitter, so that the pods of a cluster do not come back at one moment.
struct Delay {
    next: Duration,
    last: Option<Instant>,
}

impl Default for Delay {
    fn default() -> Self {
        Self { next: DELAY.0, last: None }
    }
}

impl Iterator for Delay {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let now = Instant::now();
        if self.last.is_some_and(|last| now > last + self.next + HELD) {
            self.next = DELAY.0;
        }
        self.last = Some(now);
        let delay = self.next;
        self.next = (delay * 2).min(DELAY.1);
        Some(delay.mul_f64(0.5 + fastrand::f64() / 2.0))
    }
}

impl Backoff for Delay {
    /// Called after every event, also after the one that says that a list begins, which comes before each failing one: a watch
    /// has recovered only once it held for a while.
    fn reset(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waits_grow_to_a_bound_and_start_anew_after_a_watch_that_held() {
        let mut delay = Delay::default();
        let waits: Vec<_> = delay.by_ref().take(8).collect();
        assert!(waits[0] >= DELAY.0 / 2 && waits[0] <= DELAY.0, "{waits:?}");
        assert!(waits[7] > Duration::from_secs(2) && waits[7] <= DELAY.1, "{waits:?}");
        delay.reset();
        assert!(delay.next().unwrap() > Duration::from_secs(2), "an event alone proves nothing");
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(delay.next().unwrap() <= DELAY.0);
    }

    #[test]
    fn an_object_that_a_list_does_not_bring_is_missing() {
        let mut listed = true;
        let mut next = |event| news::<&str, ()>(&mut listed, Ok(event));
        assert_eq!(next(Event::Init), None);
        assert_eq!(next(Event::InitDone), Some(Ok((News::Asked, None))));
        assert_eq!(next(Event::Init), None);
        assert_eq!(next(Event::InitApply("a")), Some(Ok((News::Asked, Some("a")))));
        assert_eq!(next(Event::InitDone), None);
        assert_eq!(next(Event::Apply("b")), Some(Ok((News::Told, Some("b")))));
        assert_eq!(next(Event::Delete("b")), Some(Ok((News::Told, None))));
    }
}
