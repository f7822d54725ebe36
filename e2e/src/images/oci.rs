//! An OCI image archive: one uncompressed layer, its configuration, a manifest and an index in one tar file.

use std::{
    fs::File,
    io::{BufWriter, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{
    files,
    images::{Contents, REGISTRY, USER},
    paths,
};

/// How many archives of one image the cache keeps: two for each of the last builds.
const KEPT: usize = 6;

/// What an image is made of.
#[derive(Debug)]
pub struct ImageSpec {
    /// The name without registry and tag.
    pub name: &'static str,
    /// Its files.
    pub contents: Contents,
    /// The command that always runs.
    pub entrypoint: Vec<String>,
    /// Arguments that a pod may replace.
    pub arguments: Vec<String>,
    /// Environment, `NAME=value`.
    pub environment: Vec<String>,
    /// Where it runs.
    pub working_dir: &'static str,
}

/// An image that was built: its full name and the archive to import.
#[derive(Debug, Clone)]
pub struct Image {
    /// `bifrost.local/<name>:<first 12 characters of the digest of its contents>`.
    pub reference: String,
    /// The archive.
    pub archive: PathBuf,
}

impl ImageSpec {
    /// An image that runs one program.
    pub fn of_program(name: &'static str, contents: Contents, program: &str) -> Self {
        Self {
            name,
            contents,
            entrypoint: vec![program.to_owned()],
            arguments: Vec::new(),
            environment: Vec::new(),
            working_dir: "/",
        }
    }

    /// Packs the image, unless the cache has one with the same contents. Reads all of them.
    pub fn build(&self) -> Result<Image> {
        let mut hash = Sha256::new();
        self.contents.hash_into(&mut hash)?;
        self.build_for(&files::hex(&hash.finalize()))
    }

    /// As [`ImageSpec::build`], where a digest of the contents is known already.
    pub fn build_for(&self, contents: &str) -> Result<Image> {
        let config = serde_json::to_vec(&self.config(""))?;
        let tag = &files::digest([contents.as_bytes(), &config])[..12];
        let folder = paths::cache_root()?.join("images");
        let image = Image {
            reference: format!("{REGISTRY}/{}:{tag}", self.name),
            archive: folder.join(format!("{}@{tag}.tar", self.name)),
        };
        if !image.archive.is_file() {
            files::create_dir(&folder)?;
            self.pack(&image)?;
            prune(&folder, self.name)?;
        }
        Ok(image)
    }

    fn pack(&self, image: &Image) -> Result<()> {
        let cannot = || format!("cannot write {}", image.archive.display());
        let part = image.archive.with_extension(format!("part{}", std::process::id()));
        let layer_path = image.archive.with_extension(format!("layer{}", std::process::id()));
        let layer = File::options().create(true).truncate(true).read(true).write(true).open(&layer_path);
        let layer = layer.with_context(cannot)?;
        // It has no name from here on: whatever happens, nothing stays behind.
        std::fs::remove_file(&layer_path).with_context(cannot)?;
        let writer = Hashing { inner: BufWriter::new(layer), hash: Sha256::new(), length: 0 };
        let written = self.contents.write_layer(writer)?;
        let (digest, length) = (files::hex(&written.hash.finalize()), written.length);
        let mut layer = written.inner.into_inner().map_err(|error| error.into_error()).with_context(cannot)?;
        layer.seek(SeekFrom::Start(0)).with_context(cannot)?;

        let output = File::create(&part).with_context(cannot)?;
        let mut archive = tar::Builder::new(BufWriter::new(output));
        append_text(&mut archive, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        append(&mut archive, &format!("blobs/sha256/{digest}"), length, &mut layer)?;
        let config = append_blob(&mut archive, &self.config(&digest))?;
        let manifest = append_blob(&mut archive, &manifest(&config, &digest, length))?;
        append_text(&mut archive, "index.json", &serde_json::to_vec(&index(&manifest, &image.reference))?)?;
        archive.into_inner().and_then(|mut output| output.flush()).with_context(cannot)?;
        std::fs::rename(&part, &image.archive).with_context(cannot)
    }

    /// The image's configuration for a layer of this digest.
    fn config(&self, layer: &str) -> Value {
        json!({
            "architecture": architecture(),
            "os": "linux",
            "config": {
                "User": USER,
                "Entrypoint": self.entrypoint,
                "Cmd": self.arguments,
                "Env": self.environment,
                "WorkingDir": self.working_dir,
            },
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer}")]},
        })
    }
}

/// Digest and length of a blob.
struct Blob {
    digest: String,
    length: usize,
}

fn manifest(config: &Blob, layer: &str, layer_length: u64) -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": format!("sha256:{}", config.digest),
            "size": config.length,
        },
        "layers": [{
            "mediaType": "application/vnd.oci.image.layer.v1.tar",
            "digest": format!("sha256:{layer}"),
            "size": layer_length,
        }],
    })
}

