//! Counts what the gateway does, and shows it in Prometheus' form.
//!
//! Each runtime that serves requests owns a [`Recorder`]: plain numbers, no lock and no shared cache line on a request's way. At
//! a scrape the [`Gatherer`] asks every runtime for a copy and adds the copies up. Counters live outside the snapshot, so they
//! survive every change of the configuration. No label holds a user, a credential or a raw path.

mod copies;
mod families;
mod gather;
mod heartbeat;
mod histogram;
mod metrics;
mod models;
mod outcome;
mod process;
mod recorder;
mod series;
mod windows;

pub use gather::Gatherer;
pub use heartbeat::{Heartbeats, SILENCE_LIMIT};
pub use histogram::Gaps;
pub use metrics::{CONTENT_TYPE, ConfigStatus, Metrics};
pub use models::{ModelLabels, OTHER};
pub use outcome::{Arm, Compared, Copied, OfRevision, Outcome};
pub use recorder::{Recorder, Tracked};
pub use windows::Comparison;
