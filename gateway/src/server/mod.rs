//! The listener, the runtimes and their connections. What happens within a request is the [`crate::pipeline`]'s.

pub mod connection;
pub mod drain;
mod listener;
pub mod shard;

pub use listener::{ServeOptions, Serving, start};
pub use shard::{Shard, Shared};
