//! `spec.providerKeySelector`, read once. What cannot be read must never look like a selector that chooses nothing: that would take
//! every key away.

use bifrost_config::Problem;
use bifrost_crds::BifrostGateway;
use kube::core::Selector;

/// The selector of a gateway.
pub fn selector(gateway: &BifrostGateway) -> Result<Selector, Problem> {
    let spec = &gateway.spec.provider_key_selector;
    let requirements = spec.match_expressions.iter().flatten().enumerate();
    for (index, requirement) in requirements {
        let path = format!("spec.providerKeySelector.matchExpressions[{index}]");
        let values = requirement.values.as_deref().unwrap_or_default();
        match (requirement.operator.as_str(), values.is_empty()) {
            ("In" | "NotIn", false) | ("Exists" | "DoesNotExist", true) => {}
            (operator @ ("In" | "NotIn"), true) => {
                return Err(Problem::invalid(path, format!("operator {operator} needs values: list at least one")));
            }
            (operator @ ("Exists" | "DoesNotExist"), false) => {
                return Err(Problem::invalid(path, format!("operator {operator} takes no values: take them out")));
            }
            (operator, _) => {
                let message = format!("operator {operator:?} is not In, NotIn, Exists or DoesNotExist");
                return Err(Problem::invalid(path, message));
            }
        }
    }
    Selector::try_from(spec.clone()).map_err(|error| Problem::invalid("spec.providerKeySelector", error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::tests::gateway;

    fn fault(operator: &str, values: &[&str]) -> Option<String> {
        let mut gateway = gateway();
        let requirement = serde_json::json!({"key": "team", "operator": operator, "values": values});
        let selector_spec = serde_json::json!({"matchExpressions": [requirement]});
        gateway.spec.provider_key_selector = serde_json::from_value(selector_spec).unwrap();
        selector(&gateway).err().map(|problem| problem.to_string())
    }

    #[test]
    fn what_kubernetes_takes_can_be_read() {
        assert_eq!(selector(&gateway()).err(), None, "an absent selector chooses all");
        for (operator, values) in [("In", &["a"][..]), ("NotIn", &["a"]), ("Exists", &[]), ("DoesNotExist", &[])] {
            assert_eq!(fault(operator, values), None, "{operator}");
        }
    }

    #[test]
    fn what_cannot_be_read_names_the_requirement() {
        for (operator, values) in [("Is", &["a"][..]), ("In", &[]), ("NotIn", &[]), ("Exists", &["a"])] {
            let fault = fault(operator, values).unwrap();
            assert!(fault.starts_with("spec.providerKeySelector.matchExpressions[0]: "), "{fault}");
        }
    }
}
