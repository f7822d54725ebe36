//! Schemas of single fields, where the derived one would not say enough: texts with a form, and parts of the pod spec.
//!
//! Every text and every list has a limit: the API server multiplies them out to bound the cost of the rules.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use crate::MAX_NAME_LENGTH;

/// A DNS-1035 label, as the names of Services are.
pub(crate) const DNS_LABEL: &str = "^[a-z]([-a-z0-9]*[a-z0-9])?$";
/// Names of ConfigMaps and Secrets.
const OBJECT_NAME: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
/// Members of ConfigMaps and Secrets.
const DATA_KEY: &str = "^[-._a-zA-Z0-9]+$";
const DURATION: &str = "^([0-9]+(ms|s|m|h))+$";
const SIZE: &str = "^[0-9]+(Ki|Mi|Gi)?$";
const MONEY: &str = "^[0-9]{1,6}([.][0-9]{1,6})?$";
const QUANTITY: &str = r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$";

/// Limits that parts of the pod spec get where Kubernetes itself sets none.
const EMBEDDED_TEXT: u64 = 1024;
const EMBEDDED_ITEMS: u64 = 64;

/// Name of a provider.
pub(crate) fn provider_name(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "minLength": 1, "maxLength": MAX_NAME_LENGTH, "pattern": DNS_LABEL})
}

/// Name of a ConfigMap or Secret.
pub(crate) fn object_name(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "minLength": 1, "maxLength": 253, "pattern": OBJECT_NAME})
}

/// Name of a member of a ConfigMap or Secret.
pub(crate) fn data_key(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "minLength": 1, "maxLength": 253, "pattern": DATA_KEY})
}

/// A time limit of a provider.
pub(crate) fn timeout(_: &mut SchemaGenerator) -> Schema {
    duration("100ms", "24h")
}

/// How long open requests may go on at shutdown.
pub(crate) fn drain_timeout(_: &mut SchemaGenerator) -> Schema {
    duration("1s", "24h")
}

/// How long a pod serves on after it says that it is not ready.
pub(crate) fn readiness_delay(_: &mut SchemaGenerator) -> Schema {
    duration("0s", "10m")
}

/// How long a stage of a migration lasts at least.
pub(crate) fn hold(_: &mut SchemaGenerator) -> Schema {
    duration("0s", "672h")
}

/// The most that a check allows. With eight digits no duration is too long to be read by the rules.
pub(crate) fn check_max(_: &mut SchemaGenerator) -> Schema {
    let pattern = "^[0-9]{1,8}(ms|s|m|(\\.[0-9]{1,3})?%|\\.[0-9]{1,6})?$";
    json_schema!({"type": "string", "minLength": 1, "maxLength": 16, "pattern": pattern})
}

/// The least of a check, a share.
pub(crate) fn check_min(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "minLength": 2, "maxLength": 8})
}

/// How much more than the baseline a check allows.
pub(crate) fn check_increase(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "minLength": 2, "maxLength": 16, "pattern": "^[0-9]{1,4}(\\.[0-9]{1,3})?%$"})
}

/// How long after a rollback it is tried again.
pub(crate) fn cooldown(_: &mut SchemaGenerator) -> Schema {
    duration("10s", "672h")
}

/// Name of a phase.
pub(crate) fn phase_name(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "minLength": 1, "maxLength": 63, "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"})
}

/// Value of a request header.
pub(crate) fn header_value(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "minLength": 1, "maxLength": 256})
}

/// Paths that a rule names.
pub(crate) fn match_paths(_: &mut SchemaGenerator) -> Schema {
    texts("A path, or its beginning and a *.", "^/[^*?#]*\\*?$")
}

/// Models that a rule names.
pub(crate) fn match_models(_: &mut SchemaGenerator) -> Schema {
    texts("A model, or its beginning and a *.", "^[^*]*\\*?$")
}

/// Providers that a rule names.
pub(crate) fn match_providers(_: &mut SchemaGenerator) -> Schema {
    texts("Name of a provider.", DNS_LABEL)
}

