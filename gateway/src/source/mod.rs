//! Where configurations come from: a cluster's ConfigMap and Secret, the copies of them that a pod has at hand when the API
//! server is away, or a file.
//!
//! Every source makes [`crate::snapshot::Parts`] and offers them to the [`Store`], which alone decides whether they are taken
//! into use. What cannot be used changes nothing but the reported problem: the last good one serves on.

pub mod file;
mod inbox;
pub mod kubernetes;
mod saved;
mod store;
mod watch;

#[cfg(test)]
pub(crate) use store::tests::store_of as test_store;
pub use store::{Offered, Origin, Store};
