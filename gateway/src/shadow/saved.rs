//! What a pod spent on copies today, kept over restarts of its container, so that what it reports does not fall. Money is not kept: it
//! begins with nothing, see [`super::budget`].

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Book;

const FILE: &str = "shadow.json";
/// How often it is written, where it changed.
const PAUSE: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Spent {
    /// Days since the Unix epoch.
    day: u64,
    /// Micro-units of the currency.
    spent: u64,
}

impl Spent {
    fn of(book: &Book) -> Self {
        let (day, spent) = book.spent();
        Self { day, spent }
    }
}

fn read(dir: &Path) -> io::Result<Option<Spent>> {
    match fs::read(dir.join(FILE)) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(io::Error::from),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// In one step: a reader sees the old file or the new one.
fn write(dir: &Path, spent: Spent) -> io::Result<()> {
    let temporary = dir.join(format!("{FILE}.tmp"));
    fs::write(&temporary, serde_json::to_vec(&spent)?)?;
    fs::rename(temporary, dir.join(FILE))
}

/// Takes over what lies in this directory, and keeps it up to date for as long as it is polled.
pub async fn keep(book: Arc<Book>, dir: PathBuf) {
    let from = dir.clone();
    match tokio::task::spawn_blocking(move || read(&from)).await {
        Ok(Ok(Some(Spent { day, spent }))) => book.recall(day, spent),
        Ok(Err(error)) => tracing::warn!(%error, "what was spent on copies before cannot be read"),
        Ok(Ok(None)) | Err(_) => {}
    }
    let mut written = Spent::of(&book);
    loop {
        tokio::time::sleep(PAUSE).await;
        let now = Spent::of(&book);
        if now == written {
            continue;
        }
        let into = dir.clone();
        match tokio::task::spawn_blocking(move || write(&into, now)).await {
            Ok(Ok(())) => written = now,
            Ok(Err(error)) => tracing::debug!(%error, "what was spent on copies cannot be written"),
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()).unwrap(), None);
        let spent = Spent { day: 7, spent: 12 };
        write(dir.path(), spent).unwrap();
        assert_eq!(read(dir.path()).unwrap(), Some(spent));
        fs::write(dir.path().join(FILE), "{").unwrap();
        assert!(read(dir.path()).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_spent_today_is_told_again_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let book = Arc::new(Book::default());
        let (day, _) = book.spent();
        write(dir.path(), Spent { day, spent: 5_000 }).unwrap();
        let task = tokio::spawn(keep(book.clone(), dir.path().to_owned()));
        while book.spent().1 == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(book.spent(), (day, 5_000));
        book.recall(day, 1);
        while read(dir.path()).unwrap() != Some(Spent { day, spent: 5_001 }) {
            tokio::time::sleep(PAUSE).await;
        }
        task.abort();
    }
}