/// Texts that a rule names.
pub(crate) fn match_texts(_: &mut SchemaGenerator) -> Schema {
    texts("A value, compared as a whole.", "^[^\\x00-\\x1f]+$")
}

fn texts(description: &str, pattern: &str) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 32,
        "x-kubernetes-list-type": "set",
        "items": {"description": description, "type": "string", "minLength": 1, "maxLength": 256, "pattern": pattern},
    })
}

/// A moment.
pub(crate) fn time(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "format": "date-time", "maxLength": 64})
}

/// What the pattern refuses is no matter for the rule, or its failure to read the text would be reported besides.
fn duration(least: &str, most: &str) -> Schema {
    json_schema!({
        "type": "string",
        "minLength": 2,
        "maxLength": 24,
        "pattern": DURATION,
        "x-kubernetes-validations": [{
            "rule": format!("!self.matches('{DURATION}') || (duration(self) >= duration('{least}') && duration(self) <= duration('{most}'))"),
            "message": format!("must lie between {least} and {most}"),
        }],
    })
}

/// Size of the largest request body.
pub(crate) fn body_size(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "minLength": 1,
        "maxLength": 16,
        "pattern": SIZE,
        "x-kubernetes-validations": [{
            "rule": format!("!self.matches('{SIZE}') || (quantity(self).compareTo(quantity('1Ki')) >= 0 && quantity(self).compareTo(quantity('1Gi')) <= 0)"),
            "message": "must lie between 1Ki and 1Gi",
        }],
    })
}

/// An amount of money.
pub(crate) fn money(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "minLength": 1,
        "maxLength": 16,
        "pattern": MONEY,
        "x-kubernetes-validations": [{
            "rule": format!("!self.matches('{MONEY}') || self.matches('[1-9]')"),
            "message": "must be above 0",
        }],
    })
}

/// Size of the largest body that is copied.
pub(crate) fn shadow_size(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "minLength": 1,
        "maxLength": 16,
        "pattern": SIZE,
        "x-kubernetes-validations": [{
            "rule": format!("!self.matches('{SIZE}') || (quantity(self).compareTo(quantity('1Ki')) >= 0 && quantity(self).compareTo(quantity('1Mi')) <= 0)"),
            "message": "must lie between 1Ki and 1Mi",
        }],
    })
}

/// How long a rollout may wait for its pods.
pub(crate) fn progress_deadline(_: &mut SchemaGenerator) -> Schema {
    duration("10s", "24h")
}

/// How often a metric is asked for.
pub(crate) fn metric_interval(_: &mut SchemaGenerator) -> Schema {
    duration("10s", "1h")
}

/// A number that a metric is compared with: a text, as numbers of an API are whole.
pub(crate) fn decimal(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "minLength": 1, "maxLength": 24, "pattern": "^-?[0-9]{1,12}(\\.[0-9]{1,9})?$"})
}

/// A provider's base URL.
pub(crate) fn base_url(_: &mut SchemaGenerator) -> Schema {
    url("must not hold a user name or password: the vendor's key belongs in a Secret that a ProviderKey names")
}

/// Where a metric is asked for.
pub(crate) fn metric_url(_: &mut SchemaGenerator) -> Schema {
    url("must not hold a user name or password: metrics are asked for without credentials")
}

/// One rule a fault, so that the message says which.
fn url(no_credentials: &str) -> Schema {
    json_schema!({
        "type": "string",
        "minLength": 1,
        "maxLength": 512,
        "x-kubernetes-validations": [
            {"rule": "self.matches('^https?://')", "message": "must begin with https:// or http://"},
            {
                "rule": "!self.matches('^[a-z]+://[^/?#]*@')",
                "message": no_credentials,
            },
            {
                "rule": "!self.contains('?') && !self.contains('#')",
                "message": "must end with the host, the port or a path: no query, no fragment",
            },
            {
                "rule": r"self.matches('^[a-z]+://([^/?#]*@)?([-A-Za-z0-9_.]+|\\[[0-9A-Fa-f:.]+\\])(:[0-9]{1,5})?([/?#]|$)') || !self.matches('^https?://')",
                "message": "must have a host name or address behind ://, and if needed a port",
            },
            {"rule": "self.matches('^[!-~]*$')", "message": "must not hold white space or characters that are not ASCII"},
        ],
    })
}

