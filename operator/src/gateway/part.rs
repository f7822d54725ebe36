//! The objects that a gateway owns: which kinds, under which names.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::ApiResource;

use crate::names;

/// One owned object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// Secret with the key values.
    Keys,
    /// The published ConfigMap.
    Published,
    /// Identity of the pods.
    ServiceAccount,
    /// What the pods may read.
    Role,
    /// Gives the one the other.
    RoleBinding,
    /// The Service that applications call.
    Service,
    /// The Service of the colour that is not active.
    Preview,
    /// ConfigMap for `envFrom`: to the gateway.
    Env,
    /// ConfigMap for `envFrom`: straight to the vendors.
    EnvDirect,
    /// How many pods may be evicted.
    PodDisruptionBudget,
    /// Who may connect.
    NetworkPolicy,
    /// The pods.
    Deployment,
    /// Who may connect to a candidate's own pods.
    CandidatePolicy,
    /// Where the gateway's pods reach them.
    CandidateService,
    /// The candidate's own pods.
    Candidate,
}

/// When a part is written. The parts of a stage are written at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Values, before a ConfigMap names their keys.
    Keys,
    /// What the pods act upon.
    Published,
    /// Everything that needs nothing else.
    Independent,
    /// The API server lets a binding be made only to a Role that it can look at.
    Binding,
    /// The pods, when all is there.
    Pods,
}

impl Stage {
    /// Every stage, in order.
    pub const ALL: [Self; 5] = [Self::Keys, Self::Published, Self::Independent, Self::Binding, Self::Pods];
}

impl Part {
    /// Every part.
    pub const ALL: [Self; 15] = [
        Self::Keys,
        Self::Published,
        Self::ServiceAccount,
        Self::Role,
        Self::RoleBinding,
        Self::Service,
        Self::Preview,
        Self::Env,
        Self::EnvDirect,
        Self::PodDisruptionBudget,
        Self::NetworkPolicy,
        Self::Deployment,
        Self::CandidatePolicy,
        Self::CandidateService,
        Self::Candidate,
    ];

    /// Its kind.
    pub fn resource(self) -> ApiResource {
        match self {
            Self::Keys => ApiResource::erase::<Secret>(&()),
            Self::Published | Self::Env | Self::EnvDirect => ApiResource::erase::<ConfigMap>(&()),
            Self::ServiceAccount => ApiResource::erase::<ServiceAccount>(&()),
            Self::Role => ApiResource::erase::<Role>(&()),
            Self::RoleBinding => ApiResource::erase::<RoleBinding>(&()),
            Self::Service | Self::Preview | Self::CandidateService => ApiResource::erase::<Service>(&()),
            Self::PodDisruptionBudget => ApiResource::erase::<PodDisruptionBudget>(&()),
            Self::NetworkPolicy | Self::CandidatePolicy => ApiResource::erase::<NetworkPolicy>(&()),
            Self::Deployment | Self::Candidate => ApiResource::erase::<Deployment>(&()),
        }
    }

    /// Its name for a gateway.
    pub fn name(self, gateway: &str) -> String {
        match self {
            Self::Keys => names::keys(gateway),
            Self::Preview => names::preview(gateway),
            Self::Env => names::env(gateway),
            Self::EnvDirect => names::env_direct(gateway),
            Self::Service | Self::Deployment => names::workload(gateway),
            Self::CandidatePolicy | Self::CandidateService | Self::Candidate => names::candidate(gateway),
            Self::Published
            | Self::ServiceAccount
            | Self::Role
            | Self::RoleBinding
            | Self::PodDisruptionBudget
            | Self::NetworkPolicy => names::published(gateway),
        }
    }

    /// When it is written.
    pub const fn stage(self) -> Stage {
        match self {
            Self::Keys => Stage::Keys,
            Self::Published => Stage::Published,
            Self::RoleBinding => Stage::Binding,
            Self::Deployment | Self::Candidate => Stage::Pods,
            _ => Stage::Independent,
        }
    }

    /// Whether it belongs to a candidate that has an image of its own.
    pub const fn is_of_candidate(self) -> bool {
        matches!(self, Self::CandidatePolicy | Self::CandidateService | Self::Candidate)
    }

    /// Kind and name for people.
    pub fn describe(self, gateway: &str) -> String {
        format!("{} {}", self.resource().kind, self.name(gateway))
    }
}
