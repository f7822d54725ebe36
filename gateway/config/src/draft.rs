//! A configuration before it was checked: what both input forms become. Every value that can be wrong is still a text or optional,
//! and carries the path under which its author knows it.

use crate::{MatchRule, ProviderType, Strategy};

/// A whole configuration, unchecked. Paths of problems are made of `root` and the member names.
#[derive(Debug, Clone, Default)]
pub struct Draft {
    /// Path of the `client.maxRequestBody` member, and its value in bytes or as a size.
    pub max_request_body: Option<(String, String)>,
    /// Path of the member that names them, and PEM certificates that are trusted beside the built-in ones.
    pub ca_bundle: Option<(String, String)>,
    /// Providers in the order of the input.
    pub providers: Vec<ProviderDraft>,
    /// Provider keys; the values are apart.
    pub keys: Vec<KeyDraft>,
    /// How traffic is split.
    pub migration: MigrationDraft,
}

/// One provider, unchecked.
#[derive(Debug, Clone)]
pub struct ProviderDraft {
    /// Path of this entry in the input.
    pub path: String,
    /// Its name, by which keys and `provider/model` refer to it.
    pub name: String,
    /// Which vendor it is.
    pub provider_type: ProviderType,
    /// Path of the base URL in the input, and the URL; none: the vendor's.
    pub base_url: Option<(String, String)>,
    /// Time limits.
    pub network: NetworkDraft,
}

/// Time limits of one provider as texts such as `10s`, each with its path.
#[derive(Debug, Clone, Default)]
pub struct NetworkDraft {
    /// Connection and TLS handshake.
    pub connect_timeout: Option<(String, String)>,
    /// From the request's last byte to the answer's head.
    pub first_byte_timeout: Option<(String, String)>,
    /// A whole call that is no stream.
    pub request_timeout: Option<(String, String)>,
    /// Silence within a stream.
    pub stream_idle_timeout: Option<(String, String)>,
}

/// One provider key, unchecked and without its value.
#[derive(Debug, Clone)]
pub struct KeyDraft {
    /// Path of this entry in the input.
    pub path: String,
    /// Unique name.
    pub name: String,
    /// Name of the provider it belongs to.
    pub provider: String,
    /// Models it serves; empty: all.
    pub models: Vec<String>,
    /// Relative weight.
    pub weight: u32,
    /// The kill switch.
    pub enabled: bool,
    /// Hosts it may be sent to; empty: the vendor's.
    pub hosts: Vec<String>,
}

/// How traffic is to move, unchecked.
#[derive(Debug, Clone, Default)]
pub struct MigrationDraft {
    /// Path of the `migration` member.
    pub path: String,
    /// The strategy; none: Canary where a percent or steps are given, else DropIn.
    pub strategy: Option<Strategy>,
    /// Canary by hand: share of the eligible users that takes the bifrost arm, 0 to 100.
    pub canary_percent: Option<i64>,
    /// Canary by steps.
    pub canary_steps: Option<Vec<StepDraft>>,
    /// Gradual.
    pub gradual: Option<GradualDraft>,
    /// BlueGreen.
    pub blue_green: Option<BlueGreenDraft>,
    /// What holds a user on an arm.
    pub stickiness: StickinessDraft,
    /// The salt where `stickiness` names none: `<namespace>/<name>`.
    pub default_salt: String,
    /// Whether a request may choose its arm by a header.
    pub allow_arm_header: bool,
    /// Copies of one arm's requests to the other.
    pub shadow: Option<ShadowDraft>,
}

/// Copies, unchecked.
#[derive(Debug, Clone, Default)]
pub struct ShadowDraft {
    /// Share of the eligible requests of the arm, 0 to 100.
    pub percent: i64,
    /// Whether requests of the bifrost arm are copied, not of the baseline arm.
    pub of_bifrost: bool,
    /// An amount of money such as `10.00`.
    pub daily_limit: String,
    /// Whether requests with tools are left out.
    pub skip_tools: bool,
    /// A size such as `256Ki`: requests with a larger body are left out.
    pub skip_size: String,
    /// Requests with this header are left out.
    pub skip_header: Option<String>,
}

/// A step of a canary, unchecked.
#[derive(Debug, Clone, Default)]
pub struct StepDraft {
    /// Share of the eligible users, 1 to 100.
    pub percent: i64,
    /// What must be waited for before the next.
    pub gate: GateDraft,
}

/// What must be waited for before the next stage, unchecked.
#[derive(Debug, Clone, Default)]
pub struct GateDraft {
    /// A duration such as `10m`.
    pub hold: Option<String>,
    /// Whether somebody must say so.
    pub pause: bool,
}

/// The phases of a gradual migration, unchecked.
#[derive(Debug, Clone, Default)]
pub struct GradualDraft {
    /// In the order in which they are taken.
    pub phases: Vec<PhaseDraft>,
    /// Name of the phase to reach; none: before the first.
    pub current_phase: Option<String>,
    /// Whether the phases are taken one after the other.
    pub automatic: bool,
}

/// A phase, unchecked.
#[derive(Debug, Clone, Default)]
pub struct PhaseDraft {
    /// Unique name.
    pub name: String,
    /// What it adds; header names in any case.
    pub rules: Vec<MatchRule>,
    /// What must be waited for before the next.
    pub gate: GateDraft,
}

/// A blue-green migration, unchecked.
#[derive(Debug, Clone, Default)]
pub struct BlueGreenDraft {
    /// Whether green is to be active.
    pub green: bool,
    /// Automatic promotion: what must be waited for while green is on the preview only.
    pub preview: Option<GateDraft>,
    /// How long green is watched once it is active.
    pub watch: Option<String>,
}

/// Stickiness, unchecked.
#[derive(Debug, Clone, Default)]
pub struct StickinessDraft {
    /// Where the sticky key comes from.
    pub kind: StickinessKind,
    /// The header, for [`StickinessKind::Header`].
    pub header: Option<String>,
    /// Salt of the hash.
    pub salt: Option<String>,
}

/// Where a sticky key comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum StickinessKind {
    /// Session header, else the user in the body.
    #[default]
    Auto,
    /// A header that the resource names.
    Header,
    /// Only the user in the body.
    Body,
    /// The caller's credential: whole applications move together.
    Credential,
    /// Each request by itself.
    None,
}
