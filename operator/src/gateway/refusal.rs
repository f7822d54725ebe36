//! Why an object could not be written, for its gateway's author: what the API server does not take of an owned object is told as
//! the member of the spec that it was made of. Pure.

use kube::core::Status;
use kube::core::response::StatusCause;

use super::part::{Part, Stage};
use crate::cluster::writer::WriteError;

/// Why something could not be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Stage of the object; none: it is one that is not wanted any more.
    pub stage: Option<Stage>,
    /// In words.
    pub message: String,
    /// What the API server does not take. It will not take it the next time either.
    pub refusal: Option<Refusal>,
}

/// What the API server does not take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// In words, with the member of the spec where there is one.
    pub message: String,
    /// Whether all of it comes from members of the spec.
    pub of_spec: bool,
}

impl Failure {
    /// Of an object of the gateway, or of one that is not wanted any more.
    pub fn new(part: Option<Part>, error: &WriteError) -> Self {
        let refusal = part.and_then(|part| Some(refusal(part, error.refused()?)));
        Self { stage: part.map(Part::stage), message: error.to_string(), refusal }
    }

    /// Whether the pods may not know what the spec asks for: one of the objects that tell them was not written.
    pub fn withholds(&self) -> bool {
        self.stage.is_some_and(|stage| stage <= Stage::Published)
    }
}

fn refusal(part: Part, status: &Status) -> Refusal {
    let causes = status.details.as_ref().map(|details| details.causes.as_slice()).unwrap_or_default();
    let told: Vec<_> = causes.iter().map(|cause| (spec_member(part, &cause.field), cause)).collect();
    if told.is_empty() {
        return Refusal { message: format!("{}: {}", part.resource().kind, status.message), of_spec: false };
    }
    let kind = part.resource().kind;
    let text = |(member, StatusCause { field, message, .. }): &(Option<String>, &StatusCause)| match member {
        Some(member) => format!("{member}: {message}"),
        None => format!("{kind} {field}: {message}"),
    };
    Refusal {
        message: told.iter().map(text).collect::<Vec<_>>().join("; "),
        of_spec: told.iter().all(|(member, _)| member.is_some()),
    }
}

/// Where members of owned objects come from: kind of object, path in it, path in the spec.
const ORIGINS: &[(Part, &str, &str)] = &[
    (Part::Deployment, "spec.template.labels", "spec.pod.labels"),
    (Part::Deployment, "spec.template.metadata.labels", "spec.pod.labels"),
    (Part::Deployment, "spec.template.annotations", "spec.pod.annotations"),
    (Part::Deployment, "spec.template.metadata.annotations", "spec.pod.annotations"),
    (Part::Deployment, "spec.template.spec.containers[0].resources", "spec.pod.resources"),
    (Part::Deployment, "spec.template.spec.containers[0].image", "spec.image"),
    (Part::Deployment, "spec.template.spec.nodeSelector", "spec.pod.nodeSelector"),
    (Part::Deployment, "spec.template.spec.tolerations", "spec.pod.tolerations"),
    (Part::Deployment, "spec.template.spec.affinity", "spec.pod.affinity"),
    (Part::Deployment, "spec.template.spec.topologySpreadConstraints", "spec.pod.topologySpreadConstraints"),
    (Part::Deployment, "spec.template.spec.imagePullSecrets", "spec.pod.imagePullSecrets"),
    (Part::Deployment, "spec.template.spec.priorityClassName", "spec.pod.priorityClassName"),
    (Part::Service, "metadata.labels", "spec.service.labels"),
    (Part::Service, "metadata.annotations", "spec.service.annotations"),
    (Part::Service, "spec.ports[0].port", "spec.service.port"),
    (Part::ServiceAccount, "metadata.annotations", "spec.pod.serviceAccountAnnotations"),
];

/// Containers of the pods. Those of others were taken before, so a fault is in ours, wherever it stands among them.
const CONTAINERS: &str = "spec.template.spec.containers[";
/// The path of the applications' peers. The first is the gateway's own namespace.
const PEERS: &str = "spec.ingress[0].from[";

