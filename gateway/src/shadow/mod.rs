//! Shadow: a share of one arm's requests is run on the other arm too. The copy's answer goes to nobody, it is only compared.
//!
//! A copy begins when its request was answered to the end, so it delays nothing: [`pending`] holds what it needs meanwhile, [`run`]
//! sends it on connections of its own, [`compare`] says how alike the two answers are. [`choose`] is pure and says which requests are
//! copied, [`budget`] is pure and says what that may cost. [`book`] counts, [`saved`] keeps what was
//! spent. Nothing here may change, delay or end a request, and copies
//! count in no other metric; whether they agreed is in the windows of the analysis, beside its requests.

pub mod book;
pub mod budget;
pub mod choose;
pub mod compare;
pub mod pending;
mod run;
pub mod saved;

use std::time::{SystemTime, UNIX_EPOCH};

pub use book::Book;

/// Unix time in milliseconds.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
