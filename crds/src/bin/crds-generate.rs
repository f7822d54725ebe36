//! Writes the CustomResourceDefinitions to `crds/generated` and to the chart. Run by `make crds`, through cargo.

use std::path::Path;

use bifrost_crds::publish::{FOLDERS, manifests};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = std::env::var_os("CARGO_MANIFEST_DIR").ok_or("run it with cargo")?;
    for manifest in manifests()? {
        for folder in FOLDERS {
            let folder = Path::new(&root).join(folder);
            std::fs::create_dir_all(&folder)?;
            std::fs::write(folder.join(manifest.file_name), manifest.to_yaml()?)?;
        }
    }
    Ok(())
}
