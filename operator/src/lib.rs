//! The operator of BifrostGateway and ProviderKey.
//!
//! Two controllers ([`gateway`], [`provider_key`]) of named steps, one file each: `observe` reads, `validate` and `build` are pure,
//! `apply` and `status` write. Beside them: what the pods confirm ([`confirm`]), the election ([`leader`]), events, conditions and
//! metrics. The operator never writes a spec, and never touches an object that is not its gateway's own.

pub mod admin;
pub mod analysis;
pub mod backoff;
pub mod cli;
pub mod cluster;
pub mod conditions;
pub mod confirm;
pub mod events;
pub mod gateway;
pub mod leader;
pub mod metrics;
pub mod migration;
pub mod names;
pub mod prices;
pub mod provider_key;
pub mod rollout;
pub mod run;
pub mod secrets;
pub mod tls;
