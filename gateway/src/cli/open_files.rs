//! How many files the process may have open, and how many connections of applications that leaves room for.
//!
//! Many container runtimes hand down a soft limit of 1,024, which a few hundred requests at a time use up; the hard limit is a
//! thousand times that.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Most connections of one pod.
const MAX_CONNECTIONS: u64 = 20_000;
/// Files that are no application's: the admin port, the API server, copies on disk, log, runtimes.
const RESERVED: u64 = 400;
/// Files of one application's request: its connection and the provider's.
const PER_CONNECTION: u64 = 2;

/// The limit in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OpenFiles(u64);

/// Raises the soft limit to the hard one, as far as that is allowed.
pub(super) fn raise_limit() -> OpenFiles {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return OpenFiles(1024) };
    match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => OpenFiles(hard),
        Err(error) => {
            tracing::warn!(%error, soft, hard, "the limit of open files cannot be raised");
            OpenFiles(soft)
        }
    }
}

impl OpenFiles {
    /// How many connections of applications fit.
    pub(super) fn max_connections(self) -> usize {
        let fit = (self.0.saturating_sub(RESERVED) / PER_CONNECTION).clamp(64, MAX_CONNECTIONS);
        usize::try_from(fit).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_room_for_what_is_no_applications() {
        assert_eq!(OpenFiles(1024).max_connections(), 312);
        assert_eq!(OpenFiles(1 << 20).max_connections(), 20_000);
        assert_eq!(OpenFiles(10).max_connections(), 64);
    }

    #[test]
    fn the_limit_is_the_hard_one_afterwards() {
        let OpenFiles(limit) = raise_limit();
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap().0, limit);
    }
}
