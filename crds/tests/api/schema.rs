//! The conventions every field keeps.

use crate::walk::nodes;

#[test]
fn every_field_is_described() {
    for node in nodes() {
        let text = node.schema["description"].as_str().unwrap_or_default();
        assert!(!text.trim().is_empty(), "{} {} has no description", node.kind, node.path);
        assert!(!text.contains("[`"), "{} {}: {text:?} is written for rustdoc", node.kind, node.path);
    }
}

#[test]
fn every_text_list_and_map_is_limited() {
    for node in nodes() {
        let schema = &node.schema;
        let at = format!("{} {}", node.kind, node.path);
        if node.has_type("string") && schema["enum"].is_null() {
            assert!(schema["maxLength"].is_u64(), "{at} has no maxLength");
        }
        if node.has_type("array") {
            assert!(schema["maxItems"].is_u64(), "{at} has no maxItems");
        }
        if schema["additionalProperties"].is_object() {
            assert!(schema["maxProperties"].is_u64(), "{at} has no maxProperties");
        }
    }
}

#[test]
fn numbers_are_whole_and_of_formats_the_api_server_knows() {
    for node in nodes() {
        let at = format!("{} {}", node.kind, node.path);
        assert!(!node.has_type("number"), "{at} is a floating-point number");
        if node.has_type("integer") {
            assert!(node.schema["format"] == "int32" || node.schema["format"] == "int64", "{at}: {}", node.schema);
        }
        for limit in ["minimum", "maximum"] {
            assert!(node.schema[limit].is_null() || node.schema[limit].is_i64(), "{at}: {limit} is no whole number");
        }
    }
}

/// The API server drops an explicit null and then sets the default, but only where null is no value of its own.
#[test]
fn null_means_absent() {
    for node in nodes() {
        let schema = &node.schema;
        assert!(schema["nullable"].is_null(), "{} {} is nullable", node.kind, node.path);
        assert!(schema.get("default").is_none_or(|d| !d.is_null()), "{} {} defaults to null", node.kind, node.path);
    }
}

/// `kubectl apply` replaces lists as a whole: an entry that the API server completed would be a change at every apply.
#[test]
fn nothing_is_defaulted_inside_a_list() {
    for node in nodes().iter().filter(|node| node.path.contains("[]") && !node.path.starts_with("status")) {
        assert!(node.schema["default"].is_null(), "{} {} has a default", node.kind, node.path);
    }
}

#[test]
fn every_node_has_a_type_and_is_no_union() {
    for node in nodes() {
        let at = format!("{} {}", node.kind, node.path);
        let int_or_string = node.schema["x-kubernetes-int-or-string"] == true;
        assert!(node.schema["type"].is_string() || int_or_string, "{at} has no type");
        for union in ["anyOf", "oneOf", "allOf", "$ref"] {
            assert!(node.schema[union].is_null(), "{at} has {union}");
        }
        assert!(
            !node.is_leaf() || node.schema["x-kubernetes-preserve-unknown-fields"].is_null(),
            "{at} takes anything"
        );
    }
}

#[test]
fn every_rule_explains_itself() {
    for node in nodes() {
        for rule in node.schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
            let at = format!("{} {}: {}", node.kind, node.path, rule["rule"]);
            assert!(rule["message"].as_str().is_some_and(|text| text.len() > 10), "{at} has no message");
            if node.has_type("object") && node.schema["additionalProperties"].is_null() && !node.path.is_empty() {
                assert!(rule["fieldPath"].as_str().is_some_and(|path| path.starts_with('.')), "{at} has no fieldPath");
            }
        }
    }
}
