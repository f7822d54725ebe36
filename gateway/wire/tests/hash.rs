//! The cohort hash: examples that never change, and what the split promises.

use bifrost_wire::hash::{BUCKETS, bucket, takes_bifrost};
use proptest::prelude::*;

#[test]
fn buckets_are_those_of_the_golden_file() {
    let mut lines = 0;
    for line in include_str!("../golden/buckets.tsv").lines().filter(|line| !line.starts_with('#')) {
        let [salt, key, expected] = line.split('\t').collect::<Vec<_>>().try_into().expect(line);
        let key = match key.split_once('*') {
            Some((text, times)) => text.repeat(times.parse().expect(line)),
            None => key.to_owned(),
        };
        assert_eq!(bucket(salt, &key).to_string(), expected, "{line}");
        lines += 1;
    }
    assert_eq!(lines, 21);
}

#[test]
fn ten_percent_of_ten_thousand_users_are_within_a_point() {
    for salt in ["llm/ai", "default/gateway", "a/b"] {
        let users = (0..10_000).filter(|user| takes_bifrost(bucket(salt, format!("user-{user}")), 10)).count();
        assert!((900..=1_100).contains(&users), "{users} of 10,000 with salt {salt}");
    }
}

#[test]
fn none_at_zero_and_all_at_a_hundred() {
    for bucket in 0..BUCKETS {
        assert!(!takes_bifrost(bucket, 0));
        assert!(takes_bifrost(bucket, 100));
    }
}

proptest! {
    #[test]
    fn buckets_are_below_their_number(salt: String, key: String) {
        prop_assert!(bucket(&salt, &key) < BUCKETS);
    }

    #[test]
    fn a_higher_percentage_only_adds_users(salt: String, key: String, low in 0u8..=100, high in 0u8..=100) {
        let (low, high) = (low.min(high), low.max(high));
        let bucket = bucket(&salt, &key);
        prop_assert!(!takes_bifrost(bucket, low) || takes_bifrost(bucket, high));
    }

    #[test]
    fn salt_and_key_are_kept_apart(text in "[a-z]{12}", first in 1usize..6, second in 6usize..12) {
        // Different cuts of one text are different frames; a chance collision of 1 in 10,000 is possible, ten are not.
        let cut = |at: usize, index: u32| bucket(&format!("{index}{}", &text[..at]), &text[at..]);
        let same = (0..10).filter(|&index| cut(first, index) == cut(second, index)).count();
        prop_assert!(same < 10);
    }
}
