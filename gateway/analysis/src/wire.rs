//! A window as JSON: sparse, since most groups of most strata are empty. Members that are unknown are ignored, so that pods and
//! operator of neighbouring versions understand each other. Reading is bounded and checks every number: a pod must not make the
//! operator allocate without limit, nor bring it a sum that is no number.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::histogram::{BUCKETS, Histogram};
use crate::sample::Failure;
use crate::stratum::{Arm, GROUPS, Stratum};
use crate::sums::{GroupSums, Share, Sum, Usage};
use crate::window::{ArmStats, MAX_STRATA, Window};

/// The longest name of an instance, provider, model or endpoint, in bytes.
const MAX_NAME: usize = 512;
/// No sum of logarithms is larger: 2^32 requests of 2^32 milliseconds are below it.
const MAX_SUM: f64 = 1e12;

/// What a pod answers when the operator pulls.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WindowReport {
    /// Random for each start of a process, so that counters which begin again are seen to.
    pub instance: String,
    /// The position's mark since which the window counts.
    pub epoch_mark: u64,
    /// The counts.
    pub window: Window,
}

#[derive(Deserialize)]
struct ReportIn {
    instance: Name,
    epoch_mark: u64,
    window: Window,
}

impl<'de> Deserialize<'de> for WindowReport {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let ReportIn { instance, epoch_mark, window } = ReportIn::deserialize(deserializer)?;
        Ok(Self { instance: instance.0, epoch_mark, window })
    }
}

/// A string of bounded length.
struct Name(String);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        if name.len() > MAX_NAME {
            return Err(D::Error::custom(format_args!("a name of {} bytes; at most {MAX_NAME} are read", name.len())));
        }
        Ok(Self(name))
    }
}

/// A list of at most `MAX` entries.
struct Bounded<T, const MAX: usize>(Vec<T>);

impl<T, const MAX: usize> Default for Bounded<T, MAX> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for Bounded<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List<T, const MAX: usize>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for List<T, MAX> {
            type Value = Bounded<T, MAX>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a list of at most {MAX} entries")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = seq.next_element()? {
                    if entries.len() == MAX {
                        return Err(A::Error::custom(format_args!("more than {MAX} entries")));
                    }
                    entries.push(entry);
                }
                Ok(Bounded(entries))
            }
        }
        deserializer.deserialize_seq(List(PhantomData))
    }
}

#[derive(Serialize)]
struct WindowOut<'a> {
    strata: Vec<StratumOut<'a>>,
}

#[derive(Serialize)]
struct StratumOut<'a> {
    #[serde(flatten)]
    stratum: &'a Stratum,
    #[serde(skip_serializing_if = "Option::is_none")]
    baseline: Option<ArmOut>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bifrost: Option<ArmOut>,
}

#[derive(Serialize)]
struct ArmOut {
    groups: Vec<GroupJson>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    latency: Vec<(usize, u32)>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    first_output: Vec<(usize, u32)>,
}

impl Serialize for Window {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let strata = self.strata().iter().map(|stats| StratumOut {
            stratum: &stats.stratum,
            baseline: stats.arm(Arm::Baseline).map(arm_out),
            bifrost: stats.arm(Arm::Bifrost).map(arm_out),
        });
        WindowOut { strata: strata.collect() }.serialize(serializer)
    }
}

fn arm_out(stats: &ArmStats) -> ArmOut {
    let groups = stats.groups.iter().enumerate().filter(|(_, sums)| !is_default(*sums));
    ArmOut {
        groups: groups.map(|(group, sums)| GroupJson::new(group, sums)).collect(),
        latency: stats.latency.filled().collect(),
        first_output: stats.first_output.filled().collect(),
    }
}

