//! A stand-in for the vendors, honest in what matters to a gateway: hosts, paths, credentials, headers, error shapes,
//! compression and streams are the vendors' own, so that what works here works there.
//!
//! * [`start`] runs it inside a process (unit tests, the harness); the binary `bifrost-fake-provider` runs it in a pod.
//! * What it answers is decided per request by a [`Script`]: from the control port's rules, from the request header
//!   `x-fake-script`, or from `[[fake {json}]]` in the last user message.
//! * What it received is kept as [`Record`]s and counters, read with [`Control`].
//! * [`make_certs`] makes a private CA and a server certificate for the vendors' names.
//!
//! It must stay apart from the gateway: no crate of the data path is used here, or both would share their mistakes.

mod accounts;
mod anthropic;
mod api;
mod body;
mod certs;
mod cli;
mod client;
mod config;
mod control;
mod gzip;
mod handle;
mod json;
mod models;
mod multipart;
mod openai;
mod records;
mod reply;
mod request;
mod rules;
mod script;
mod server;
mod shared;
mod sse;
mod text;

pub use api::{Count, Counts, KeySpec, ModelSpec, Record, RecordQuery, RecordsPage, Users, Vendor};
pub use certs::{CertError, CertFiles, make_certs};
pub use cli::{Cli, run};
pub use client::{Control, ControlError};
pub use config::{Config, TlsFiles};
pub use rules::{Match, Rule};
pub use script::{Cut, Script, Usage};
pub use server::{Running, StartError, start};
