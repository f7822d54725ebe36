//! Keys of the labels and annotations that a spec adds to owned objects. The schema knows their values; keys of maps have no pattern
//! there, and the API server would refuse the whole object for one of them.

use std::collections::BTreeMap;

use bifrost_config::Problem;
use bifrost_crds::BifrostGatewaySpec;

/// Every key that no label or annotation can have.
pub fn check(spec: &BifrostGatewaySpec) -> Vec<Problem> {
    let maps = [
        ("spec.service.labels", &spec.service.labels),
        ("spec.service.annotations", &spec.service.annotations),
        ("spec.pod.labels", &spec.pod.labels),
        ("spec.pod.annotations", &spec.pod.annotations),
        ("spec.pod.nodeSelector", &spec.pod.node_selector),
        ("spec.pod.serviceAccountAnnotations", &spec.pod.service_account_annotations),
    ];
    maps.into_iter().flat_map(|(path, map)| bad_keys(path, map)).collect()
}

fn bad_keys(path: &str, map: &BTreeMap<String, String>) -> Vec<Problem> {
    // Kubernetes takes capitals in the domain of an annotation, not in that of a label.
    let is_annotation = path.to_ascii_lowercase().ends_with("annotations");
    let is_key =
        |key: &str| if is_annotation { is_qualified_name(&key.to_lowercase()) } else { is_qualified_name(key) };
    let bad = map.keys().filter(|key| !is_key(key));
    let message = |key: &String| {
        format!(
            "{key:?} is no key: letters, digits, '-', '_' and '.', at most 63, if needed behind a domain and '/', such as example.com/team"
        )
    };
    bad.map(|key| Problem::invalid(path, message(key))).collect()
}

/// As Kubernetes defines it: `[domain/]name`.
fn is_qualified_name(key: &str) -> bool {
    let (domain, name) = match key.split_once('/') {
        Some((domain, name)) => (Some(domain), name),
        None => (None, key),
    };
    // Kubernetes bounds the domain as a whole, not its parts.
    let label = |label: &str| bounded(label, 253, |byte| byte.is_ascii_lowercase() || byte.is_ascii_digit(), b"-");
    let name_is = bounded(name, 63, |byte| byte.is_ascii_alphanumeric(), b"-_.");
    name_is && domain.is_none_or(|domain| domain.len() <= 253 && domain.split('.').all(label))
}

/// Not empty, at most `most` long, of `ends` throughout and of `between` inside.
fn bounded(text: &str, most: usize, ends: impl Fn(u8) -> bool, between: &[u8]) -> bool {
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    bytes.len() <= most && ends(*first) && ends(*last) && bytes.iter().all(|byte| ends(*byte) || between.contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::tests::gateway;

    #[test]
    fn keys_are_qualified_names() {
        let long = format!("{}.example/a", "d".repeat(64));
        for good in ["team", "Team_1.a", "example.com/team", "app.kubernetes.io/part-of", &long] {
            assert!(is_qualified_name(good), "{good}");
        }
        let longer = format!("{}/a", "d".repeat(254));
        for bad in ["", "a b", "-a", "a-", "/a", "example.com/", "Example.com/a", "a/b/c", &"a".repeat(64), &longer] {
            assert!(!is_qualified_name(bad), "{bad}");
        }
    }

    #[test]
    fn the_member_is_named() {
        let mut gateway = gateway();
        gateway.spec.pod.labels.insert("a b".into(), "x".into());
        gateway.spec.pod.annotations.insert("Example.com/a".into(), "x".into());
        let problems = check(&gateway.spec);
        assert!(problems[0].to_string().starts_with("spec.pod.labels: \"a b\" is no key"), "{problems:?}");
        assert_eq!(problems.len(), 1);
    }
}
