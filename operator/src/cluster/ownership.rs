//! Whose an object is. Nothing that is not the gateway's own is ever adopted, changed or deleted.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

/// Whose an object of a name that a gateway needs is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ownership {
    /// There is none.
    Absent,
    /// This gateway's.
    Ours,
    /// That of a deleted gateway of the same name: the garbage collector will take it.
    Earlier,
    /// Somebody else's.
    Foreign,
}

/// Whose the object is, seen from the gateway that `owner` refers to.
pub fn ownership(object: Option<&ObjectMeta>, owner: &OwnerReference) -> Ownership {
    let Some(meta) = object else { return Ownership::Absent };
    let references = meta.owner_references.as_deref().unwrap_or_default();
    match references.iter().find(|reference| reference.controller == Some(true)) {
        Some(controller) if controller.uid == owner.uid => Ownership::Ours,
        Some(controller) if same_name(controller, owner) => Ownership::Earlier,
        _ => Ownership::Foreign,
    }
}

fn same_name(one: &OwnerReference, other: &OwnerReference) -> bool {
    let group = |reference: &OwnerReference| reference.api_version.split('/').next().map(str::to_owned);
    one.kind == other.kind && one.name == other.name && group(one) == group(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(name: &str, uid: &str, controller: bool) -> OwnerReference {
        OwnerReference {
            api_version: "bifrost.dev/v1alpha1".into(),
            kind: "BifrostGateway".into(),
            name: name.into(),
            uid: uid.into(),
            controller: Some(controller),
            ..OwnerReference::default()
        }
    }

    fn object(references: Vec<OwnerReference>) -> ObjectMeta {
        ObjectMeta { owner_references: Some(references), ..ObjectMeta::default() }
    }

    #[test]
    fn only_the_controllers_uid_makes_an_object_ours() {
        let owner = reference("ai", "1", true);
        assert_eq!(ownership(None, &owner), Ownership::Absent);
        assert_eq!(ownership(Some(&object(vec![reference("ai", "1", true)])), &owner), Ownership::Ours);
        assert_eq!(ownership(Some(&object(vec![reference("ai", "0", true)])), &owner), Ownership::Earlier);
        assert_eq!(ownership(Some(&object(vec![reference("other", "2", true)])), &owner), Ownership::Foreign);
        assert_eq!(ownership(Some(&object(vec![reference("ai", "1", false)])), &owner), Ownership::Foreign);
        assert_eq!(ownership(Some(&object(vec![])), &owner), Ownership::Foreign);
    }
}