/// An image without tag and digest.
pub(crate) fn image_repository(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "minLength": 1,
        "maxLength": 255,
        "pattern": "^[a-zA-Z0-9]([-.a-zA-Z0-9]*[a-zA-Z0-9])?(:[0-9]{1,5})?(/[a-z0-9]+(([._]|__|-+)[a-z0-9]+)*)*$",
    })
}

/// A tag, with or without a digest.
pub(crate) fn image_tag(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "minLength": 1,
        "maxLength": 200,
        "pattern": "^[A-Za-z0-9_][-.A-Za-z0-9_]{0,127}(@sha256:[a-f0-9]{64})?$",
    })
}

/// Name of a request header.
pub(crate) fn header_name(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[-!#$%&'*+.^_`|~0-9A-Za-z]+$"})
}

/// A short free text.
pub(crate) fn salt(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "minLength": 1, "maxLength": 253})
}

/// Models a key serves.
pub(crate) fn models(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 128,
        "x-kubernetes-list-type": "set",
        "items": {
            "description": "Name of a model as the vendor spells it.",
            "type": "string",
            "minLength": 1,
            "maxLength": 256,
            "pattern": "^[!-~]+$",
        },
    })
}

/// Hosts a key may be sent to.
pub(crate) fn hosts(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 16,
        "x-kubernetes-list-type": "set",
        "items": {
            "description": "Host name or address, without scheme, port and path.",
            "type": "string",
            "minLength": 1,
            "maxLength": 253,
            "pattern": "^([a-z0-9_]([-a-z0-9_]*[a-z0-9_])?(\\.[a-z0-9_]([-a-z0-9_]*[a-z0-9_])?)*|[0-9a-f:]*:[0-9a-f:.]+)$",
        },
    })
}

/// Labels a user adds to an owned object.
pub(crate) fn extra_labels(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 32,
        "additionalProperties": {
            "description": "Value of the label.",
            "type": "string",
            "maxLength": 63,
            "pattern": "^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$",
        },
        "x-kubernetes-validations": [{
            "rule": "self.all(k, !k.startsWith('bifrost.dev/') && !(k in ['app.kubernetes.io/name', 'app.kubernetes.io/instance', 'app.kubernetes.io/component', 'app.kubernetes.io/managed-by']))",
            "message": "the labels app.kubernetes.io/name, instance, component and managed-by, and all below bifrost.dev/, are the operator's",
        }],
    })
}

/// Annotations a user adds to an owned object.
pub(crate) fn extra_annotations(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 32,
        "additionalProperties": {"description": "Value of the annotation.", "type": "string", "maxLength": 4096},
        "x-kubernetes-validations": [{
            "rule": "self.all(k, !k.startsWith('bifrost.dev/'))",
            "message": "annotations below bifrost.dev/ are the operator's",
        }],
    })
}

/// Labels that choose nodes.
pub(crate) fn node_selector(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 32,
        "additionalProperties": {"description": "Value the node's label must have.", "type": "string", "maxLength": 63},
    })
}

/// Requests and limits of the gateway's container, without the parts that need more than a container.
pub(crate) fn resources(generator: &mut SchemaGenerator) -> Schema {
    let mut amounts = generator.subschema_for::<BTreeMap<String, Quantity>>();
    amounts.insert("maxProperties".into(), json!(16));
    amounts.insert(
        "additionalProperties".into(),
        json!({
            "description": "A quantity, such as 500m (of a CPU) or 256Mi.",
            "x-kubernetes-int-or-string": true,
            "maxLength": 32,
            "pattern": QUANTITY,
        }),
    );
    let describe = |text: &str| {
        let mut schema = amounts.clone();
        schema.insert("description".into(), json!(text));
        schema
    };
    json_schema!({
        "type": "object",
        "properties": {
            "requests": describe("What the scheduler sets aside for a pod."),
            "limits": describe("What a pod may use at most. The gateway takes as many threads as the CPU limit says, and half the memory limit for the bodies it holds."),
        },
    })
}

