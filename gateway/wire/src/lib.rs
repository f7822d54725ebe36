//! Wire formats, pure: bytes in, decisions and bytes out.
//!
//! * [`peek()`] finds the few members of a request body that the gateway decides by, [`splice`] changes them in place;
//! * [`sse`] finds the events of a stream while its bytes are relayed, [`usage`] reads tokens from answers and streams,
//!   [`tools`] whether their tool calls are JSON, [`has_output()`] whether an answer says anything;
//! * [`hash`] decides which users take the bifrost arm; [`error_body()`] writes errors in each front's shape.
//!
//! It is on the path of every request, so it never builds a tree and allocates only for what is escaped, cut by a
//! chunk's border or changed. It does no I/O, knows no clock and must not depend on tokio or hyper.

mod ask;
pub mod error_body;
pub mod hash;
mod json;
mod output;
pub mod peek;
pub mod splice;
pub mod sse;
pub mod stream;
mod tail;
pub mod tools;
pub mod usage;

pub use ask::Ask;
pub use error_body::{Front, error_body, error_event, json_string};
pub use hash::{bucket, bucket_of, cohort_hash, takes_bifrost};
pub use json::SyntaxReason;
pub use output::has_output;
pub use peek::{Peek, PeekError, peek};
pub use splice::{Part, Splice};
pub use sse::{Piece, StreamRelay, StreamTap};
pub use stream::{Seen, StreamFormat, StreamObserver};
pub use tail::Tail;
pub use tools::invalid_tool_call;
pub use usage::{Usage, usage_from_json, usage_from_tail};
