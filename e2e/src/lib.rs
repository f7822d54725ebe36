//! The local cluster and the end-to-end scenarios: everything behind the program `bifrost-local`.

pub mod cli;
pub mod clients;
pub mod cluster;
pub mod commands;
pub mod components;
pub mod deploy;
pub mod files;
pub mod forward;
pub mod images;
pub mod kubernetes;
pub mod paths;
pub mod progress;
pub mod run;
pub mod scenarios;
pub mod target;
pub mod wait;
