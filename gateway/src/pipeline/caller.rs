//! What is known of a request's caller apart from the body: its credential, and what names its user.

use bifrost_config::StickyKey;
use bifrost_config::published::TrafficTable;
use bifrost_wire::Peek;

use crate::http::{Head, key_in_query};

/// Header by which an application names a session.
pub const SESSION_HEADER: &str = "x-bf-session-id";
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
