//! The value of a provider key as its source Secret has it.

use bifrost_config::SecretValue;
use bifrost_crds::SecretKeyRef;
use k8s_openapi::api::core::v1::Secret;

use crate::events::Reason;

/// Longest value of a key, in bytes. No vendor's key comes near it, and all values of a gateway have to fit into one Secret.
const MAX_VALUE: usize = 8 << 10;

/// Why a Secret gives no value. The texts become part of conditions and events; none holds key material.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoValue {
    /// The Secret does not exist.
    #[error("Secret {0} does not exist")]
    Secret(String),
    /// It has no such member.
    #[error("Secret {secret} has no member {key}")]
    Member {
        /// Name of the Secret.
        secret: String,
        /// Name of the member.
        key: String,
    },
    /// The member cannot be a key.
    #[error("member {key} of Secret {secret} {fault}")]
    Unusable {
        /// Name of the Secret.
        secret: String,
        /// Name of the member.
        key: String,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// The API server did not give it.
    #[error("Secret {secret} cannot be read: {why}")]
    Unreadable {
        /// Name of the Secret.
        secret: String,
        /// The API server's words.
        why: String,
    },
}

impl NoValue {
    /// Reason of a condition.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Secret(_) => "SecretMissing",
            Self::Member { .. } => "MemberMissing",
            Self::Unusable { .. } => "ValueUnusable",
            Self::Unreadable { .. } => "SecretUnreadable",
        }
    }

    /// Reason of an event.
    pub const fn event(&self) -> Reason {
        match self {
            Self::Secret(_) | Self::Member { .. } => Reason::SecretMissing,
            Self::Unusable { .. } | Self::Unreadable { .. } => Reason::NotResolved,
        }
    }
}

/// The value that a reference names. `read` is the Secret as it was read, or why it could not be.
pub fn value(reference: &SecretKeyRef, read: &Result<Option<Secret>, String>) -> Result<SecretValue, NoValue> {
    let SecretKeyRef { name, key } = reference;
    let secret = match read {
        Err(why) => return Err(NoValue::Unreadable { secret: name.clone(), why: why.clone() }),
        Ok(None) => return Err(NoValue::Secret(name.clone())),
        Ok(Some(secret)) => secret,
    };
    let Some(bytes) = secret.data.as_ref().and_then(|data| data.get(key)) else {
        return Err(NoValue::Member { secret: name.clone(), key: key.clone() });
    };
    let unusable = |fault| NoValue::Unusable { secret: name.clone(), key: key.clone(), fault };
    if bytes.0.len() > MAX_VALUE {
        return Err(unusable(
            "is longer than 8 KiB, which no vendor's key is: name the member that holds the key alone",
        ));
    }
    let text = std::str::from_utf8(&bytes.0).map_err(|_| unusable("is no text"))?;
    let value = SecretValue::new(text);
    if value.is_empty() {
        return Err(unusable("is empty"));
    }
    if !value.is_header_safe() {
        return Err(unusable("has characters that no key has, such as a space or a line break in the middle"));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::ByteString;

    fn reference() -> SecretKeyRef {
        SecretKeyRef { name: "openai".into(), key: "api-key".into() }
    }

    fn secret(key: &str, value: &[u8]) -> Result<Option<Secret>, String> {
        let data = [(key.to_owned(), ByteString(value.to_vec()))].into();
        Ok(Some(Secret { data: Some(data), ..Secret::default() }))
    }

    #[test]
    fn a_value_is_taken_without_the_line_break_at_its_end() {
        assert_eq!(value(&reference(), &secret("api-key", b"sk-1\n")).unwrap().expose(), "sk-1");
    }

    #[test]
    fn every_way_to_have_no_value_is_told_apart() {
        let reason = |read| value(&reference(), &read).unwrap_err().reason();
        assert_eq!(reason(Ok(None)), "SecretMissing");
        assert_eq!(reason(secret("other", b"x")), "MemberMissing");
        assert_eq!(reason(secret("api-key", b" \n")), "ValueUnusable");
        assert_eq!(reason(secret("api-key", b"a b")), "ValueUnusable");
        assert_eq!(reason(secret("api-key", &[0xff])), "ValueUnusable");
        assert_eq!(reason(secret("api-key", &vec![b'k'; MAX_VALUE + 1])), "ValueUnusable");
        assert!(value(&reference(), &secret("api-key", &vec![b'k'; MAX_VALUE])).is_ok());
        assert_eq!(reason(Err("forbidden".into())), "SecretUnreadable");
    }

    #[test]
    fn no_message_holds_the_value() {
        let error = value(&reference(), &secret("api-key", b"sk-very secret")).unwrap_err();
        assert!(!error.to_string().contains("very"));
    }
}
