//! What holds for both kinds at once: the manifests are current, their schemas keep the conventions, every rule has its cases,
//! and every example is made of fields that exist. The cases themselves are tried on a real API server by the end-to-end tests.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod cases;
mod defaults;
mod examples;
mod generated;
mod schema;
mod walk;
