//! The listeners, the runtimes and their connections. What happens within a request is the [`crate::pipeline`]'s.

pub mod connection;
mod door;
pub mod drain;
mod listener;
pub mod shard;

pub use door::Door;
pub use listener::{ServeOptions, Serving, StartError, start};
pub use shard::{Shard, Shared};
