//! Which revision of the gateway serves a request while a rollout tries a candidate. Pure: the same inputs give the same answer in
//! every pod.

use bifrost_config::published::Rollout;
use bifrost_wire::{Peek, bucket_of, cohort_hash, takes_bifrost};

use super::record::MODEL_KEPT;
use crate::server::Door;

/// What a rollout says of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Given {
    /// Whether the candidate serves it.
    pub candidate: bool,
    /// Hash of what holds its user on a revision; without such a thing a random number.
    pub hash: u64,
}

/// What the comparison of the revisions is to know of a request that was given to one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Noted {
    /// Which one.
    pub given: Given,
    /// The model as the client named it, or the start of a long name.
    pub model: Box<str>,
    /// Whether it asks for a stream.
    pub stream: bool,
    /// Whether the candidate's pods did not take it.
    pub failed: bool,
}

impl Noted {
    /// Of a request with this in its body.
    pub fn of(given: Given, peek: Option<&Peek<'_>>) -> Self {
        let model = peek.and_then(Peek::model).unwrap_or_default();
        let model = model[..model.floor_char_boundary(MODEL_KEPT)].into();
        Self { given, model, stream: peek.is_some_and(Peek::is_stream), failed: false }
    }
}

/// Gives a request to a revision, before arm and provider are chosen; none where the rollout has no say, and the stable one serves.
/// `user` is what holds its user, by the table's sticky key; `chance` is a random number for requests that nothing holds, another one
/// than that of the arm.
pub fn give(rollout: &Rollout, door: Door, user: Option<&[u8]>, chance: u64) -> Option<Given> {
    // The salt is the rollout's own, so that its users are not those of the migration's steps.
    let hash = user.map_or(chance, |user| cohort_hash(&rollout.salt, user));
    let candidate = match door {
        Door::Main => takes_bifrost(bucket_of(hash), rollout.percent),
        Door::Preview if rollout.preview => true,
        Door::Preview | Door::Forwarded => return None,
    };
    Some(Given { candidate, hash })
}

#[cfg(test)]
mod tests {
    use bifrost_wire::bucket;

    use super::*;

    fn rollout(percent: u8) -> Rollout {
        Rollout {
            revision: "3f9c2d1e0a".into(),
            config: None,
            percent,
            since: 1,
            salt: "llm/ai/3f9c2d1e0a".into(),
            forward: None,
            preview: false,
        }
    }

    fn takes(percent: u8, user: &str) -> bool {
        give(&rollout(percent), Door::Main, Some(user.as_bytes()), 0).unwrap().candidate
    }

    fn users() -> impl Iterator<Item = String> {
        (0..20_000).map(|number| format!("user-{number}"))
    }

    #[test]
    fn the_same_users_are_the_candidates_in_every_version() {
        // Part of the contract between pods, as the migration's buckets are: these must never change.
        let at_20: Vec<_> = (0..40).filter(|number| takes(20, &format!("user-{number}"))).collect();
        assert_eq!(at_20, GOLDEN);
        let hash = give(&rollout(20), Door::Main, Some(b"user-1"), 7).unwrap().hash;
        assert_eq!(bucket_of(hash), bucket("llm/ai/3f9c2d1e0a", "user-1"));
    }

    const GOLDEN: [u32; 4] = [17, 18, 28, 36];

    #[test]
    fn nobody_at_0_everybody_at_100_and_a_higher_share_only_adds() {
        assert!(users().all(|user| !takes(0, &user) && takes(100, &user)));
        for percents in [1, 5, 10, 25, 50, 75, 99, 100].windows(2) {
            assert!(users().all(|user| !takes(percents[0], &user) || takes(percents[1], &user)), "{percents:?}");
        }
        let share = users().filter(|user| takes(10, user)).count();
        assert!((1_850..2_150).contains(&share), "{share}");
    }

    #[test]
    fn the_candidates_users_are_on_both_sides_of_the_migration_alike() {
        let is_migrated = |user: &String| takes_bifrost(bucket("llm/ai", user), 10);
        let both = users().filter(|user| takes(10, user) && is_migrated(user)).count();
        // A hundredth of them; all or none if the two shared their buckets.
        assert!((140..260).contains(&both), "{both}");
    }

    #[test]
    fn without_a_user_the_chance_decides() {
        let by_chance = |chance| give(&rollout(10), Door::Main, None, chance).unwrap();
        assert_eq!([999, 1_000].map(|chance| by_chance(chance).candidate), [true, false]);
        assert_eq!(by_chance(1_000).hash, 1_000);
    }

    #[test]
    fn the_previews_port_serves_the_candidate_where_the_rollout_says_so() {
        let shown = Rollout { preview: true, ..rollout(0) };
        assert!(give(&shown, Door::Preview, None, 9_999).unwrap().candidate);
        assert!(!give(&shown, Door::Main, None, 0).unwrap().candidate);
        assert_eq!(give(&rollout(100), Door::Preview, None, 0), None);
        assert_eq!(give(&shown, Door::Forwarded, None, 0), None);
    }
}
