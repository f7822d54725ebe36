//! Is the new arm worse than the old? Pods count what happened to their requests into a [`Window`] for each arm; the operator
//! pulls the windows, merges them in a [`Ledger`] and asks [`verdict`].
//!
//! Everything here is pure: no clock, no I/O, no randomness. Times are arguments.

mod bound;
mod budget;
mod check;
mod contrast;
mod gross;
mod histogram;
mod ledger;
mod measure;
mod recent;
mod report;
mod sample;
mod stratum;
mod sums;
mod verdict;
mod window;
mod wire;

pub use budget::{Budget, Position};
pub use check::{Action, Check, CheckKind, Limit, Price, Prices};
pub use gross::{could_be_gross, may_be_gross};
pub use histogram::Histogram;
pub use ledger::{Ledger, Merged};
pub use recent::{ArmTally, PairTally, Tally, span};
pub use report::{Cause, CheckReport, GROSS_FAILURE, Report, Verdict};
pub use sample::{Failure, Sample};
pub use stratum::{Arm, GROUPS, Stratum, group};
pub use sums::{GroupSums, Share, Sum, Usage};
pub use verdict::{Inputs, Watch, verdict};
pub use window::{ArmStats, MAX_STRATA, Slot, StratumStats, Window};
pub use wire::WindowReport;
