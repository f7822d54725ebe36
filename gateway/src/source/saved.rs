//! The copies that serve when the API server is away at the start: what this pod saved when it last took a configuration into
//! use (without keys), and what the kubelet mounted.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bifrost_config::published::{CANDIDATE, PublishedKeys, STABLE, TRAFFIC};
use tokio::sync::watch;

const FILE: &str = "snapshot.json";

/// Members of a ConfigMap.
pub(super) type Members = BTreeMap<String, String>;

/// Reads what was saved; `None` where there is nothing.
pub(super) fn read_saved(dir: &Path) -> io::Result<Option<Members>> {
    match fs::read(dir.join(FILE)) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(io::Error::from),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Saves the members that pods act upon, in one step: a reader sees the old file or the new one.
fn write_saved(dir: &Path, members: &Members) -> io::Result<()> {
    let kept: BTreeMap<_, _> =
        members.iter().filter(|(name, _)| matches!(name.as_str(), STABLE | CANDIDATE | TRAFFIC)).collect();
    let temporary = dir.join(format!("{FILE}.tmp"));
    let mut file = fs::File::create(&temporary)?;
    file.write_all(&serde_json::to_vec(&kept)?)?;
    file.sync_all()?;
    fs::rename(temporary, dir.join(FILE))
}

/// Saves configurations on a thread of its own, so that a disk that hangs holds up nothing.
pub(super) struct Saver(Option<watch::Sender<Option<Arc<Members>>>>);

impl Saver {
    /// One that saves to this directory; without a directory it does nothing.
    pub(super) fn start(dir: Option<PathBuf>) -> Self {
        let Some(dir) = dir else { return Self(None) };
        let (sender, mut newest) = watch::channel(None);
        tokio::spawn(async move {
            while newest.changed().await.is_ok() {
                let members: Option<Arc<Members>> = newest.borrow_and_update().clone();
                let Some(members) = members else { continue };
                let into = dir.clone();
                let written = tokio::task::spawn_blocking(move || write_saved(&into, &members)).await;
                if let Ok(Err(error)) = written {
                    tracing::warn!(directory = %dir.display(), %error, "the configuration could not be saved for the next start");
                }
            }
        });
        Self(Some(sender))
    }

    /// Saves these members; only the newest counts.
    pub(super) fn save(&self, members: &Members) {
        if let Some(sender) = &self.0 {
            sender.send_replace(Some(Arc::new(members.clone())));
        }
    }
}

/// Reads a mounted ConfigMap; `None` where nothing is mounted.
pub(super) fn read_mounted_config(dir: &Path) -> io::Result<Option<Members>> {
    let files = read_volume(dir)?;
    let members: Members =
        files.into_iter().filter_map(|(name, bytes)| Some((name, String::from_utf8(bytes).ok()?))).collect();
    Ok((!members.is_empty()).then_some(members))
}

/// Reads a mounted Secret; `None` where nothing is mounted.
pub(super) fn read_mounted_keys(dir: &Path) -> io::Result<Option<PublishedKeys>> {
    let files = read_volume(dir)?;
    let keys = PublishedKeys::parse(files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())));
    Ok((!files.is_empty()).then_some(keys))
}

/// The files of a mounted volume. The kubelet swaps the link `..data`, so following it once gives files of one write.
fn read_volume(dir: &Path) -> io::Result<BTreeMap<String, Vec<u8>>> {
    let dir = fs::canonicalize(dir.join("..data")).unwrap_or_else(|_| dir.to_owned());
    let entries = match fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(error),
    };
    let mut files = BTreeMap::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).filter(|name| !name.starts_with(".."));
        if let Some(name) = name.filter(|_| path.is_file()) {
            files.insert(name.to_owned(), fs::read(&path)?);
        }
    }
    Ok(files)
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::store::tests::{members, members_with_candidate};
    use super::*;

    pub(in crate::source) fn write(dir: &Path, members: &Members) {
        write_saved(dir, members).unwrap();
    }

    #[test]
    fn what_is_saved_is_read_back_without_other_members() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read_saved(dir.path()).unwrap(), None);
        let mut published = members_with_candidate("u", 7);
        published.insert("state.json".into(), "{}".into());
        write_saved(dir.path(), &published).unwrap();
        assert_eq!(read_saved(dir.path()).unwrap(), Some(members_with_candidate("u", 7)));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn a_mounted_volume_is_read_through_its_link() {
        let dir = tempfile::tempdir().unwrap();
        let write = dir.path().join("..2026");
        fs::create_dir(&write).unwrap();
        fs::write(write.join(STABLE), "{}").unwrap();
        fs::write(write.join("key.main"), "sk-1\n").unwrap();
        std::os::unix::fs::symlink("..2026", dir.path().join("..data")).unwrap();
        std::os::unix::fs::symlink("..data/stable.json", dir.path().join(STABLE)).unwrap();
        assert_eq!(read_mounted_config(dir.path()).unwrap().unwrap()[STABLE], "{}");
        assert_eq!(read_mounted_keys(dir.path()).unwrap().unwrap().values["main"].expose(), "sk-1");
    }

    #[test]
    fn a_volume_that_is_not_there_is_none() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read_mounted_config(&dir.path().join("nowhere")).unwrap(), None);
        assert_eq!(read_mounted_keys(dir.path()).unwrap(), None);
    }

    #[tokio::test]
    async fn the_newest_configuration_is_the_one_that_is_saved() {
        let dir = tempfile::tempdir().unwrap();
        let saver = Saver::start(Some(dir.path().to_owned()));
        saver.save(&members("u", 7, 10));
        saver.save(&members("u", 8, 10));
        let newest = tokio::time::timeout(std::time::Duration::from_secs(10), async {
            while read_saved(dir.path()).unwrap() != Some(members("u", 8, 10)) {
                tokio::task::yield_now().await;
            }
        });
        newest.await.expect("the last one is written");
    }
}
