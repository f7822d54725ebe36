//! The files of an image: where each comes from and where it lies in the image.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

/// One file of an image.
#[derive(Debug, Clone)]
pub enum Entry {
    /// A copy of a file of this machine.
    File {
        /// Where it is read from; links are followed.
        source: PathBuf,
        /// Whether it may be executed.
        executable: bool,
    },
    /// A text.
    Text(String),
    /// A symbolic link.
    Link(PathBuf),
}

/// The files of an image by their path in it, without the leading slash; sorted, so that equal files make equal images.
#[derive(Debug, Clone, Default)]
pub struct Contents {
    entries: BTreeMap<PathBuf, Entry>,
}

impl Contents {
    /// No files.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a program at `path` (absolute).
    pub fn program(self, path: &str, source: PathBuf) -> Self {
        self.with(path, Entry::File { source, executable: true })
    }

    /// Adds an entry at `path` (absolute).
    pub fn with(mut self, path: impl AsRef<Path>, entry: Entry) -> Self {
        let path = path.as_ref();
        self.entries.insert(path.strip_prefix("/").unwrap_or(path).to_owned(), entry);
        self
    }

    /// The entries by path, without the leading slash.
    pub fn entries(&self) -> impl Iterator<Item = (&Path, &Entry)> {
        self.entries.iter().map(|(path, entry)| (path.as_path(), entry))
    }

    /// Adds all files below `source`, but those that `keep` refuses by their path below it.
    pub fn tree(mut self, path: &str, source: &Path, keep: &dyn Fn(&Path) -> bool) -> Result<Self> {
        let mut folders = vec![PathBuf::new()];
        while let Some(folder) = folders.pop() {
            let from = source.join(&folder);
            let entries = std::fs::read_dir(&from).with_context(|| format!("cannot read {}", from.display()))?;
            for entry in entries {
                let entry = entry.with_context(|| format!("cannot read {}", from.display()))?;
                let below = folder.join(entry.file_name());
                if !keep(&below) {
                    continue;
                }
                let kind = entry.file_type().with_context(|| format!("cannot read {}", entry.path().display()))?;
                if kind.is_dir() {
                    folders.push(below);
                } else if kind.is_symlink() {
                    let target = std::fs::read_link(entry.path())
                        .with_context(|| format!("cannot read the link {}", entry.path().display()))?;
                    self = self.with(Path::new(path).join(below), Entry::Link(target));
                } else {
                    let executable = is_executable(&entry.path());
                    self = self.with(Path::new(path).join(below), Entry::File { source: entry.path(), executable });
                }
            }
        }
        Ok(self)
    }

    /// Adds paths and file contents to a digest.
    pub fn hash_into(&self, hash: &mut Sha256) -> Result<()> {
        for (path, entry) in &self.entries {
            hash.update(path.as_os_str().as_encoded_bytes());
            match entry {
                Entry::File { source, executable } => {
                    let length = source.metadata().with_context(|| unreadable(source))?.len();
                    hash.update([0, 1, u8::from(*executable)]);
                    hash.update(length.to_be_bytes());
                    let mut file = std::fs::File::open(source).with_context(|| unreadable(source))?;
                    std::io::copy(&mut file, &mut HashWriter(hash)).with_context(|| unreadable(source))?;
                }
                Entry::Text(text) => {
                    hash.update([0, 2]);
                    hash.update((text.len() as u64).to_be_bytes());
                    hash.update(text);
                }
                Entry::Link(target) => {
                    hash.update([0, 3]);
                    hash.update(target.as_os_str().as_encoded_bytes());
                    hash.update([0]);
                }
            }
        }
        Ok(())
    }

    /// Writes a layer: a tar archive with the same bytes for the same files.
    pub fn write_layer<W: Write>(&self, output: W) -> Result<W> {
        let mut layer = tar::Builder::new(output);
        let parents = self.entries.keys().flat_map(|path| path.ancestors().skip(1));
        let folders: BTreeSet<&Path> = parents.filter(|folder| !folder.as_os_str().is_empty()).collect();
        for folder in folders {
            let mut header = header(tar::EntryType::Directory, 0o755, 0);
            layer.append_data(&mut header, folder, std::io::empty()).context("cannot write the layer")?;
        }
        for (path, entry) in &self.entries {
            append(&mut layer, path, entry).with_context(|| format!("cannot add {} to the layer", path.display()))?;
        }
        layer.into_inner().context("cannot write the layer")
    }
}

/// Hashes what is written to it.
struct HashWriter<'a>(&'a mut Sha256);

impl Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn append<W: Write>(layer: &mut tar::Builder<W>, path: &Path, entry: &Entry) -> Result<()> {
    match entry {
        Entry::File { source, executable } => {
            let file = std::fs::File::open(source).with_context(|| unreadable(source))?;
            let length = file.metadata().with_context(|| unreadable(source))?.len();
            let mode = if *executable { 0o755 } else { 0o644 };
            layer.append_data(&mut header(tar::EntryType::Regular, mode, length), path, file)?;
        }
        Entry::Text(text) => {
            let mut header = header(tar::EntryType::Regular, 0o644, text.len() as u64);
            layer.append_data(&mut header, path, text.as_bytes())?;
        }
        Entry::Link(target) => {
            layer.append_link(&mut header(tar::EntryType::Symlink, 0o777, 0), path, target)?;
        }
    }
    Ok(())
}

/// No time and no owner: they would make every build another image.
fn header(kind: tar::EntryType, mode: u32, length: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(length);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata().is_ok_and(|file| file.permissions().mode() & 0o111 != 0)
}

fn unreadable(path: &Path) -> String {
    format!("cannot read {}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer_of(contents: &Contents) -> Vec<u8> {
        contents.write_layer(Vec::new()).unwrap()
    }

    #[test]
    fn equal_files_make_equal_layers_and_digests_whatever_the_order() {
        let one = Contents::new().with("/a", Entry::Text("1".into())).with("/d/b", Entry::Text("2".into()));
        let two = Contents::new().with("/d/b", Entry::Text("2".into())).with("/a", Entry::Text("1".into()));
        assert_eq!(layer_of(&one), layer_of(&two));
        let digest = |contents: &Contents| {
            let mut hash = Sha256::new();
            contents.hash_into(&mut hash).unwrap();
            hash.finalize()
        };
        assert_eq!(digest(&one), digest(&two));
        assert_ne!(digest(&one), digest(&one.clone().with("/a", Entry::Text("3".into()))));
    }

    #[test]
    fn a_tree_keeps_links_and_leaves_out_what_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("lib")).unwrap();
        std::fs::write(folder.path().join("lib/x.js"), "x").unwrap();
        std::fs::write(folder.path().join("lib/x.map"), "no").unwrap();
        std::os::unix::fs::symlink("x.js", folder.path().join("lib/y.js")).unwrap();
        let keep = |path: &Path| path.extension().is_none_or(|extension| extension != "map");
        let contents = Contents::new().tree("/app", folder.path(), &keep).unwrap();
        let layer = layer_of(&contents);
        let mut archive = tar::Archive::new(layer.as_slice());
        let names: Vec<_> =
            archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().into_owned()).collect();
        let expected = ["app", "app/lib", "app/lib/x.js", "app/lib/y.js"].map(PathBuf::from);
        assert_eq!(names, expected);
    }
}
