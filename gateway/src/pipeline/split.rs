//! The split of eligible requests between the arms, as the traffic table has it. Pure: the same inputs give the same answer in every
//! pod.

use bifrost_config::Strategy;
use bifrost_wire::{Peek, bucket_of, cohort_hash, takes_bifrost};

use super::caller::{Caller, wanted_arm};
use super::reason::Reason;
use crate::front::error::GatewayError;
use crate::front::route::{Endpoint, Kind, Route};
use crate::rules::Subject;
use crate::snapshot::Snapshot;
use crate::telemetry::Arm;

/// An eligible request.
#[derive(Debug, Clone, Copy)]
pub struct Eligible<'a> {
    /// Its place.
    pub route: &'a Route<'a>,
    /// Who sent it.
    pub caller: Caller<'a>,
    /// What is in its body, if that can be seen.
    pub peek: Option<&'a Peek<'a>>,
    /// Index of its provider.
    pub upstream: usize,
}

/// What the split says of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// The arm.
    pub arm: Arm,
    /// Why.
    pub reason: Reason,
    /// Hash of what holds its user on an arm; without such a thing a random number.
    pub hash: u64,
}

/// Which arm it takes, and why. `only` is the arm of the preview, for requests that came by its port; `chance` is a random number for requests that nothing holds on an arm.
pub fn split(
    request: Eligible<'_>,
    only: Option<Arm>,
    snapshot: &Snapshot,
    chance: u64,
) -> Result<Decision, GatewayError> {
    let table = snapshot.traffic();
    let user = request.caller.sticky_key(request.peek, table);
    let hash = user.map_or(chance, |user| cohort_hash(&table.salt, user));
    if let Some(only) = only {
        return Ok(Decision { arm: only, reason: Reason::Preview, hash });
    }
    if table.allow_arm_header
        && let Some(wanted) = wanted_arm(request.caller.head)?
    {
        return Ok(Decision { arm: wanted, reason: Reason::Header, hash });
    }
    let bucket = bucket_of(hash);
    let holds_state = holds_state(request);
    let (bifrost, reason) = match table.strategy {
        // All or nothing: below its goal it was taken back.
        Strategy::DropIn => (table.percent >= 100, Reason::DropIn),
        Strategy::BlueGreen => (table.is_green(), Reason::BlueGreen),
        // Without a user nothing keeps the next request of its conversation in the same account.
        Strategy::Canary if holds_state && user.is_none() && table.percent < 100 => (false, Reason::VendorState),
        Strategy::Canary => (takes_bifrost(bucket, table.percent), Reason::Canary),
        Strategy::Gradual => {
            let (rules, subject) = (&snapshot.rules, subject(request, user, bucket, snapshot));
            match holds_state {
                false => (rules.fit(&subject), Reason::Gradual),
                // Not by a rule that may fit this turn of a conversation and not the next, which would find its account changed.
                true if rules.fit_every_turn(&subject) => (true, Reason::Gradual),
                true if rules.are_same_every_turn(user) => (false, Reason::Gradual),
                true => (false, Reason::VendorState),
            }
        }
    };
    Ok(Decision { arm: if bifrost { Arm::Bifrost } else { Arm::Baseline }, reason, hash })
}

/// Whether it may make or name what belongs to one account at the vendor.
fn holds_state(request: Eligible<'_>) -> bool {
    request.route.kind == Kind::Json(Endpoint::Responses) && request.peek.is_none_or(Peek::holds_vendor_state)
}

fn subject<'a>(request: Eligible<'a>, user: Option<&'a [u8]>, bucket: u16, snapshot: &Snapshot) -> Subject<'a> {
    let Eligible { route, caller, peek, upstream } = request;
    let endpoint = match route.kind {
        Kind::Json(endpoint) => Some(endpoint),
        Kind::Models | Kind::Raw | Kind::Account => None,
    };
    Subject {
        endpoint,
        provider: upstream,
        version: snapshot.upstreams[upstream].vendor.version_prefix,
        rest: route.rest,
        model: peek.and_then(Peek::model),
        head: caller.head,
        user,
        bucket,
    }
}

#[cfg(test)]
mod tests;
