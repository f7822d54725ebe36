//! Progress on stderr. Every step says when it starts and when it ends, and every ten seconds in between what it is
//! doing: first builds take minutes, and nobody watches a silent terminal.

use std::{
    io::Write,
    path::PathBuf,
    sync::{Arc, LazyLock, Mutex, PoisonError, mpsc},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crate::files;

/// How often a running step shows that it is alive.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// Longest text of a heartbeat taken from a log, in characters.
const DETAIL_CHARS: usize = 100;

/// When this program started: every line shows the time since then.
static STARTED: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Starts the clock that every line shows; without it, it starts at the first line.
pub fn begin() {
    LazyLock::force(&STARTED);
}

/// Prints one line on stderr with the seconds since the program started.
pub fn line(text: &str) {
    let elapsed = STARTED.elapsed().as_secs_f64();
    // A closed stderr must not end the work.
    let _ = writeln!(std::io::stderr(), "[{elapsed:6.1}s] {text}");
}

/// What a step is doing just now.
enum Detail {
    Text(String),
    /// The last line of a log that a child process writes.
    LastLineOf(PathBuf),
}

/// A step in progress. Dropped before [`Step::done`] it says that it was not finished.
pub struct Step {
    name: String,
    started: Instant,
    detail: Arc<Mutex<Detail>>,
    finished: bool,
    heart: Option<(mpsc::Sender<()>, JoinHandle<()>)>,
}

impl Step {
    /// Announces the step and starts its heartbeat.
    ///
    /// The heartbeat is a thread, because a step may block the only thread of the runtime (hashing, archives).
    pub fn start(name: impl Into<String>) -> Self {
        let name = name.into();
        line(&format!("{name} ..."));
        let detail = Arc::new(Mutex::new(Detail::Text(String::new())));
        let started = Instant::now();
        let (stop, stopped) = mpsc::channel();
        let beat = Beat { name: name.clone(), started, detail: Arc::clone(&detail) };
        let thread = std::thread::spawn(move || {
            while stopped.recv_timeout(HEARTBEAT) == Err(mpsc::RecvTimeoutError::Timeout) {
                line(&beat.text());
            }
        });
        Self { name, started, detail, finished: false, heart: Some((stop, thread)) }
    }

    /// Sets what the heartbeat says is being done.
    pub fn detail(&self, text: impl Into<String>) {
        self.set(Detail::Text(text.into()));
    }

    /// Makes the heartbeat show the last line of `log`.
    pub fn follow(&self, log: impl Into<PathBuf>) {
        self.set(Detail::LastLineOf(log.into()));
    }

    /// Announces the end of the step.
    pub fn done(mut self) {
        self.finished = true;
        line(&format!("{}: done in {}", self.name, seconds(self.started.elapsed())));
    }

    fn set(&self, detail: Detail) {
        *self.detail.lock().unwrap_or_else(PoisonError::into_inner) = detail;
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.heart.take() {
            drop(stop);
            let _ = thread.join();
        }
        if !self.finished {
            line(&format!("{}: not finished, after {}", self.name, seconds(self.started.elapsed())));
        }
    }
}

struct Beat {
    name: String,
    started: Instant,
    detail: Arc<Mutex<Detail>>,
}

impl Beat {
    fn text(&self) -> String {
        let detail = match &*self.detail.lock().unwrap_or_else(PoisonError::into_inner) {
            Detail::Text(text) => text.clone(),
            Detail::LastLineOf(log) => files::last_lines(log, 1).trim().to_owned(),
        };
        let detail: String = detail.chars().take(DETAIL_CHARS).collect();
        let elapsed = seconds(self.started.elapsed());
        if detail.is_empty() {
            format!("{}: still going, {elapsed}", self.name)
        } else {
            format!("{}: still going, {elapsed}: {detail}", self.name)
        }
    }
}

/// A duration as people read it: `7.3 s`, `2 min 5 s`.
pub fn seconds(duration: Duration) -> String {
    if duration < Duration::from_secs(60) {
        format!("{:.1} s", duration.as_secs_f64())
    } else {
        format!("{} min {} s", duration.as_secs() / 60, duration.as_secs() % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_shown_in_seconds_below_a_minute_and_in_minutes_above() {
        assert_eq!(seconds(Duration::from_millis(7_340)), "7.3 s");
        assert_eq!(seconds(Duration::from_secs(125)), "2 min 5 s");
    }

    #[test]
    fn a_heartbeat_says_what_is_being_done() {
        let step = Step::start("building");
        step.detail("kubelet");
        let beat = Beat { name: "building".into(), started: Instant::now(), detail: Arc::clone(&step.detail) };
        assert_eq!(beat.text(), "building: still going, 0.0 s: kubelet");
        step.done();
    }
}
