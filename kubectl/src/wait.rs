//! Waiting, with a bound, until a gateway's status says something.

use std::time::Duration;

use bifrost_crds::BifrostGateway;
use futures::{StreamExt as _, pin_mut};
use kube::runtime::watcher::{self, watch_object};
use tokio::time::{Instant, timeout_at};

use crate::failure::Failure;
use crate::session::Session;

/// How waiting ended.
pub(crate) enum Waited<T> {
    /// The status said it.
    Done(T, Duration),
    /// It did not within the time; the gateway as it was seen last.
    TimedOut(Option<Box<BifrostGateway>>),
}

/// Follows a gateway until `find` finds something in it.
pub(crate) async fn wait<T>(
    session: &Session,
    name: &str,
    limit: Duration,
    mut find: impl FnMut(&BifrostGateway) -> Option<T>,
) -> Result<Waited<T>, Failure> {
    let began = Instant::now();
    let changes = watch_object(session.api::<BifrostGateway>(), name);
    pin_mut!(changes);
    let mut last = None;
    loop {
        match timeout_at(began + limit, changes.next()).await {
            Ok(Some(Ok(Some(gateway)))) => {
                if let Some(found) = find(&gateway) {
                    return Ok(Waited::Done(found, began.elapsed()));
                }
                last = Some(Box::new(gateway));
            }
            Ok(Some(Ok(None))) => return Err(Failure::no(format!("gateway {name} was deleted meanwhile"))),
            Ok(Some(Err(error))) => refused(error)?,
            Ok(None) | Err(_) => return Ok(Waited::TimedOut(last)),
        }
    }
}

/// Lets a watch that broke go on, but not one that will never be allowed.
pub(crate) fn refused(error: watcher::Error) -> Result<(), Failure> {
    match error {
        watcher::Error::InitialListFailed(error) | watcher::Error::WatchStartFailed(error) if is_final(&error) => {
            Err(error.into())
        }
        _ => Ok(()),
    }
}

/// Whether a watch will never be allowed.
pub(crate) fn is_refused(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::InitialListFailed(error) | watcher::Error::WatchStartFailed(error) if is_final(error))
}

fn is_final(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if matches!(status.code, 401 | 403 | 404))
}
