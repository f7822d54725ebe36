//! Which image a gateway runs. Whoever may write a BifrostGateway must not thereby run any image at all: repositories come from
//! the operator's own list.

use bifrost_config::Problem;
use bifrost_crds::ImageSpec;
use kube::api::DynamicObject;

use super::observe::Observed;
use super::part::Part;
use super::status::rolls_out;
use crate::names;
use crate::rollout::record::Record;

/// The operator's rules for gateway images.
#[derive(Debug, Clone)]
pub struct ImagePolicy {
    default: String,
    allowed: Vec<String>,
}

impl ImagePolicy {
    /// `default` is a whole image, `allowed` a list of repositories, or of prefixes that end in `/`.
    pub fn new(default: &str, allowed: Vec<String>) -> Self {
        Self { default: default.to_owned(), allowed }
    }

    /// The image of a gateway whose spec names none and that runs none yet.
    pub fn default_image(&self) -> &str {
        &self.default
    }

    /// The repository of the default image.
    pub fn default_repository(&self) -> &str {
        split(&self.default).0
    }

    /// Whether this image may run.
    pub fn allows_image(&self, image: &str) -> bool {
        self.allows(split(image).0)
    }

    /// Whether a spec may name this repository.
    pub fn allows(&self, repository: &str) -> bool {
        repository == self.default_repository()
            || self.allowed.iter().any(|rule| match rule.ends_with('/') {
                true => repository.starts_with(rule.as_str()),
                false => repository == rule,
            })
    }

    /// The repositories that are allowed, for a message.
    pub fn describe(&self) -> String {
        let mut all = vec![self.default_repository()];
        all.extend(self.allowed.iter().map(String::as_str));
        all.dedup();
        all.join(", ")
    }
}

/// Repository and the rest (`:tag`, `@digest` or nothing) of an image.
pub(crate) fn split(image: &str) -> (&str, &str) {
    let path = image.rfind('/').map_or(0, |slash| slash + 1);
    let end = image[path..].find(['@', ':']).map_or(image.len(), |at| path + at);
    image.split_at(end)
}

impl ImagePolicy {
    /// The image to run. Parts that the spec leaves open are taken from what runs, else from the default.
    fn choose(&self, spec: Option<&ImageSpec>, running: Option<&str>) -> Result<String, Problem> {
        let base = running.unwrap_or(self.default_image());
        let (base_repository, base_tag) = split(base);
        let Some(spec) = spec else { return self.checked(base.to_owned()) };
        let repository = spec.repository.as_deref().unwrap_or(base_repository);
        let tag = spec.tag.as_ref().map_or_else(|| base_tag.to_owned(), |tag| format!(":{tag}"));
        self.checked(format!("{repository}{tag}"))
    }

    /// Whatever an image was put together of, its repository is an allowed one.
    fn checked(&self, image: String) -> Result<String, Problem> {
        if self.allows_image(&image) {
            return Ok(image);
        }
        let repository = split(&image).0;
        let message = format!(
            "{repository} is not among the repositories that the operator allows: name one of {}",
            self.describe()
        );
        Err(Problem::invalid("spec.image.repository", message))
    }
}

/// The image that the spec asks for. Parts that it leaves open are those of the image that ran last: the stable revision's, whichever its
/// Deployment is on its way to, or that before it, until all pods run the stable one's.
pub(super) fn wanted(observed: &Observed, images: &ImagePolicy) -> Result<String, Problem> {
    let remembered = observed.remembered.as_ref().map(|remembered| &remembered.record);
    let record = remembered.or(observed.live.state.rollout.as_ref());
    let is_on_its_way = |record: &&Record| record.returning || record.image() != record.stable.image;
    let stable = || record.filter(is_on_its_way).map(|record| record.stable.image.clone());
    // That all pods run it may not be noted yet.
    let ran = record.and_then(|record| record.ran.clone().filter(|_| !is_run(observed, &record.stable.image)));
    let ran = ran.or_else(stable).filter(|image| images.allows_image(image));
    let base = ran.or_else(|| running(observed, images));
    images.choose(observed.gateway.spec.image.as_ref(), base.as_deref())
}

/// The image that the pods run: what this process gave the Deployment last, else what the Deployment has, else what was noted before
/// it was lost. The first that is allowed: the objects may have been written by another hand.
pub(super) fn running(observed: &Observed, images: &ImagePolicy) -> Option<String> {
    let remembered = observed.remembered.as_ref().map(|remembered| remembered.image.clone());
    let deployment = observed.own(Part::Deployment).and_then(of);
    let noted = Some(observed.live.state.image.clone()).filter(|image| images.allows_image(image));
    let known: Vec<_> = remembered.into_iter().chain(deployment).chain(noted).collect();
    known.iter().find(|image| images.allows_image(image)).or(known.first()).cloned()
}

/// Whether there are pods, and all of them run this image.
pub(super) fn is_run(observed: &Observed, image: &str) -> bool {
    let is_it = |deployment| of(deployment).as_deref() == Some(image) && rolls_out(deployment).is_none();
    observed.gateway.spec.replicas > 0 && observed.own(Part::Deployment).is_some_and(is_it)
}

/// The image of the gateway's container in a Deployment.
pub(super) fn of(deployment: &DynamicObject) -> Option<String> {
    let containers = deployment.data.pointer("/spec/template/spec/containers")?.as_array()?;
    let ours =
        containers.iter().find(|container| container.get("name").is_some_and(|name| name == names::CONTAINER))?;
    ours.get("image")?.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registry_port_is_no_tag() {
        assert_eq!(split("localhost:5000/a/b:1.2"), ("localhost:5000/a/b", ":1.2"));
        assert_eq!(split("ghcr.io/a/b@sha256:00"), ("ghcr.io/a/b", "@sha256:00"));
        assert_eq!(split("b"), ("b", ""));
    }

    #[test]
    fn only_listed_repositories_are_allowed() {
        let policy =
            ImagePolicy::new("ghcr.io/a/gateway:1", vec!["mirror.example/".into(), "ghcr.io/b/gateway".into()]);
        for allowed in ["ghcr.io/a/gateway", "ghcr.io/b/gateway", "mirror.example/x/y"] {
            assert!(policy.allows(allowed), "{allowed}");
        }
        for refused in ["ghcr.io/a/gateway2", "ghcr.io/b", "evil/mirror.example/x", "mirror.example"] {
            assert!(!policy.allows(refused), "{refused}");
        }
    }
}
