//! Whether the installed resource definitions are those that this plugin knows.

use std::collections::BTreeSet;

use bifrost_crds::VERSION;
use serde_json::Value;

/// Fields that one definition has and the other lacks.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Difference {
    /// Fields that are not installed.
    pub(super) missing: Vec<String>,
    /// Installed fields that this plugin does not know.
    pub(super) unknown: Vec<String>,
}

/// Compares the fields of two definitions. None: the version is not served.
pub(super) fn compare(installed: &Value, known: &Value) -> Option<Difference> {
    let (installed, known) = (fields(installed)?, fields(known)?);
    Some(Difference {
        missing: known.difference(&installed).cloned().collect(),
        unknown: installed.difference(&known).cloned().collect(),
    })
}

fn fields(definition: &Value) -> Option<BTreeSet<String>> {
    let versions = definition.pointer("/spec/versions")?.as_array()?;
    let served = versions.iter().find(|version| version["name"] == VERSION && version["served"] == true)?;
    let mut found = BTreeSet::new();
    walk(served.pointer("/schema/openAPIV3Schema")?, "", &mut found);
    Some(found)
}

fn walk(schema: &Value, path: &str, found: &mut BTreeSet<String>) {
    for (name, below) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        walk(below, &path, found);
        found.insert(path);
    }
    if let Some(items) = schema.get("items") {
        walk(items, &format!("{path}[]"), found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plugins_own_definitions_are_the_same_as_themselves_and_a_lost_field_is_found() {
        let known = bifrost_crds::publish::manifests().unwrap();
        let known = &known[0].object;
        assert_eq!(compare(known, known), Some(Difference::default()));
        let mut older = known.clone();
        let spec = older
            .pointer_mut("/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/migration/properties");
        spec.unwrap().as_object_mut().unwrap().remove("allowArmHeader");
        let missing = vec!["spec.migration.allowArmHeader".to_owned()];
        assert_eq!(compare(&older, known), Some(Difference { missing: missing.clone(), unknown: vec![] }));
        assert_eq!(compare(known, &older), Some(Difference { missing: vec![], unknown: missing }));
    }
}
