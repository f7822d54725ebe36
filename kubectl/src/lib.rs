//! `kubectl bifrost`: what a gateway does, and what is asked of it, from the command line.
//!
//! A command is a file (or a folder): what it reads from the cluster and writes to it lies in its `run`, what it makes of that in
//! pure functions with tests. It uses the caller's kubeconfig and so the caller's rights, writes only what the caller could write
//! with kubectl, and never prints the value of a key.

mod analysis;
mod bench;
mod call;
mod change;
mod cli;
mod compat;
mod completion;
mod dialect;
mod failure;
mod history;
mod human;
mod import;
mod keys;
mod offline;
mod preflight;
mod redact;
mod report;
mod request;
pub mod run;
mod session;
mod standing;
mod status;
mod table;
#[cfg(test)]
mod testing;
mod undo;
mod wait;
