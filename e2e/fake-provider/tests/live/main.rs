//! The fake provider over real loopback connections.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod scripts;
mod support;
mod vendors;
