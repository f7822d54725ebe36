//! A request's life, one phase a file: `admit → decode → choose → attempt → respond → record`.
//!
//! * [`admit`] answers what is the gateway's own and refuses what no later phase could serve;
//! * [`decode`] collects a JSON body, peeks at the few members that matter, and makes the body that goes to the vendor;
//! * [`revision`] is pure: while a rollout tries a candidate, which revision serves; [`forward`] hands on what pods of the candidate's
//!   own serve, and the rest is as ever, under the configuration of the revision;
//! * [`choose`] is pure: provider, arm and reason; it asks [`caller`] who sent a request, [`split`] about eligible ones, and
//!   [`preview`] about those that came by its port;
//! * [`attempt`] sends it, once more where it was not sent;
//! * [`respond`] relays the answer as it comes, and [`watch`] says what is looked at meanwhile;
//! * [`record`] counts it, however it ends, and [`measure`] says what it tells of its arm.

pub mod admit;
pub mod attempt;
pub mod caller;
pub mod choose;
pub mod decode;
pub mod forward;
pub mod measure;
pub mod preview;
pub mod reason;
pub mod record;
pub mod respond;
pub mod revision;
pub mod split;
pub mod watch;

use std::rc::Rc;

use bifrost_wire::{Peek, PeekError};
use hyper::body::{Body, Incoming};
use hyper::{Request, Response};

use crate::admin::HEALTH_PATH;
use crate::front::error::GatewayError;
use crate::front::route::{Route, route};
use crate::http::Head;
use crate::server::connection::ConnectionState;
use crate::server::{Door, Shard};
use crate::shadow::pending::Pending;
use crate::snapshot::{Snapshot, Tried};
pub use crate::telemetry::Arm;
use caller::Caller;
use forward::Forwarded;
pub use reason::Reason;
use record::Ledger;
use respond::{AnswerBody, Answering};

/// Serves one request. There is always an answer; a fault becomes one in the front's own shape.
pub async fn handle(
    shard: Rc<Shard>,
    connection: Rc<ConnectionState>,
    request: Request<Incoming>,
) -> Response<AnswerBody> {
    let (mut parts, body) = request.into_parts();
    let mut ledger = Ledger::open(&shard, parts.method.clone());
    if !body.is_end_stream() {
        ledger.body_is_to_come();
    }
    let door = connection.door();
    let answering = Answering::new(shard, connection);
    if let Some(own) = admit::own_page(&answering.shard, door, &parts.method, parts.uri.path()).await {
        return answering.own_page(own, ledger);
    }
    let head = Head::new(std::mem::take(&mut parts.headers));
    if door == Door::Forwarded && parts.uri.path() == HEALTH_PATH {
        ledger.set_apart();
        return match forward::configuration(&answering.shard, &head) {
            Ok(snapshot) => {
                ledger.admitted(&snapshot);
                answering.own_page(admit::health(), ledger)
            }
            Err(error) => answering.refuse(error, None, ledger),
        };
    }
    let route = match route(&parts.method, parts.uri.path()) {
        Ok(route) => route,
        Err(no_route) => return answering.refuse(admit::no_route(no_route, parts.uri.path()), None, ledger),
    };
    ledger.placed(&route);
    let inbound = Inbound { door, route, path: parts.uri.path(), query: parts.uri.query(), head };
    match serve(&answering.shard, inbound, body, &mut ledger).await {
        Ok(answer) => answering.relay(answer, route.front, ledger),
        Err(error) => answering.refuse(error, Some(route.front), ledger),
    }
}

/// A request that found its front.
pub struct Inbound<'p> {
    /// By which port it came.
    pub door: Door,
    /// Its place.
    pub route: Route<'p>,
    /// Its path as it came.
    pub path: &'p str,
    /// Its query.
    pub query: Option<&'p str>,
    /// Its headers as they came.
    pub head: Head,
}

async fn serve(
    shard: &Rc<Shard>,
    inbound: Inbound<'_>,
    body: Incoming,
    ledger: &mut Ledger,
) -> Result<attempt::Answer, GatewayError> {
    let mut snapshot = match inbound.door {
        Door::Main | Door::Preview => admit::configuration(shard)?,
        Door::Forwarded => {
            ledger.set_apart();
            forward::configuration(shard, &inbound.head)?
        }
    };
    ledger.admitted(&snapshot);
    let only = preview::only_arm(inbound.door, &snapshot)?;
    admit::admit(&inbound, &body, &snapshot)?;
    let deadline = shard.deadlines.idle();
    let mut body = decode::read(shard, &inbound, body, &snapshot, &deadline).await?;
    ledger.received(&body, inbound.head.content_length());
    let mut peeked = body.peek().await;
    if let Some(tried) = &snapshot.tried {
        let peek = understood(&peeked);
        if takes_candidate(&inbound, peek, &snapshot, ledger) {
            match tried {
                Tried::Here(tried) => {
                    snapshot = shard.candidate(&snapshot, tried);
                    ledger.admitted(&snapshot);
                }
                Tried::There(to) => {
                    let asked = forward::Asked::of(&inbound, &ledger.method(), peek, &snapshot);
                    drop(peeked);
                    // In a box, so that no request is larger for it while there is no rollout.
                    let forwarding = Box::pin(forward::forward(shard, &inbound, body, asked, to, &snapshot, ledger));
                    body = match forwarding.await? {
                        Forwarded::Answered(answer) => return Ok(*answer),
                        Forwarded::Untaken(body) => body,
                    };
                    peeked = body.peek().await;
                }
            }
        }
        admit::fits(ledger.request_bytes(), &snapshot)?;
    }
    let caller = Caller::of(&inbound.head, inbound.query, snapshot.traffic());
    let choice = choose::choose(&inbound.route, caller, understood(&peeked), only, &snapshot, fastrand::u64(..))
        .map_err(|refusal| {
            ledger.refused(refusal.reason);
            refusal.error
        })?;
    ledger.chose(&choice, understood(&peeked).is_some_and(Peek::is_stream));
    let plan = decode::plan(&inbound, &choice, &body, peeked.as_ref(), &snapshot)?;
    // A copy would compare one revision's arm with another's.
    let shadow = match ledger.is_apart() {
        true => None,
        false => Pending::of(shard, &inbound, &choice, &body, &ledger.method(), &snapshot),
    };
    let answer = attempt::attempt(shard, inbound, body, plan, snapshot, deadline, ledger).await?;
    Ok(attempt::Answer { shadow, ..answer })
}

fn understood<'p, 'b>(peeked: &'p Option<Result<Peek<'b>, PeekError>>) -> Option<&'p Peek<'b>> {
    peeked.as_ref().and_then(|peeked| peeked.as_ref().ok())
}

/// Whether the rollout's candidate serves a request; noted where the rollout has a say.
fn takes_candidate(inbound: &Inbound<'_>, peek: Option<&Peek<'_>>, snapshot: &Snapshot, ledger: &mut Ledger) -> bool {
    let table = snapshot.traffic();
    let user = Caller::of(&inbound.head, inbound.query, table).sticky_key(peek, table);
    let given =
        table.rollout.as_ref().and_then(|rollout| revision::give(rollout, inbound.door, user, fastrand::u64(..)));
    given.is_some_and(|given| {
        ledger.given(given, peek);
        given.candidate
    })
}