/// One group. Pairs are a number of values and their sum; failures are in the order of [`Failure::ALL`].
#[derive(Serialize, Deserialize)]
struct GroupJson {
    g: usize,
    requests: u32,
    #[serde(default, skip_serializing_if = "is_default")]
    failures: [u32; Failure::COUNT],
    #[serde(default, skip_serializing_if = "is_default")]
    latency: (u32, f64),
    #[serde(default, skip_serializing_if = "is_default")]
    first_output: (u32, f64),
    #[serde(default, skip_serializing_if = "is_default")]
    overhead: (u32, f64),
    #[serde(default, skip_serializing_if = "is_default")]
    usage: (u32, u64, u64),
    #[serde(default, skip_serializing_if = "is_default")]
    empty: (u32, u32),
    #[serde(default, skip_serializing_if = "is_default")]
    invalid_tool_call: (u32, u32),
    #[serde(default, skip_serializing_if = "is_default")]
    copies: (u32, u32),
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl GroupJson {
    fn new(g: usize, sums: &GroupSums) -> Self {
        Self {
            g,
            requests: sums.requests,
            failures: sums.failures,
            latency: (sums.latency.n, sums.latency.sum),
            first_output: (sums.first_output.n, sums.first_output.sum),
            overhead: (sums.overhead.n, sums.overhead.sum),
            usage: (sums.usage.n, sums.usage.input, sums.usage.output),
            empty: (sums.empty.n, sums.empty.bad),
            invalid_tool_call: (sums.invalid_tool_call.n, sums.invalid_tool_call.bad),
            copies: (sums.copies.n, sums.copies.bad),
        }
    }

    /// The sums, if they can have come from requests.
    fn checked(&self) -> Option<GroupSums> {
        let failed: u64 = self.failures.iter().map(|&n| u64::from(n)).sum();
        let succeeded = u64::from(self.requests).checked_sub(failed)?;
        let count = |n: u32| (u64::from(n) <= succeeded).then_some(n);
        let sum = |(n, sum): (u32, f64)| {
            let is_sound = sum.is_finite() && sum.abs() <= MAX_SUM && (n > 0 || sum == 0.0);
            is_sound.then_some(Sum { n: count(n)?, sum })
        };
        let share = |(n, bad): (u32, u32)| (bad <= n).then_some(Share { n: count(n)?, bad });
        let (n, input, output) = self.usage;
        (n > 0 || (input, output) == (0, 0)).then_some(())?;
        Some(GroupSums {
            requests: self.requests,
            failures: self.failures,
            latency: sum(self.latency)?,
            first_output: sum(self.first_output)?,
            overhead: sum(self.overhead)?,
            usage: Usage { n: count(n)?, input, output },
            empty: share(self.empty)?,
            invalid_tool_call: share(self.invalid_tool_call)?,
            copies: Some(self.copies).filter(|(n, bad)| bad <= n).map(|(n, bad)| Share { n, bad })?,
        })
    }
}

#[derive(Deserialize)]
struct WindowIn {
    strata: Bounded<StratumIn, { MAX_STRATA + 1 }>,
}

#[derive(Deserialize)]
struct StratumIn {
    provider: Name,
    model: Name,
    endpoint: Name,
    stream: bool,
    baseline: Option<ArmIn>,
    bifrost: Option<ArmIn>,
}

#[derive(Deserialize)]
struct ArmIn {
    groups: Bounded<GroupJson, GROUPS>,
    #[serde(default)]
    latency: Bounded<(usize, u32), BUCKETS>,
    #[serde(default)]
    first_output: Bounded<(usize, u32), BUCKETS>,
}

impl<'de> Deserialize<'de> for Window {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let WindowIn { strata: Bounded(strata) } = WindowIn::deserialize(deserializer)?;
        let mut window = Self::new();
        for StratumIn { provider, model, endpoint, stream, baseline, bifrost } in strata {
            let stratum = Stratum { provider: provider.0, model: model.0, endpoint: endpoint.0, stream };
            if window.strata().iter().any(|stats| stats.stratum == stratum) {
                return Err(D::Error::custom(format_args!("{stratum} is there twice")));
            }
            let stats = window.stratum_mut(&stratum);
            for (arm, read) in [(Arm::Baseline, baseline), (Arm::Bifrost, bifrost)] {
                if let Some(read) = read {
                    *stats.arm_mut(arm) = read.checked().map_err(D::Error::custom)?;
                }
            }
        }
        Ok(window)
    }
}

impl ArmIn {
    fn checked(self) -> Result<ArmStats, String> {
        let mut stats = ArmStats::default();
        for group in self.groups.0 {
            let sums = group.checked().ok_or_else(|| format!("group {} has impossible counts", group.g))?;
            match stats.groups.get_mut(group.g) {
                Some(place) if is_default(place) => *place = sums,
                Some(_) => return Err(format!("group {} is there twice", group.g)),
                None => return Err(format!("group {} does not exist", group.g)),
            }
        }
        fill(&mut stats.latency, self.latency.0)?;
        fill(&mut stats.first_output, self.first_output.0)?;
        Ok(stats)
    }
}

