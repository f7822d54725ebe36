//! What is known of a request's caller apart from the body: its credential, what names its user, and the arm it asks for.

use bifrost_config::StickyKey;
use bifrost_config::published::TrafficTable;
use bifrost_wire::Peek;
use http::HeaderName;

use super::Arm;
use crate::front::error::{Fault, GatewayError};
use crate::http::{Head, key_in_query};

/// Header by which an application names a session.
pub const SESSION_HEADER: &str = "x-bf-session-id";
/// Header by which an application may ask for an arm, and is told the one that served it.
pub const ARM_HEADER: HeaderName = HeaderName::from_static("x-bf-arm");
/// Prefix of the credentials that this gateway issues itself.
const VIRTUAL_KEY_PREFIX: &str = "sk-bf-";

/// What is known of the caller apart from the body.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'h> {
    /// Its headers, as they came.
    pub head: &'h Head,
    /// Its own credential.
    pub credential: Option<&'h str>,
    /// The value of the header that the stickiness looks at.
    sticky_header: Option<&'h [u8]>,
}

impl<'h> Caller<'h> {
    /// Reads the caller's headers and query.
    pub fn of(head: &'h Head, query: Option<&'h str>, table: &TrafficTable) -> Self {
        let header = match &table.sticky_key {
            StickyKey::Auto => Some(SESSION_HEADER),
            StickyKey::Header { name } => Some(name.as_str()),
            _ => None,
        };
        Self {
            head,
            credential: credential(head, query),
            sticky_header: header.and_then(|name| head.get(name)).filter(|value| !value.is_empty()),
        }
    }

    /// What holds this request's user on an arm.
    pub fn sticky_key<'a>(&self, peek: Option<&'a Peek<'_>>, table: &TrafficTable) -> Option<&'a [u8]>
    where
        'h: 'a,
    {
        let user = || peek.and_then(Peek::end_user).map(str::as_bytes);
        match table.sticky_key {
            StickyKey::Auto => self.sticky_header.or_else(user),
            StickyKey::Header { .. } => self.sticky_header,
            StickyKey::Body => user(),
            StickyKey::Credential => self.credential.map(str::as_bytes),
            StickyKey::None => None,
        }
    }
}

/// The arm that a request asks for by its header, if it does.
pub fn wanted_arm(head: &Head) -> Result<Option<Arm>, GatewayError> {
    let mut wanted = None;
    for line in head.lines(&ARM_HEADER) {
        let arm = arm_of(line).ok_or_else(no_arm)?;
        // Two lines that disagree name no arm.
        if wanted.replace(arm).is_some_and(|before| before != arm) {
            return Err(no_arm());
        }
    }
    Ok(wanted)
}

fn arm_of(text: &[u8]) -> Option<Arm> {
    let text = text.trim_ascii();
    [Arm::Bifrost, Arm::Baseline].into_iter().find(|arm| text.eq_ignore_ascii_case(arm.as_str().as_bytes()))
}

fn no_arm() -> GatewayError {
    let message = format!(
        "the header {ARM_HEADER} names no arm: it may say {} or {}, or be left out",
        Arm::Bifrost.as_str(),
        Arm::Baseline.as_str()
    );
    GatewayError::new(Fault::InvalidArm, message)
}

/// The caller's credential. One of this gateway's among several counts first: it must not leave for a vendor.
fn credential<'h>(head: &'h Head, query: Option<&'h str>) -> Option<&'h str> {
    let mut all = head.credentials().chain(query.and_then(key_in_query));
    let first = all.next()?;
    Some(if is_virtual(first) { first } else { all.find(|credential| is_virtual(credential)).unwrap_or(first) })
}

/// Whether a credential is one that this gateway issues itself.
pub fn is_virtual(credential: &str) -> bool {
    credential.get(..VIRTUAL_KEY_PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(VIRTUAL_KEY_PREFIX))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::HeaderMap;

    use super::*;

    fn wanted(lines: &[&'static str]) -> Result<Option<Arm>, Fault> {
        let mut map = HeaderMap::new();
        for line in lines {
            map.append(ARM_HEADER, HeaderValue::from_static(line));
        }
        wanted_arm(&Head::new(map)).map_err(|error| {
            let named = ["x-bf-arm", "bifrost", "baseline"].into_iter().all(|word| error.message.contains(word));
            assert!(named, "{}", error.message);
            error.fault
        })
    }

    #[test]
    fn an_arm_is_asked_for_in_any_case_and_anything_else_is_refused() {
        assert_eq!(wanted(&[]), Ok(None));
        assert_eq!(wanted(&["bifrost"]), Ok(Some(Arm::Bifrost)));
        assert_eq!(wanted(&["  BaseLine\t"]), Ok(Some(Arm::Baseline)));
        assert_eq!(wanted(&["bifrost", "Bifrost"]), Ok(Some(Arm::Bifrost)));
        for lines in [&[""][..], &["both"], &["bifrost, baseline"], &["bifrost", "baseline"], &["none"]] {
            assert_eq!(wanted(lines), Err(Fault::InvalidArm), "{lines:?}");
        }
    }
}
