//! Small helpers for files: atomic writes, digests, the tail of a log.

use std::{
    fs::{self, File},
    io::{Read, Seek, SeekFrom},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

/// How much of a log's end is read to find its last lines, in bytes.
const TAIL_BYTES: u64 = 64 * 1024;

/// Writes a file that only its owner may read, in one step: a reader sees the old or the new content.
pub fn write_private(path: &Path, content: impl AsRef<[u8]>) -> Result<()> {
    write_with_mode(path, content.as_ref(), 0o600)
}

/// Writes a file that everybody may read, in one step.
pub fn write(path: &Path, content: impl AsRef<[u8]>) -> Result<()> {
    write_with_mode(path, content.as_ref(), 0o644)
}

fn write_with_mode(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    use std::io::Write as _;
    if let Some(folder) = path.parent() {
        create_dir(folder)?;
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", std::process::id()));
    let temporary = PathBuf::from(name);
    let mut open = fs::OpenOptions::new();
    open.write(true).create(true).truncate(true).mode(mode);
    let mut file = open.open(&temporary).with_context(|| format!("cannot write {}", temporary.display()))?;
    file.write_all(content).with_context(|| format!("cannot write {}", temporary.display()))?;
    fs::rename(&temporary, path).with_context(|| format!("cannot write {}", path.display()))
}

/// Creates a folder and its parents.
pub fn create_dir(path: &Path) -> Result<()> {
    fs::create_dir_all(path).with_context(|| format!("cannot create the folder {}", path.display()))
}

/// Reads a whole text file.
pub fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// The last `count` lines of a log; empty when there is no such file.
pub fn last_lines(path: &Path, count: usize) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut tail = Vec::new();
        file.read_to_end(&mut tail)?;
        Ok(tail)
    };
    let tail = read().unwrap_or_default();
    let tail = String::from_utf8_lossy(&tail);
    let lines: Vec<&str> = tail.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// A digest over several parts; the length of each part counts, so that moving a byte from one to the next is seen.
pub fn digest<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hex(&hash.finalize())
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A lock between processes, held until it is dropped.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    file: File,
}

/// Takes the lock of `path`, waiting for whoever holds it.
pub fn lock(path: &Path) -> Result<Lock> {
    if let Some(folder) = path.parent() {
        create_dir(folder)?;
    }
    loop {
        let file = File::create(path).with_context(|| format!("cannot open the lock {}", path.display()))?;
        if file.try_lock().is_err() {
            crate::progress::line(&format!("Waiting for another process, which holds {}", path.display()));
            file.lock().with_context(|| format!("cannot take the lock {}", path.display()))?;
        }
        let lock = Lock { path: path.to_owned(), file };
        // The one before may have removed the file: then this lock is on a file that nobody else sees.
        if lock.is_current() {
            return Ok(lock);
        }
    }
}

impl Lock {
    /// Frees the lock and removes its file.
    pub fn remove(self) {
        let _ = fs::remove_file(&self.path);
    }

    fn is_current(&self) -> bool {
        let (Ok(ours), Ok(current)) = (self.file.metadata(), fs::metadata(&self.path)) else { return false };
        (ours.dev(), ours.ino()) == (current.dev(), current.ino())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_lines_skips_empty_lines_and_survives_a_missing_file() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        fs::write(&log, "one\ntwo\n\nthree\n\n").unwrap();
        assert_eq!(last_lines(&log, 2), "two\nthree");
        assert_eq!(last_lines(&folder.path().join("none"), 2), "");
    }

    #[test]
    fn the_digest_tells_apart_what_only_moved_between_parts() {
        assert_ne!(digest([b"ab".as_slice(), b"c"]), digest([b"a".as_slice(), b"bc"]));
    }

    #[test]
    fn private_files_are_readable_by_their_owner_only() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        write_private(&path, "secret").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(read(&path).unwrap(), "secret");
    }
}
