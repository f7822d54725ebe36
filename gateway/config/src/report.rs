//! What a gateway pod reports about itself on its admin port at [`PATH`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Path of the report on the admin port; asks for `Authorization: Bearer <admin token>`.
pub const PATH: &str = "/state";
/// Path of what was counted for the analysis; same token.
pub const ANALYSIS_PATH: &str = "/analysis";
/// Path of what was counted for the comparison of a rollout's candidate with the stable revision, which stand where the other has
/// the bifrost and the baseline arm; same token.
pub const ROLLOUT_ANALYSIS_PATH: &str = "/analysis/rollout";
/// Path on the admin port that makes the pod read its ConfigMap and Secret anew; same token.
pub const REFRESH_PATH: &str = "/refresh";
/// The port of the preview.
pub const PREVIEW_PORT: u16 = 8081;
/// The port on which a candidate's own pods take what the stable pods forward to them; nobody else may reach it.
pub const FORWARD_PORT: u16 = 8082;
/// The admin port.
pub const ADMIN_PORT: u16 = 9090;

/// The state of one pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StateReport {
    /// UID of the BifrostGateway whose tables are loaded; empty before the first and when standalone.
    pub gateway_uid: String,
    /// Epoch of the traffic table in use.
    pub epoch: u64,
    /// Digest of the bytes of the members in use ([`crate::published::digest`]).
    pub digest: String,
    /// Generation of each key value in use.
    pub keys: BTreeMap<String, u64>,
    /// Why the newest published members are not in use, or what of them cannot be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Eligible requests answered since this table's percent was loaded.
    pub eligible: ArmCounts,
    /// The rollout's candidate in use ([`crate::published::Rollout::revision`]); none where there is none, where it cannot be used, or
    /// where its own pods were not reached from here yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub candidate: Option<String>,
    /// Version of the gateway.
    pub version: String,
    /// What became of copies; none where nothing is copied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shadow: Option<ShadowReport>,
}

/// Copies since the pod started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ShadowReport {
    /// Requests that were run on the other arm too.
    pub copied: u64,
    /// Of these, the ones that got no whole 2xx answer.
    pub failed: u64,
    /// Of the copies, the ones whose answer is of the same structure.
    pub agreed: u64,
    /// Requests that were chosen by chance and not copied, by reason.
    pub skipped: BTreeMap<String, u64>,
    /// Copies by the similarity of their text to the first answer's, in steps of 10 %.
    pub similarity: [u64; 10],
    /// The day (UTC) of what was spent, counted from the Unix epoch.
    pub day: u64,
    /// What the copies of that day cost, in micro-units of the currency.
    pub spent: u64,
}

impl ShadowReport {
    /// Adds another pod's. What was spent is that of the later day.
    pub fn merge(&mut self, other: &Self) {
        self.copied = self.copied.saturating_add(other.copied);
        self.failed = self.failed.saturating_add(other.failed);
        self.agreed = self.agreed.saturating_add(other.agreed);
        for (reason, count) in &other.skipped {
            let sum = self.skipped.entry(reason.clone()).or_default();
            *sum = sum.saturating_add(*count);
        }
        for (sum, count) in self.similarity.iter_mut().zip(other.similarity) {
            *sum = sum.saturating_add(count);
        }
        match other.day.cmp(&self.day) {
            std::cmp::Ordering::Less => {}
            std::cmp::Ordering::Equal => self.spent = self.spent.saturating_add(other.spent),
            std::cmp::Ordering::Greater => (self.day, self.spent) = (other.day, other.spent),
        }
    }

    /// The step of 10 % in which half of the copies are at most as similar; none without a copy that was compared.
    pub fn median_similarity(&self) -> Option<u8> {
        let total = self.similarity.iter().fold(0u64, |sum, count| sum.saturating_add(*count));
        let half = total.div_ceil(2);
        let mut sum = 0u64;
        let step = self.similarity.iter().position(|count| {
            sum = sum.saturating_add(*count);
            sum >= half
        })?;
        (total > 0).then_some(u8::try_from(step).ok()? * 10)
    }
}

/// Requests by arm.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ArmCounts {
    /// Passed straight to the provider.
    pub baseline: u64,
    /// Went through the pipeline.
    pub bifrost: u64,
}

impl StateReport {
    /// Whether this pod acts upon exactly this: the condition of `Programmed`.
    pub fn confirms(&self, gateway_uid: &str, epoch: u64, digest: &str, keys: &BTreeMap<String, u64>) -> bool {
        self.gateway_uid == gateway_uid && self.epoch == epoch && self.digest == digest && self.keys == *keys
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_pods_copied_adds_up_and_what_they_spent_is_of_one_day() {
        let one = ShadowReport {
            copied: 2,
            skipped: BTreeMap::from([("tools".into(), 1)]),
            similarity: [0, 0, 0, 0, 0, 0, 0, 0, 1, 1],
            day: 7,
            spent: 10,
            ..ShadowReport::default()
        };
        let mut sum = one.clone();
        sum.merge(&one);
        assert_eq!((sum.copied, sum.skipped["tools"], sum.spent, sum.median_similarity()), (4, 2, 20, Some(80)));
        sum.merge(&ShadowReport { day: 8, spent: 3, ..ShadowReport::default() });
        sum.merge(&one);
        assert_eq!((sum.day, sum.spent), (8, 3));
        assert_eq!(ShadowReport::default().median_similarity(), None);
    }
}
