//! Defaults that are written in two places say the same: in the schema or a description for people, in `bifrost_config` for pods.

use bifrost_config::units::{parse_duration, parse_size};
use bifrost_config::{AddressRule, Config, Draft, ProviderDraft, ProviderType, validate};
use bifrost_crds::{ClientSpec, MAX_NAME_LENGTH};

use crate::walk::nodes;

fn config_of_an_empty_spec() -> Config {
    let provider = ProviderDraft {
        path: "provider".into(),
        name: "openai".into(),
        provider_type: ProviderType::OpenAI,
        base_url: None,
        network: Default::default(),
    };
    validate(&Draft { providers: vec![provider], ..Draft::default() }, AddressRule::NoLocal).unwrap().0
}

#[test]
fn the_largest_body_is_the_same_by_default() {
    let text = ClientSpec::default().max_request_body;
    assert_eq!(parse_size(&text), Some(config_of_an_empty_spec().client.max_request_body));
}

#[test]
fn time_limits_are_described_with_the_defaults_in_force() {
    let network = &config_of_an_empty_spec().providers[0].network;
    let in_force = [
        ("connectTimeout", network.connect_timeout_ms),
        ("firstByteTimeout", network.first_byte_timeout_ms),
        ("requestTimeout", network.request_timeout_ms),
        ("streamIdleTimeout", network.stream_idle_timeout_ms),
    ];
    for (name, milliseconds) in in_force {
        let path = format!("spec.config.providers[].network.{name}");
        let node = nodes().into_iter().find(|node| node.path == path).expect("a time limit");
        let text = node.schema["description"].as_str().unwrap();
        let default = text.split("Absent: ").nth(1).and_then(|rest| rest.split(['.', ',']).next()).unwrap();
        assert_eq!(parse_duration(default).map(|d| d.as_millis()), Some(milliseconds.into()), "{text}");
    }
}

#[test]
fn types_of_providers_are_the_catalogue() {
    let node = nodes().into_iter().find(|node| node.path == "spec.config.providers[].type").expect("the type");
    let listed: Vec<_> = node.schema["enum"].as_array().unwrap().iter().filter_map(|word| word.as_str()).collect();
    assert_eq!(listed, ProviderType::ALL.map(ProviderType::as_str));
}

/// A Service's name has 63 characters.
#[test]
fn names_leave_room_for_what_is_added_to_them() {
    assert!(MAX_NAME_LENGTH + "-bifrost-env-direct".len() <= 253);
    assert!(MAX_NAME_LENGTH + "-bifrost-preview".len() <= 63);
    let rule = nodes().into_iter().find(|node| node.path.is_empty()).expect("the object").schema;
    let text = rule["x-kubernetes-validations"][0]["rule"].as_str().unwrap();
    assert!(text.contains(&format!("<= {MAX_NAME_LENGTH} ")), "{text}");
}
