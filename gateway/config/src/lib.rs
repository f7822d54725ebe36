//! The configuration that operator and gateway share, and the rules it obeys.
//!
//! Two input forms lead here, the `BifrostGateway` resource and the guide's `config.json`. Each becomes a [`Draft`], and
//! [`validate`] is the one place where a draft becomes a [`Config`]: nothing later checks, defaults or parses again.
//! What the operator publishes to the gateway pods ([`published`]) and what they report back ([`report`]) lie here too, so
//! that both sides use the same types.
//!
//! Pure: no tokio, no HTTP, no Kubernetes client. Time, environment and files are arguments.

mod address;
mod base_url;
mod ca_bundle;
pub mod catalog;
mod draft;
pub mod file;
mod model;
mod plan;
pub mod prices;
mod problem;
pub mod published;
pub mod report;
mod rule;
mod secret;
mod shadow;
pub mod units;
mod validate;

pub use address::{is_local_address, is_local_host};
pub use base_url::{BaseUrl, BaseUrlError, Scheme};
pub use ca_bundle::check_ca_bundle;
pub use catalog::ProviderType;
pub use draft::{
    BlueGreenDraft, Draft, GateDraft, GradualDraft, KeyDraft, MigrationDraft, NetworkDraft, PhaseDraft, ProviderDraft,
    ShadowDraft, StepDraft, StickinessDraft, StickinessKind,
};
pub use model::{Client, Config, Key, Migration, Network, OwnProvider, Provider, StickyKey, Strategy};
pub use plan::{Axis, Gate, Plan, Position, Stage};
pub use prices::{ModelPrice, Prices};
pub use problem::{Problem, Reason};
pub use rule::{EndpointKind, HeaderMatch, MatchRule};
pub use secret::{KeyValues, SecretValue};
pub use shadow::{Shadow, ShadowPrice, ShadowedArm};
pub use validate::{AddressRule, check_key, validate};
