//! What a cluster is made of: installed by the package clients that everybody has, built once, kept in a cache.

mod modules;
pub mod packages;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

pub use self::modules::{MODULES, Module};
use crate::{
    files, paths,
    progress::{self, Step},
    run,
};

/// The components, present on this machine.
#[derive(Debug, Clone)]
pub struct Components {
    cache: PathBuf,
}

impl Components {
    /// Installs and builds what is missing. The first time this takes minutes, later nothing.
    pub async fn install() -> Result<Self> {
        let components = Self::located()?;
        let _lock = files::lock(&components.cache.join("components/lock"))?;
        packages::install(&components.cache.join("logs/packages.log")).await?;
        for module in &MODULES {
            if !components.has(module) {
                components.build(module).await?;
            }
        }
        components.link_user_programs()?;
        Ok(components)
    }

    /// The components without building any: for commands that only talk to a cluster.
    pub fn located() -> Result<Self> {
        Ok(Self { cache: paths::cache_root()? })
    }

    /// The path of a component, by the name it has here (`kubelet`, `etcd`).
    pub fn program(&self, name: &str) -> Result<PathBuf> {
        let module = MODULES.iter().find(|module| module.programs.iter().any(|(_, ours)| *ours == name));
        let module = module.with_context(|| format!("there is no component {name}"))?;
        let path = self.folder(module).join(name);
        if !path.is_file() {
            bail!("{name} is not built yet: make up does it");
        }
        Ok(path)
    }

    /// The folder with `kubectl`, its plugin and `helm`, for a user's PATH.
    pub fn user_programs(&self) -> PathBuf {
        self.cache.join("bin")
    }

    /// What all components together depend on: a running cluster with another value is of another version.
    pub fn digest(&self) -> String {
        let digests = MODULES.map(|module| module.digest());
        files::digest(digests.iter().map(|digest| digest.as_bytes()))[..16].to_owned()
    }

    fn folder(&self, module: &Module) -> PathBuf {
        self.cache.join("components").join(format!("{}-{}", module.name, module.digest()))
    }

    fn has(&self, module: &Module) -> bool {
        module.programs.iter().all(|(_, name)| self.folder(module).join(name).is_file())
    }

    /// Builds a module's programs beside their place and moves them there at once: no half-built folder is ever used.
    async fn build(&self, module: &Module) -> Result<()> {
        let folder = self.folder(module);
        let work = folder.with_extension("part");
        let log = self.cache.join(format!("logs/build-{}.log", module.name));
        remove_folder(&work)?;
        remove_folder(&folder)?;
        files::write(&work.join("go.mod"), module.go_mod)?;
        files::write(&work.join("go.sum"), module.go_sum)?;
        let step = Step::start(format!("Building {} {}", module.name, module.version));
        step.follow(&log);
        run::logged(&mut go_install(module, &work)?, &log).await?;
        for (built, name) in module.programs.iter().filter(|(built, name)| built != name) {
            std::fs::rename(work.join(built), work.join(name)).with_context(|| format!("{built} was not built"))?;
        }
        std::fs::rename(&work, &folder).with_context(|| format!("cannot create {}", folder.display()))?;
        step.done();
        Ok(())
    }

    /// Links `kubectl`, its plugin and `helm` in one folder, so that a PATH does not get every component.
    fn link_user_programs(&self) -> Result<()> {
        files::create_dir(&self.user_programs())?;
        let mut programs = vec![("kubectl", self.program("kubectl")?), ("helm", self.program("helm")?)];
        programs.extend(plugin().map(|plugin| (PLUGIN, plugin)));
        for (name, program) in programs {
            let link = self.user_programs().join(name);
            if std::fs::read_link(&link).ok().as_ref() == Some(&program) {
                continue;
            }
            if link.symlink_metadata().is_ok() {
                std::fs::remove_file(&link).with_context(|| format!("cannot replace {}", link.display()))?;
            }
            std::os::unix::fs::symlink(&program, &link)
                .with_context(|| format!("cannot create the link {}", link.display()))?;
        }
        Ok(())
    }
}

/// `go install tool` in `work`, with the programs put there too, at low priority: other builds run beside it.
fn go_install(module: &Module, work: &Path) -> Result<tokio::process::Command> {
    let Some(go) = run::find_program("go") else {
        bail!("Go (1.26 or newer) must be installed first: the Kubernetes components are built with it");
    };
    let mut command = run::command("nice");
    command.arg(go).args(["install", "-v", "-trimpath", "-ldflags", &module.ldflags(), "tool"]);
    command.current_dir(work).env("GOBIN", work).env("CGO_ENABLED", "0");
    // What a user sets for work of their own must not change these builds.
    command
        .env("GOFLAGS", "-mod=readonly -buildvcs=false")
        .env("GOWORK", "off")
        .env_remove("GOOS")
        .env_remove("GOARCH");
    Ok(command)
}

fn remove_folder(folder: &Path) -> Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

/// Says where the components are.
pub fn announce(components: &Components) {
    for module in &MODULES {
        progress::line(&format!("{} {}: {}", module.name, module.version, components.folder(module).display()));
    }
}

/// The kubectl plugin.
pub const PLUGIN: &str = "kubectl-bifrost";

/// The kubectl plugin, if it was built beside this program.
pub fn plugin() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?.parent()?.join(PLUGIN);
    program.is_file().then_some(program)
}
