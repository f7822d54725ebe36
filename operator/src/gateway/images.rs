//! Which image a gateway runs. Whoever may write a BifrostGateway must not thereby run any image at all: repositories come from
//! the operator's own list.

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