/// The index names the image in containerd's way (a full name) and in OCI's (the tag).
fn index(manifest: &Blob, reference: &str) -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": format!("sha256:{}", manifest.digest),
            "size": manifest.length,
            "platform": {"architecture": architecture(), "os": "linux"},
            "annotations": {
                "io.containerd.image.name": reference,
                "org.opencontainers.image.ref.name": reference.rsplit(':').next(),
            },
        }],
    })
}

/// The machine's architecture by the name that OCI uses.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn append_blob<W: Write>(archive: &mut tar::Builder<W>, content: &Value) -> Result<Blob> {
    let bytes = serde_json::to_vec(content)?;
    let digest = files::hex(&Sha256::digest(&bytes));
    append_text(archive, &format!("blobs/sha256/{digest}"), &bytes)?;
    Ok(Blob { digest, length: bytes.len() })
}

fn append_text<W: Write>(archive: &mut tar::Builder<W>, path: &str, content: &[u8]) -> Result<()> {
    append(archive, path, content.len() as u64, content)
}

fn append<W: Write>(archive: &mut tar::Builder<W>, path: &str, length: u64, content: impl std::io::Read) -> Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(length);
    header.set_mtime(0);
    archive.append_data(&mut header, path, content).with_context(|| format!("cannot add {path} to the image"))
}

/// Passes bytes on, counting and hashing them.
struct Hashing<W> {
    inner: W,
    hash: Sha256,
    length: u64,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.length += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

/// Removes all but the newest archives of an image.
fn prune(folder: &Path, name: &str) -> Result<()> {
    let prefix = format!("{name}@");
    let mut archives: Vec<_> = std::fs::read_dir(folder)
        .with_context(|| format!("cannot read {}", folder.display()))?
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    archives.sort();
    for (_, path) in archives.iter().rev().skip(KEPT) {
        let _ = std::fs::remove_file(path);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;
    use crate::images::Entry;

    /// The files of an archive by name.
    fn unpack(path: &Path) -> std::collections::BTreeMap<String, Vec<u8>> {
        let mut archive = tar::Archive::new(File::open(path).unwrap());
        let read = |entry: std::io::Result<tar::Entry<'_, File>>| {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().display().to_string();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            (name, content)
        };
        archive.entries().unwrap().map(read).collect()
    }

    #[test]
    fn every_blob_has_the_name_of_its_digest_and_is_referred_to() {
        let folder = tempfile::tempdir().unwrap();
        let contents = Contents::new().with("/hello", Entry::Text("world".into()));
        let spec = ImageSpec::of_program("hello", contents, "/hello");
        let image = Image { reference: "bifrost.local/hello:1".into(), archive: folder.path().join("hello.tar") };
        spec.pack(&image).unwrap();
        let files = unpack(&image.archive);
        let index: Value = serde_json::from_slice(&files["index.json"]).unwrap();
        let blob = |value: &Value| -> Value {
            let digest = value["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
            let content = &files[&format!("blobs/sha256/{digest}")];
            assert_eq!(files::hex(&Sha256::digest(content)), digest);
            assert_eq!(value["size"], content.len());
            serde_json::from_slice(content).unwrap_or(Value::Null)
        };
        let manifest = blob(&index["manifests"][0]);
        blob(&manifest["layers"][0]);
        let config = blob(&manifest["config"]);
        assert_eq!(config["rootfs"]["diff_ids"][0], manifest["layers"][0]["digest"]);
        assert_eq!(config["config"]["User"], USER);
        assert_eq!(index["manifests"][0]["annotations"]["io.containerd.image.name"], image.reference);
    }
}
