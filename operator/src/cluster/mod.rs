//! Helpers for the API server that know nothing of gateways: who owns an object, what a write has to send, and what an error
//! means.

pub mod changes;
pub mod fields;
pub mod object;
pub mod ownership;
pub mod reset;
pub mod writer;

pub use object::Object;
pub use ownership::{Ownership, ownership};
pub use writer::{Outcome, Writer};

/// Field manager of everything that is written but status.
pub const FIELD_MANAGER: &str = "bifrost-operator";
/// Field manager of status.
pub const STATUS_MANAGER: &str = "bifrost-operator-status";

/// Somebody else wrote in between, or the object is there already: read again.
pub fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}

/// The object would not be valid.
pub fn is_invalid(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 422)
}

/// There is no such object.
pub fn is_not_found(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

/// An error in few words, without anything that was sent: what is written may be a Secret.
pub fn brief(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if status.reason.is_empty() => format!("the API server answered {}", status.code),
        kube::Error::Api(status) => format!("the API server answered {} {}", status.code, status.reason),
        kube::Error::SerdeError(_) => "the API server's answer could not be read".to_owned(),
        _ => "the API server could not be reached".to_owned(),
    }
}
