//! What the pipeline sees of HTTP, on both sides: a small [`Head`], bodies as streams of bytes. The rest of the pipeline does not
//! know which HTTP implementation is underneath.

mod head;
mod inflate;
mod request_body;

pub use head::Head;
pub(crate) use head::{key_in_query, without_key};
pub use inflate::Inflate;
pub use request_body::{BodyError, LastBytes, OnwardBody, StreamFault, UploadFault, UploadWatch, collect};