/// One of several words. The field says what they mean: the derived schema would put the type's own description in its place.
pub(crate) fn words<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = generator.subschema_for::<T>();
    schema.remove("description");
    schema
}

/// A type of Kubernetes' own, with limits where it has none.
pub(crate) fn embedded<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = generator.subschema_for::<T>();
    if let Some(object) = schema.as_object_mut() {
        limit(object);
    }
    schema
}

/// Kubernetes' own label selector, replaced as a whole.
pub(crate) fn label_selector(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = embedded::<k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector>(generator);
    schema.insert("x-kubernetes-map-type".into(), json!("atomic"));
    // A selector that nobody can read would choose nothing, and so take every key away.
    if let Some(requirement) = schema.pointer_mut("/properties/matchExpressions/items") {
        one_of(requirement, "operator", &["In", "NotIn", "Exists", "DoesNotExist"]);
        requirement["x-kubernetes-validations"] = json!([
            {
                "rule": "!(self.operator in ['In', 'NotIn']) || (has(self.values) && size(self.values) > 0)",
                "message": "operators In and NotIn need at least one value: list some, or use Exists or DoesNotExist",
                "fieldPath": ".values",
            },
            {
                "rule": "!(self.operator in ['Exists', 'DoesNotExist']) || !has(self.values) || size(self.values) == 0",
                "message": "operators Exists and DoesNotExist take no values: take them out, or use In or NotIn",
                "fieldPath": ".values",
            },
        ]);
    }
    schema
}

/// Taints that pods put up with.
pub(crate) fn tolerations(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = embedded::<Vec<k8s_openapi::api::core::v1::Toleration>>(generator);
    if let Some(toleration) = schema.pointer_mut("/items") {
        // Empty means the same as absent, as Kubernetes has it.
        one_of(toleration, "operator", &["", "Equal", "Exists"]);
        one_of(toleration, "effect", &["", "NoSchedule", "PreferNoSchedule", "NoExecute"]);
    }
    schema
}

/// How pods are spread.
pub(crate) fn spread(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = embedded::<Vec<k8s_openapi::api::core::v1::TopologySpreadConstraint>>(generator);
    if let Some(constraint) = schema.pointer_mut("/items") {
        one_of(constraint, "whenUnsatisfiable", &["DoNotSchedule", "ScheduleAnyway"]);
    }
    schema
}

/// Lets a property have these words only.
fn one_of(object: &mut Value, property: &str, words: &[&str]) {
    if let Some(schema) = object.pointer_mut(&format!("/properties/{property}")) {
        schema["enum"] = json!(words);
    }
}

/// Conditions as all kinds of Kubernetes have them, merged by type.
pub(crate) fn conditions(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = embedded::<Vec<k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition>>(generator);
    schema.insert("maxItems".into(), json!(16));
    schema.insert("x-kubernetes-list-type".into(), json!("map"));
    schema.insert("x-kubernetes-list-map-keys".into(), json!(["type"]));
    if let Some(message) = schema.pointer_mut("/items/properties/message") {
        message["maxLength"] = json!(32_768);
    }
    schema
}

/// Adds limits to texts, lists and maps that have none, and a description to what is listed.
fn limit(schema: &mut Map<String, Value>) {
    match schema.get("type").and_then(Value::as_str) {
        Some("string") if !schema.contains_key("enum") => {
            schema.entry("maxLength").or_insert(json!(EMBEDDED_TEXT));
        }
        Some("array") => {
            schema.entry("maxItems").or_insert(json!(EMBEDDED_ITEMS));
        }
        Some("object") if schema.contains_key("additionalProperties") => {
            schema.entry("maxProperties").or_insert(json!(EMBEDDED_ITEMS));
        }
        _ => {}
    }
    for (name, child) in schema.iter_mut() {
        match (name.as_str(), child) {
            ("properties", Value::Object(properties)) => {
                properties.values_mut().filter_map(Value::as_object_mut).for_each(limit);
            }
            ("items" | "additionalProperties", Value::Object(child)) => {
                child.entry("description").or_insert(json!("One entry."));
                limit(child);
            }
            _ => {}
        }
    }
}
