//! Condition types of both kinds. Their reasons are the operator's.

/// Spec is valid: it could be turned into a configuration.
pub const ACCEPTED: &str = "Accepted";
/// Every Secret and ConfigMap that is referred to exists and has the key.
pub const RESOLVED_REFS: &str = "ResolvedRefs";
/// Every ready pod has confirmed the newest configuration, split and keys.
pub const PROGRAMMED: &str = "Programmed";
/// Enough pods are ready to serve.
pub const AVAILABLE: &str = "Available";
/// The summary: on a gateway Accepted, Programmed and Available; on a key: in use by a gateway.
pub const READY: &str = "Ready";
/// Only a user can help: nothing will get better by waiting.
pub const STALLED: &str = "Stalled";
/// Owned objects are being changed.
pub const RECONCILING: &str = "Reconciling";
/// A rollout of the pods, or their confirmation, is under way.
pub const PROGRESSING: &str = "Progressing";
/// Works, but not as the spec asks for.
pub const DEGRADED: &str = "Degraded";
/// `spec.paused` holds changes back.
pub const PAUSED: &str = "Paused";
/// A key's Secret exists and holds the named member.
pub const RESOLVED: &str = "Resolved";
