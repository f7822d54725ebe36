//! What is compared with what: the two arms, the strata inside which they are compared, and the groups of users.

use serde::{Deserialize, Serialize};

/// How many groups the users fall into. One user's requests fail together, so variance is counted over groups, not requests.
pub const GROUPS: usize = 64;

/// The two ways a request can take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Arm {
    /// Straight to the provider, as before the migration.
    Baseline,
    /// Through the full pipeline.
    Bifrost,
}

/// Requests that are alike enough to be compared between the arms.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Stratum {
    /// The provider's name.
    pub provider: String,
    /// The model's name as the caller asked for it.
    pub model: String,
    /// The kind of call, such as `chat_completion`.
    pub endpoint: String,
    /// Whether the answer is a stream.
    pub stream: bool,
}

impl Stratum {
    /// The stratum of everything beyond the bound on strata.
    pub fn other() -> Self {
        Self { provider: "other".into(), model: String::new(), endpoint: String::new(), stream: false }
    }
}

impl std::fmt::Display for Stratum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.provider)?;
        if !self.model.is_empty() {
            write!(f, "/{}", self.model)?;
        }
        if !self.endpoint.is_empty() {
            write!(f, " {}", self.endpoint)?;
        }
        if self.stream {
            f.write_str(" (stream)")?;
        }
        Ok(())
    }
}

/// The group of a user, from the 64-bit hash that also decides the arm. The arm is decided by the hash modulo 10,000, in which the
/// highest bits have next to no weight; the group is those bits, so it is independent of the arm. A request without a sticky key
/// is a user of its own: give a random number.
pub fn group(sticky_hash: u64) -> usize {
    // Six bits are left, so it fits.
    (sticky_hash >> 58) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_even_within_one_percent_of_the_users() {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut counts = [0u32; GROUPS];
        let mut users = 0;
        while users < 64_000 {
            let hash = rng.u64(..);
            if hash % 10_000 < 100 {
                counts[group(hash)] += 1;
                users += 1;
            }
        }
        assert!(counts.iter().all(|&n| (850..1_150).contains(&n)), "{counts:?}");
    }
}
