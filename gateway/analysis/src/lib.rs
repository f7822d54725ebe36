//! Is the new arm worse than the old? Pods count what happened to their requests into a [`Window`] for each arm; the operator
//! pulls the windows, merges them in a [`Ledger`] and asks [`verdict`].
//!
//! Everything here is pure: no clock, no I/O, no randomness. Times are arguments.

mod histogram;
mod sample;
mod stratum;
mod sums;
mod window;
mod wire;

pub use histogram::Histogram;
pub use sample::{Failure, Sample};
pub use stratum::{Arm, GROUPS, Stratum, group};
pub use sums::{GroupSums, Share, Sum, Usage};
pub use window::{ArmStats, MAX_STRATA, Slot, StratumStats, Window};
pub use wire::WindowReport;
