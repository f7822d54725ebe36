//! The API types of `bifrost.dev/v1alpha1`: [`BifrostGateway`] and [`ProviderKey`].
//!
//! One file a part of a kind. The doc comments of fields are what `kubectl explain` prints; the manifests in `generated/`
//! are made from these types ([`publish`]) and checked by a test. Only shapes, defaults and schema rules lie here: what a
//! configuration means is `bifrost_config`'s to say, and what becomes of it the operator's.

#![expect(unreachable_pub, reason = "kube's schema derive copies each public type into a function body")]

pub mod conditions;
mod config;
mod gateway;
mod migration;
mod provider_key;
pub mod publish;
mod rollout;
mod schema;
mod status;
mod workload;

pub use config::{CaBundleRef, ClientSpec, GatewayConfig, NetworkSpec, ProviderSpec, ProviderType};
pub use gateway::{BifrostGateway, BifrostGatewaySpec, ImageSpec};
pub use migration::{
    Advance, AnalysisCheck, AnalysisMetric, AnalysisSpec, BlueGreenSpec, CanarySpec, CanaryStep, CheckAction,
    CheckType, Colour, EndpointKind, FailureClass, GradualSpec, HeaderMatch, MigrationSpec, Phase, PhaseRule,
    PreviewSpec, PrometheusMetric, RequestMatch, RollbackSpec, RollbackTarget, ShadowSkip, ShadowSpec, ShadowedArm,
    Stickiness, StickinessKey, Strategy, WebhookMetric,
};
pub use provider_key::{ProviderKey, ProviderKeySpec, ProviderKeyStatus, SecretKeyRef};
pub use rollout::{
    RolloutBlueGreenSpec, RolloutCanarySpec, RolloutPreviewSpec, RolloutSpec, RolloutStep, RolloutStrategy,
};
pub use status::{
    AnalysisStatus, BifrostGatewayStatus, CheckStatus, Endpoints, KeyCounts, MigrationPhase, MigrationStatus,
    RollbackStatus, RolloutStatus, ShadowStatus, TrafficStatus, Verdict,
};
pub use workload::{
    AvailabilitySpec, DisruptionBudgetSpec, DrainSpec, NetworkPolicySpec, PodSettings, ServiceSpec, ServiceType,
};

/// API group of both kinds.
pub const GROUP: &str = "bifrost.dev";
/// The served and stored version.
pub const VERSION: &str = "v1alpha1";
/// `apiVersion` of both kinds.
pub const API_VERSION: &str = "bifrost.dev/v1alpha1";
/// Longest name of a gateway, a provider key or a provider: owned objects add up to 19 characters to it, and a Service, of which a name has at most
/// 63, up to 16.
pub const MAX_NAME_LENGTH: usize = 45;
