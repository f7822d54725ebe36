//! A fault of a configuration, with the path of the member that is at fault.

use std::fmt;

/// Why a member was refused; becomes the reason of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The value breaks a rule of its own.
    Invalid,
    /// The value names something that does not exist.
    NotFound,
    /// The configuration as a whole is larger than what can be published.
    TooLarge,
    /// The member is not known.
    Unknown,
}

/// One fault: where, why, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Path of the member as the author of the input wrote it, such as `spec.config.providers[0].baseURL`.
    pub path: String,
    /// The class of the fault.
    pub reason: Reason,
    /// One sentence for the author, with the way out. Holds no key material.
    pub message: String,
}

impl Problem {
    /// A value that breaks a rule.
    pub fn invalid(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), reason: Reason::Invalid, message: message.into() }
    }

    /// A name that leads nowhere.
    pub fn not_found(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), reason: Reason::NotFound, message: message.into() }
    }

    /// A member that makes the whole larger than what can be published.
    pub fn too_large(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), reason: Reason::TooLarge, message: message.into() }
    }

    /// A member that is not part of the form.
    pub fn unknown(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), reason: Reason::Unknown, message: message.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() { f.write_str(&self.message) } else { write!(f, "{}: {}", self.path, self.message) }
    }
}
