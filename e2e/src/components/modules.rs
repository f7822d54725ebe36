//! The components that are built from Go modules, and how. Each has a module of its own (`e2e/components/<name>`), as
//! their libraries do not agree on versions.

/// A Go module whose tools are components of the cluster.
#[derive(Debug, Clone, Copy)]
pub struct Module {
    /// Folder below `e2e/components`.
    pub name: &'static str,
    /// Version of the component, for messages.
    pub version: &'static str,
    /// Its `go.mod`.
    pub go_mod: &'static str,
    /// Its `go.sum`.
    pub go_sum: &'static str,
    /// Linker flags besides `-s -w`: without them these programs do not know their own version.
    pub linker_flags: &'static [&'static str],
    /// The programs: the name that Go gives, and the name used here.
    pub programs: &'static [(&'static str, &'static str)],
}

/// Every module; the quick ones first, so that progress shows early.
pub const MODULES: [Module; 4] = [
    Module {
        name: "etcd",
        version: "3.6.8",
        go_mod: include_str!("../../components/etcd/go.mod"),
        go_sum: include_str!("../../components/etcd/go.sum"),
        linker_flags: &[],
        // Go names a program after the last folder of its package, major versions apart.
        programs: &[("server", "etcd")],
    },
    Module {
        name: "helm",
        version: "3.22.0",
        go_mod: include_str!("../../components/helm/go.mod"),
        go_sum: include_str!("../../components/helm/go.sum"),
        // Without the Kubernetes version Helm takes itself for a very old one and refuses charts with a `kubeVersion`.
        linker_flags: &[
            "-X helm.sh/helm/v3/internal/version.version=v3.22.0",
            "-X helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor=1",
            "-X helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor=36",
            "-X helm.sh/helm/v3/pkg/lint/rules.k8sVersionMajor=1",
            "-X helm.sh/helm/v3/pkg/lint/rules.k8sVersionMinor=36",
        ],
        programs: &[("helm", "helm")],
    },
    Module {
        name: "coredns",
        version: "1.15.0",
        go_mod: include_str!("../../components/coredns/go.mod"),
        go_sum: include_str!("../../components/coredns/go.sum"),
        linker_flags: &[],
        programs: &[("coredns", "coredns")],
    },
    Module {
        name: "kubernetes",
        version: "1.36.3",
        go_mod: include_str!("../../components/kubernetes/go.mod"),
        go_sum: include_str!("../../components/kubernetes/go.sum"),
        linker_flags: &[
            "-X k8s.io/component-base/version.gitVersion=v1.36.3",
            "-X k8s.io/component-base/version.gitMajor=1",
            "-X k8s.io/component-base/version.gitMinor=36",
        ],
        programs: &[
            ("kube-apiserver", "kube-apiserver"),
            ("kube-controller-manager", "kube-controller-manager"),
            ("kube-proxy", "kube-proxy"),
            ("kube-scheduler", "kube-scheduler"),
            ("kubectl", "kubectl"),
            ("kubelet", "kubelet"),
        ],
    },
];

impl Module {
    /// The value of `go install -ldflags`.
    pub fn ldflags(&self) -> String {
        ["-s -w"].iter().chain(self.linker_flags).copied().collect::<Vec<_>>().join(" ")
    }

    /// What the built programs depend on; names their folder in the cache.
    pub fn digest(&self) -> String {
        let ldflags = self.ldflags();
        let parts = [self.go_mod, self.go_sum, &ldflags, std::env::consts::ARCH];
        crate::files::digest(parts.map(str::as_bytes))[..16].to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_those_of_the_modules() {
        for module in MODULES {
            let version = format!("v{}", module.version);
            let found = module.go_mod.split_whitespace().any(|word| word == version);
            assert!(found, "{} {version}", module.name);
        }
    }

    #[test]
    fn linker_flags_name_the_version_that_is_built() {
        for module in MODULES {
            for flag in module.linker_flags.iter().filter(|flag| flag.contains("ersion=v")) {
                assert!(flag.ends_with(&format!("=v{}", module.version)), "{flag}");
            }
        }
    }

    #[test]
    fn every_program_is_a_tool_of_its_module() {
        for module in MODULES {
            for (built, _) in module.programs {
                let found = module.go_mod.lines().any(|line| {
                    let tool = line.trim().trim_start_matches("tool ").trim_end_matches("/v3");
                    tool.ends_with(&format!("/{built}"))
                });
                assert!(found, "{built} is no tool of {}", module.name);
            }
        }
    }
}
