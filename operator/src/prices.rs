//! The price list: a file that is read anew when it changed. What cannot be read is said once, and the last good list stays in force.

use std::fs::{File, Metadata};
use std::io::Read as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bifrost_config::Prices;
use bifrost_config::prices::MAX_BYTES;
use futures::{Stream, stream};
use tracing::{info, warn};

/// How often it is looked for a change where nobody else does: the kubelet takes longer to bring one.
const LOOK: Duration = Duration::from_secs(5);

/// Where prices come from. Copies share what was read.
#[derive(Debug, Clone, Default)]
pub struct PriceList {
    path: Option<PathBuf>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// Of the file that was looked at last, good or bad.
    seen: Option<Stamp>,
    prices: Arc<Prices>,
    /// What was wrong last time, so that it is said once.
    complaint: String,
}

/// What changes with a file's content: a mounted ConfigMap gets new files, an edited file another time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    bytes: u64,
}

impl PriceList {
    /// The list in this file; without one there are no prices.
    pub fn new(path: Option<PathBuf>) -> Self {
        Self { path, state: Arc::default() }
    }

    /// The prices as of now; empty for as long as none could be read. Looks at the file, and reads it where it changed.
    pub fn current(&self) -> Arc<Prices> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(path) = &self.path {
            match File::open(path).and_then(|file| Ok((Stamp::of(&file.metadata()?), file))) {
                Ok((stamp, _)) if state.seen == Some(stamp) => {}
                Ok((stamp, file)) => {
                    state.seen = Some(stamp);
                    state.take(read(file), path);
                }
                Err(error) => {
                    state.seen = None;
                    state.take(Err(error.to_string()), path);
                }
            }
        }
        state.prices.clone()
    }

    /// An item for every change from now on, soon after it: pods have the prices of a shadow's copies from what is published.
    pub fn changes(&self) -> impl Stream<Item = ()> + Send + use<> {
        stream::unfold((self.clone(), self.current()), |(list, seen)| async move {
            loop {
                tokio::time::sleep(LOOK).await;
                let now = list.current();
                if *now != *seen {
                    return Some(((), (list, now)));
                }
            }
        })
    }
}

impl State {
    fn take(&mut self, read: Result<Prices, String>, path: &std::path::Path) {
        let file = path.display();
        match read {
            Ok(prices) => {
                info!(%file, models = prices.len(), currency = prices.currency(), "the price list was read");
                self.prices = Arc::new(prices);
                self.complaint.clear();
            }
            Err(complaint) if complaint != self.complaint => {
                let models = self.prices.len();
                warn!(%file, error = complaint, models, "the price list cannot be used; the last good one stays in force");
                self.complaint = complaint;
            }
            Err(_) => {}
        }
    }
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self { modified: metadata.modified().ok(), bytes: metadata.len() }
    }
}

fn read(file: File) -> Result<Prices, String> {
    let mut text = Vec::new();
    file.take(MAX_BYTES as u64 + 1).read_to_end(&mut text).map_err(|error| error.to_string())?;
    Prices::parse(&text).map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bifrost_config::ProviderType;
    use futures::StreamExt;

    fn list(output: &str) -> String {
        format!(r#"{{"currency":"USD","models":{{"OpenAI":{{"m":{{"input":"1","output":"{output}"}}}}}}}}"#)
    }

    #[test]
    fn a_changed_file_is_read_and_a_bad_one_changes_nothing() {
        let folder = std::env::temp_dir().join(format!("bifrost-prices-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("prices.json");
        let _ = std::fs::remove_file(&path);
        let prices = PriceList::new(Some(path.clone()));
        let output = || prices.current().find(ProviderType::OpenAI, "m").map(|price| price.output);
        assert_eq!(output(), None, "the file is not there yet");
        std::fs::write(&path, list("2")).unwrap();
        assert_eq!(output(), Some(2_000_000));
        assert!(Arc::ptr_eq(&prices.current(), &prices.clone().current()), "it was not read again");
        std::fs::write(&path, "{ no list").unwrap();
        assert_eq!(output(), Some(2_000_000));
        std::fs::write(&path, list("3.25")).unwrap();
        assert_eq!(output(), Some(3_250_000));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(output(), Some(3_250_000));
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn another_list_is_a_change_and_another_file_with_the_same_list_is_none() {
        let folder = std::env::temp_dir().join(format!("bifrost-price-changes-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("prices.json");
        std::fs::write(&path, list("2")).unwrap();
        let prices = PriceList::new(Some(path.clone()));
        let mut changes = std::pin::pin!(prices.changes());
        std::fs::write(&path, list("2.0")).unwrap();
        assert!(tokio::time::timeout(4 * LOOK, changes.next()).await.is_err(), "it means the same");
        std::fs::write(&path, list("3.25")).unwrap();
        assert_eq!(tokio::time::timeout(2 * LOOK, changes.next()).await, Ok(Some(())));
        assert!(tokio::time::timeout(4 * LOOK, changes.next()).await.is_err(), "it was told already");
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn the_charts_own_list_can_be_read() {
        let values = include_str!("../../helm/bifrost/values.yaml");
        let values: serde_json::Value = serde_yaml_ng::from_str(values).unwrap();
        let prices = Prices::parse(values["prices"].to_string().as_bytes()).unwrap();
        let input = |provider, model| prices.find(provider, model).map(|price| price.input);
        assert_eq!(input(ProviderType::OpenAI, "gpt-4o-mini-2024-07-18"), Some(150_000));
        assert_eq!(input(ProviderType::OpenAI, "gpt-4o-2024-05-13"), Some(5_000_000));
        assert_eq!(input(ProviderType::OpenAI, "gpt-4o-audio-preview"), None, "priced otherwise");
        assert_eq!(input(ProviderType::Anthropic, "claude-sonnet-4-5-20250929"), Some(3_000_000));
    }

    #[test]
    fn without_a_file_there_are_no_prices() {
        assert!(PriceList::default().current().is_empty());
    }
}
