//! Images of this project's own programs: one statically linked binary each.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::{
    images::{Contents, Image, ImageSpec, STATIC_FLAGS, target_triple},
    paths,
    progress::Step,
    run,
};

/// A program of the workspace that runs in an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binary {
    /// The package that it belongs to.
    pub package: &'static str,
    /// Its name, and that of its image; in the image it is `/<name>`.
    pub name: &'static str,
}

impl Binary {
    /// The data plane.
    pub const GATEWAY: Self = Self { package: "bifrost-gateway", name: "bifrost-gateway" };
    /// The operator.
    pub const OPERATOR: Self = Self { package: "bifrost-operator", name: "bifrost-operator" };
    /// The stand-in for the vendors.
    pub const FAKE_PROVIDER: Self = Self { package: "bifrost-fake-provider", name: "bifrost-fake-provider" };
}

/// Where the compiled programs lie.
#[derive(Debug, Clone)]
pub struct Binaries {
    /// The data plane.
    pub gateway: PathBuf,
    /// The operator.
    pub operator: PathBuf,
    /// The stand-in for the vendors.
    pub fake_provider: PathBuf,
}

/// Compiles the programs, statically linked. Always all in one go: compiled apart, their dependencies would have other features
/// each time, and be compiled anew.
pub async fn build_binaries() -> Result<Binaries> {
    let all = [Binary::GATEWAY, Binary::OPERATOR, Binary::FAKE_PROVIDER];
    let checkout = paths::checkout()?;
    let log = paths::cache_root()?.join("logs/build-binaries.log");
    let step = Step::start(format!("Building {}", all.map(|binary| binary.name).join(", ")));
    step.follow(&log);
    run::logged(&mut cargo_build(&checkout, &all), &log).await?;
    step.done();
    let folder = target_folder(&checkout).join(target_triple()).join("release");
    let place = |binary: Binary| {
        let path = folder.join(binary.name);
        path.is_file().then_some(path).with_context(|| format!("cargo built no program {}", binary.name))
    };
    Ok(Binaries {
        gateway: place(Binary::GATEWAY)?,
        operator: place(Binary::OPERATOR)?,
        fake_provider: place(Binary::FAKE_PROVIDER)?,
    })
}

/// The image of a program that [`build_binaries`] made.
pub fn build_binary_image(binary: Binary, path: PathBuf) -> Result<Image> {
    spec(binary, path).build()
}

/// The same program in another image, with a tag of its own for each name of a release: a new one, as far as the cluster can tell.
pub fn build_release_image(binary: Binary, path: PathBuf, release: &str) -> Result<Image> {
    let mut spec = spec(binary, path);
    spec.environment.push(format!("RELEASE={release}"));
    spec.build()
}

fn spec(binary: Binary, path: PathBuf) -> ImageSpec {
    let place = format!("/{}", binary.name);
    ImageSpec::of_program(binary.name, Contents::new().program(&place, path), &place)
}

fn cargo_build(checkout: &Path, binaries: &[Binary]) -> tokio::process::Command {
    let mut cargo = run::command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(checkout).args(["build", "--locked", "--release", "--target", &target_triple()]);
    for binary in binaries {
        cargo.args(["--package", binary.package, "--bin", binary.name]);
    }
    cargo.env("RUSTFLAGS", STATIC_FLAGS).env("CARGO_TERM_COLOR", "never").env("CARGO_TERM_PROGRESS_WHEN", "never");
    // Set when this program itself was started by cargo: they describe another package.
    cargo.env_remove("CARGO_ENCODED_RUSTFLAGS").env_remove("CARGO_BUILD_TARGET");
    cargo
}

fn target_folder(checkout: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| checkout.join("target"), |folder| checkout.join(folder))
}
