//! The cohort decision's hash: which users take the bifrost arm.
//!
//! `bucket = xxh3_64(frame) mod 10_000`, seed 0, where `frame` is the salt's length in bytes as four bytes little-endian, then
//! the salt in UTF-8, then the sticky key's bytes as they came. The length keeps salt and key apart: ("ab", "c") and ("a", "bc") are
//! different frames. The result is part of the API: the same user is on the same side in every pod, after every restart and in
//! every version. `golden/buckets.tsv` holds examples that must never change.

use xxhash_rust::xxh3::xxh3_64;

/// How many buckets there are; a hundred to a percent.
pub const BUCKETS: u16 = 10_000;

/// Frames up to this size are put together on the stack.
const ON_STACK: usize = 512;

/// The bucket of a sticky key, below [`BUCKETS`].
pub fn bucket(salt: &str, sticky_key: impl AsRef<[u8]>) -> u16 {
    bucket_of(cohort_hash(salt, sticky_key))
}

/// The bucket of a hash, or of the random number that stands for one where nothing holds a request on an arm.
pub fn bucket_of(hash: u64) -> u16 {
    // Below 10,000, so it fits.
    (hash % u64::from(BUCKETS)) as u16
}

/// The hash of a sticky key, of which the bucket is made.
pub fn cohort_hash(salt: &str, sticky_key: impl AsRef<[u8]>) -> u64 {
    let salt_length = u32::try_from(salt.len()).unwrap_or(u32::MAX).to_le_bytes();
    let parts = [&salt_length[..], salt.as_bytes(), sticky_key.as_ref()];
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut stack = [0u8; ON_STACK];
    match stack.get_mut(..length) {
        Some(frame) => {
            let mut rest = &mut frame[..];
            for part in parts {
                let (here, after) = rest.split_at_mut(part.len());
                here.copy_from_slice(part);
                rest = after;
            }
            xxh3_64(frame)
        }
        None => xxh3_64(&parts.concat()),
    }
}

/// Whether a bucket is in the cohort at this percentage. Raising the percentage only ever adds buckets.
pub fn takes_bifrost(bucket: u16, percent: u8) -> bool {
    u32::from(bucket) < u32::from(percent) * 100
}
