//! Where things lie on the user's machine: the checkout, the cache of what was built, the state of clusters.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// State of the local clusters: one folder each.
pub const STATE_ROOT: &str = "/var/lib/bifrost-local";

/// What was built and may be used again: `$XDG_CACHE_HOME/bifrost-kubernetes`, by default below `~/.cache`.
pub fn cache_root() -> Result<PathBuf> {
    if let Some(cache) = std::env::var_os("XDG_CACHE_HOME").filter(|value| Path::new(value).is_absolute()) {
        return Ok(PathBuf::from(cache).join("bifrost-kubernetes"));
    }
    let home = std::env::home_dir().context("neither XDG_CACHE_HOME nor HOME is set")?;
    Ok(home.join(".cache/bifrost-kubernetes"))
}

/// The checkout: the current folder or the nearest parent that holds the workspace, else where this program was built.
pub fn checkout() -> Result<PathBuf> {
    let here = std::env::current_dir().context("the current folder is gone")?;
    let built = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors()
        .chain(built.ancestors())
        .find(|folder| folder.join("Cargo.lock").is_file() && folder.join("e2e/components").is_dir())
        .map(Path::to_owned)
        .context("run this inside a checkout of the project")
}