fn fill(histogram: &mut Histogram, buckets: Vec<(usize, u32)>) -> Result<(), String> {
    for (bucket, count) in buckets {
        if bucket >= BUCKETS {
            return Err(format!("bucket {bucket} does not exist"));
        }
        histogram.add(bucket, count);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<WindowReport, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    fn with_arm(arm: &str) -> String {
        format!(
            r#"{{"instance":"a","epoch_mark":1,"window":{{"strata":[{{"provider":"p","model":"m","endpoint":"e","stream":true,"bifrost":{arm}}}]}}}}"#
        )
    }

    #[test]
    fn unknown_members_are_ignored_and_absent_ones_are_empty() {
        let arm = r#"{"groups":[{"g":63,"requests":2,"colour":"red"}],"p99":7}"#;
        let report = read(&with_arm(arm)).unwrap();
        assert_eq!(report.window.requests(Arm::Bifrost), 2);
        assert_eq!(report.window.requests(Arm::Baseline), 0);
    }

    #[test]
    fn copies_are_read_where_there_are_no_requests() {
        let mut window = Window::new();
        window.record_copy(("p", "m", "e", false), 5, true);
        window.record_copy(("p", "m", "e", false), 5, false);
        let report = WindowReport { instance: "a".into(), epoch_mark: 1, window };
        assert_eq!(read(&serde_json::to_string(&report).unwrap()).unwrap(), report);
        assert_eq!((report.window.copies(), report.window.requests(Arm::Bifrost)), (2, 0));
    }

    #[test]
    fn impossible_counts_are_refused() {
        for (arm, complaint) in [
            (r#"{"groups":[{"g":64,"requests":1}]}"#, "group 64 does not exist"),
            (r#"{"groups":[{"g":1,"requests":1},{"g":1,"requests":1}]}"#, "group 1 is there twice"),
            (r#"{"groups":[{"g":1,"requests":1,"failures":[1,1,0,0,0,0,0]}]}"#, "impossible"),
            (r#"{"groups":[{"g":1,"requests":1,"latency":[2,3.0]}]}"#, "impossible"),
            (r#"{"groups":[{"g":1,"requests":1,"latency":[0,3.0]}]}"#, "impossible"),
            (r#"{"groups":[{"g":1,"requests":1,"latency":[1,1e300]}]}"#, "impossible"),
            (r#"{"groups":[{"g":1,"requests":1,"latency":[1,1e999]}]}"#, "number out of range"),
            (r#"{"groups":[{"g":1,"requests":1,"latency":[1,NaN]}]}"#, "expected"),
            (r#"{"groups":[{"g":1,"requests":1,"empty":[1,2]}]}"#, "impossible"),
            (r#"{"groups":[{"g":1,"requests":1,"usage":[0,2,0]}]}"#, "impossible"),
            (r#"{"groups":[{"g":1,"requests":0,"copies":[1,2]}]}"#, "impossible"),
            (r#"{"groups":[{"g":1,"requests":0,"copies":[1,0]},{"g":1,"requests":1}]}"#, "group 1 is there twice"),
            (r#"{"groups":[{"g":1,"requests":-1}]}"#, "invalid value"),
            (r#"{"groups":[],"latency":[[208,1]]}"#, "bucket 208 does not exist"),
        ] {
            let error = read(&with_arm(arm)).unwrap_err();
            assert!(error.contains(complaint), "{arm}: {error}");
        }
    }

    #[test]
    fn lists_and_names_are_bounded() {
        let groups = r#"{"g":1,"requests":0},"#.repeat(64) + r#"{"g":1,"requests":0}"#;
        assert!(read(&with_arm(&format!(r#"{{"groups":[{groups}]}}"#))).unwrap_err().contains("more than 64 entries"));
        let strata: Vec<String> =
            (0..34).map(|n| format!(r#"{{"provider":"p","model":"m{n}","endpoint":"e","stream":true}}"#)).collect();
        let text = format!(r#"{{"instance":"a","epoch_mark":1,"window":{{"strata":[{}]}}}}"#, strata.join(","));
        assert!(read(&text).unwrap_err().contains("more than 33 entries"));
        let text = format!(r#"{{"instance":"{}","epoch_mark":1,"window":{{"strata":[]}}}}"#, "x".repeat(513));
        assert!(read(&text).unwrap_err().contains("a name of 513 bytes"));
    }
}