fn spec_member(part: Part, field: &str) -> Option<String> {
    if part == Part::NetworkPolicy {
        let (index, rest) = field.strip_prefix(PEERS)?.split_once(']')?;
        let index = index.parse::<usize>().ok()?.checked_sub(1)?;
        return Some(format!("spec.networkPolicy.from[{index}]{rest}"));
    }
    let first = field.strip_prefix(CONTAINERS).and_then(|rest| rest.split_once(']'));
    let first = first.map(|(_, rest)| format!("{CONTAINERS}0]{rest}"));
    let field = first.as_deref().unwrap_or(field);
    ORIGINS.iter().filter(|(of, ..)| *of == part).find_map(|(_, path, origin)| {
        let rest = field.strip_prefix(path)?;
        (rest.is_empty() || rest.starts_with(['.', '['])).then(|| format!("{origin}{rest}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(kind: &str, field: &str, message: &str) -> WriteError {
        let status = serde_json::json!({
            "status": "Failure", "code": 422, "reason": "Invalid", "message": format!("{kind} is invalid: {field}"),
            "details": {"causes": [{"reason": "FieldValueInvalid", "message": message, "field": field}]},
        });
        let status: Status = serde_json::from_value(status).unwrap();
        WriteError::Api { kind: kind.into(), name: "ai".into(), source: Box::new(kube::Error::Api(Box::new(status))) }
    }

    fn told(part: Part, kind: &str, field: &str) -> (String, bool) {
        let refusal = Failure::new(Some(part), &refused(kind, field, "must be other")).refusal.unwrap();
        (refusal.message, refusal.of_spec)
    }

    #[test]
    fn a_member_that_is_not_taken_is_told_as_the_spec_has_it() {
        for (part, kind, field, member) in [
            (
                Part::Deployment,
                "Deployment",
                "spec.template.spec.containers[0].resources.requests",
                "spec.pod.resources.requests",
            ),
            (
                Part::Deployment,
                "Deployment",
                "spec.template.spec.tolerations[1].operator",
                "spec.pod.tolerations[1].operator",
            ),
            (
                Part::NetworkPolicy,
                "NetworkPolicy",
                "spec.ingress[0].from[2].ipBlock.cidr",
                "spec.networkPolicy.from[1].ipBlock.cidr",
            ),
            (
                Part::Deployment,
                "Deployment",
                "spec.template.spec.containers[1].resources.limits",
                "spec.pod.resources.limits",
            ),
            (Part::Service, "Service", "metadata.labels", "spec.service.labels"),
        ] {
            assert_eq!(told(part, kind, field), (format!("{member}: must be other"), true));
        }
    }

    #[test]
    fn what_no_member_of_the_spec_explains_is_told_as_it_is() {
        let told = told(Part::Deployment, "Deployment", "spec.selector");
        assert_eq!(told, ("Deployment spec.selector: must be other".into(), false));
        let own_peer = spec_member(Part::NetworkPolicy, "spec.ingress[0].from[0].podSelector");
        assert_eq!(own_peer, None);
        assert_eq!(spec_member(Part::Service, "spec.ports[0].portal"), None);
    }

    #[test]
    fn the_answer_about_a_secret_is_never_shown() {
        let failure = Failure::new(Some(Part::Keys), &refused("Secret", "data[key.main]", "sk-1"));
        assert_eq!(failure.refusal, None);
        assert!(failure.withholds() && !failure.message.contains("sk-1"), "{}", failure.message);
    }

    #[test]
    fn the_whole_answer_stands_in_the_message_of_any_other_kind() {
        let error = refused("Deployment", "spec.replicas", "x");
        assert!(error.to_string().ends_with("Deployment is invalid: spec.replicas"), "{error}");
        assert!(!Failure::new(Some(Part::Deployment), &error).withholds());
        assert!(!Failure::new(None, &error).withholds(), "what is not wanted any more tells the pods nothing");
    }
}
