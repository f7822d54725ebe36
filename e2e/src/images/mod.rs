//! Container images made without a container engine: one layer of files that are already there, packed as an OCI image
//! archive that any runtime imports.

mod all;
mod contents;
mod node_app;
mod oci;
mod system;
mod workspace;

pub use self::{
    all::Images,
    contents::{Contents, Entry},
    node_app::build_node_app,
    oci::{Image, ImageSpec},
    system::{build_coredns, build_pause},
    workspace::{Binaries, Binary, build_binaries, build_binary_image, build_release_image},
};

/// The user that every image runs as.
pub const USER: &str = "65532:65532";

/// The registry part of every image's name. It cannot be pulled from: images are imported.
pub const REGISTRY: &str = "bifrost.local";

/// The target that binaries for images are compiled for. Named explicitly even where it is the machine's own, as flags
/// would otherwise apply to build scripts and procedural macros too, which cannot be linked statically.
pub fn target_triple() -> String {
    format!("{}-unknown-linux-gnu", std::env::consts::ARCH)
}

/// Compiler flags that make a binary run in an image with nothing else in it.
pub const STATIC_FLAGS: &str = "-C target-feature=+crt-static";
