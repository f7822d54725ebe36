//! The manifests in the repository are the ones the types make.

use std::path::Path;

use bifrost_crds::publish::{FOLDERS, manifests};

#[test]
fn manifests_are_current() {
    for manifest in manifests().unwrap() {
        for folder in FOLDERS {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).join(manifest.file_name);
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(text == manifest.to_yaml().unwrap(), "{} is stale: run `make crds`", path.display());
        }
    }
}

#[test]
fn manifests_are_small_enough_for_kubectl_apply() {
    for manifest in manifests().unwrap() {
        let size = manifest.to_yaml().unwrap().len();
        assert!(size < 200 << 10, "{} has {size} bytes", manifest.file_name);
    }
}

#[test]
fn kinds_are_served_as_documented() {
    let names: Vec<_> = manifests().unwrap().into_iter().map(|m| m.object["spec"]["names"].clone()).collect();
    assert_eq!(names[0]["shortNames"], serde_json::json!(["bgw"]));
    assert_eq!(names[1]["shortNames"], serde_json::json!(["pk"]));
    for (manifest, names) in manifests().unwrap().iter().zip(&names) {
        assert_eq!(names["categories"], serde_json::json!(["bifrost"]));
        assert_eq!(manifest.object["spec"]["scope"], "Namespaced");
        assert_eq!(manifest.object["spec"]["group"], bifrost_crds::GROUP);
        assert_eq!(manifest.object["spec"]["versions"][0]["name"], bifrost_crds::VERSION);
        assert!(manifest.object["spec"]["versions"][0]["subresources"]["status"].is_object());
    }
    let scale = manifests().unwrap()[0].object["spec"]["versions"][0]["subresources"]["scale"].clone();
    let paths = serde_json::json!({
        "specReplicasPath": ".spec.replicas",
        "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.selector",
    });
    assert_eq!(scale, paths);
}
