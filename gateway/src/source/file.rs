//! The guide's `config.json`, without a cluster: read at the start, and again whenever it changes.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bifrost_config::Problem;
use bifrost_config::file::{Loaded, load};
use bifrost_config::published::{CONFIG_VERSION, PublishedKeys, Stable, TrafficTable, revision};

use super::store::{Offered, Origin, Store};
use crate::snapshot::Parts;

/// How often the file is looked at. It is read once it looks the same at two looks, so that nobody reads half a file.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It breaks rules.
    #[error("{} has {} problem(s):{}", path.display(), problems.len(), list(problems))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Each with its path in the file.
        problems: Vec<Problem>,
    },
    /// It keeps the rules but cannot serve.
    #[error("{} cannot be used: {problem}", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// Why.
        problem: String,
    },
}

fn list(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("\n  {problem}")).collect()
}

/// Follows one file.
pub struct FileSource {
    path: PathBuf,
    env: fn(&str) -> Option<String>,
    store: Arc<Store>,
    epoch: u64,
    /// What the file looked like when it was last read.
    read: Option<Stamp>,
    /// What it looked like at the last look.
    seen: Option<Stamp>,
}

/// How a change of a file is noticed: also where a link to it is swapped, as in a mounted ConfigMap.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        // Follows links.
        fs::metadata(path).ok().map(|metadata: Metadata| Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

impl FileSource {
    /// Reads the file and takes it into use. `env` gives the values of environment variables.
    pub fn start(path: PathBuf, env: fn(&str) -> Option<String>, store: Arc<Store>) -> Result<Self, FileError> {
        let mut source = Self { path, env, store, epoch: 0, read: None, seen: None };
        source.read()?;
        Ok(source)
    }

    /// Reads it again whenever it changes, for as long as it is polled.
    pub async fn follow(mut self) {
        let mut every = tokio::time::interval(LOOK_EVERY);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            every.tick().await;
            self.look();
        }
    }

    /// One look at the file; reads it if it has changed and changes no more.
    fn look(&mut self) {
        let now = Stamp::of(&self.path);
        let settled = now == self.seen;
        self.seen.clone_from(&now);
        if !settled || now == self.read {
            return;
        }
        if let Err(error) = self.read() {
            self.store.report_problem(error.to_string());
        }
    }

    fn read(&mut self) -> Result<(), FileError> {
        // Before the content: a write in between shows as another change.
        self.read = Stamp::of(&self.path);
        self.seen.clone_from(&self.read);
        let path = || self.path.clone();
        let text = fs::read_to_string(&self.path).map_err(|source| FileError::Unreadable { path: path(), source })?;
        let loaded = load(&text, &self.env).map_err(|problems| FileError::Invalid { path: path(), problems })?;
        for warning in &loaded.warnings {
            tracing::warn!(file = %self.path.display(), "{warning}");
        }
        self.epoch += 1;
        let parts = parts(loaded, self.epoch, &self.path);
        match self.store.offer(parts, Origin::File) {
            Offered::Refused(problem) => Err(FileError::Refused { path: path(), problem }),
            Offered::Taken | Offered::Same => Ok(()),
        }
    }
}

fn parts(loaded: Loaded, epoch: u64, path: &Path) -> Parts {
    let Loaded { config, migration, values, .. } = loaded;
    // Named after the configuration without its values: a digest of the file would be one of the keys in it.
    let stable =
        serde_json::to_string(&Stable { config_version: CONFIG_VERSION, config: config.clone() }).unwrap_or_default();
    Parts {
        traffic: TrafficTable::new(&migration, "", epoch, &revision(&stable)),
        config,
        tried: None,
        digest: String::new(),
        keys: PublishedKeys { values, ..PublishedKeys::default() },
        file: Some(path.display().to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::store::tests::store;
    use super::*;

    const FILE: &str = r#"{"providers":{"openai":{"keys":[{"value":"env.KEY","models":["gpt-4o"]}]}}}"#;

    fn env(name: &str) -> Option<String> {
        (name == "KEY").then(|| "sk-1".to_owned())
    }

    fn started(text: &str) -> (tempfile::TempDir, Arc<Store>, Result<FileSource, FileError>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        fs::write(&path, text).unwrap();
        let store = store();
        let source = FileSource::start(path, env, store.clone());
        (dir, store, source)
    }

    fn percent(store: &Store) -> u8 {
        store.snapshot().unwrap().parts.traffic.percent
    }

    #[test]
    fn a_file_is_taken_into_use_with_its_keys_and_its_name() {
        let (_dir, store, source) = started(FILE);
        source.map(drop).unwrap();
        let snapshot = store.snapshot().unwrap();
        assert_eq!(snapshot.parts.keys.values["openai-1"].expose(), "sk-1");
        assert_eq!(snapshot.parts.traffic.revision.len(), 10);
        assert!(snapshot.parts.file.as_ref().unwrap().ends_with("config.json"));
        assert!(store.admin_token().is_none());
    }

    #[test]
    fn every_problem_of_a_file_is_named_at_the_start() {
        let (_dir, store, source) = started(r#"{"providers":{"acme":{}},"plugin":1}"#);
        let message = source.map(drop).unwrap_err().to_string();
        assert!(
            message.contains("2 problem(s)") && message.contains("providers.acme") && message.contains("plugin:"),
            "{message}"
        );
        assert!(!store.is_ready());
    }

    #[test]
    fn a_change_is_read_once_the_file_has_settled() {
        let (dir, store, source) = started(FILE);
        let mut source = source.unwrap();
        source.look();
        assert_eq!(store.status().generation, 1, "nothing has changed");
        let path = dir.path().join("config.json");
        fs::write(&path, FILE.replacen('{', r#"{"migration":{"canaryPercent":10},"#, 1)).unwrap();
        source.look();
        assert_eq!(percent(&store), 100, "it may still be written");
        source.look();
        assert_eq!((percent(&store), store.status().generation, store.status().epoch), (10, 2, 2));
    }

    #[test]
    fn a_swapped_link_is_a_change() {
        let (dir, store, source) = started(FILE);
        drop(source);
        let (old, new, link) =
            (dir.path().join("config.json"), dir.path().join("new.json"), dir.path().join("link.json"));
        fs::write(&new, FILE.replacen('{', r#"{"migration":{"canaryPercent":25},"#, 1)).unwrap();
        std::os::unix::fs::symlink(&old, &link).unwrap();
        let mut source = FileSource::start(link.clone(), env, store.clone()).unwrap();
        std::os::unix::fs::symlink(&new, dir.path().join("next")).unwrap();
        fs::rename(dir.path().join("next"), &link).unwrap();
        source.look();
        source.look();
        assert_eq!(percent(&store), 25);
    }

    #[test]
    fn a_bad_or_missing_file_leaves_the_last_good_one_in_use_and_says_so_once() {
        let (dir, store, source) = started(FILE);
        let mut source = source.unwrap();
        let path = dir.path().join("config.json");
        fs::write(&path, "{").unwrap();
        source.look();
        source.look();
        assert!(store.problem().unwrap().contains("is no JSON"), "{:?}", store.problem());
        fs::remove_file(&path).unwrap();
        source.look();
        source.look();
        assert!(store.problem().unwrap().contains("cannot be read"), "{:?}", store.problem());
        assert_eq!(store.status().generation, 1);
        fs::write(&path, FILE).unwrap();
        source.look();
        source.look();
        assert_eq!((store.problem(), store.status().generation), (None, 2));
    }
}
