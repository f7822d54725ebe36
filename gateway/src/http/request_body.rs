//! Request bodies: collected into one buffer under the pod's byte budget, or streamed onward as they come.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use crate::deadline::Deadline;
use crate::memory::{Budget, Charge};

/// Silence within a request body that ends it.
const BODY_STALL: Duration = Duration::from_secs(60);
/// How long a body waits for room in the byte budget.
const BUDGET_WAIT: Duration = Duration::from_secs(5);

/// Why a request body could not be read.
#[derive(Debug)]
pub enum BodyError {
    /// More bytes than `maxRequestBody`.
    TooLarge,
    /// The pod's byte budget is used up.
    NoMemory,
    /// The client sent nothing for 60 s.
    Stalled,
    /// The client went away or broke the framing.
    Broken,
}

/// Reads a whole body of at most `limit` bytes. The charge holds its share of the budget for as long as it lives.
pub async fn collect(
    mut body: Incoming,
    limit: u64,
    budget: &Budget,
    deadline: &Deadline,
) -> Result<(Bytes, Charge), BodyError> {
    if body.size_hint().lower() > limit {
        return Err(BodyError::TooLarge);
    }
    let mut charge = budget.open();
    let mut whole = Bytes::new();
    let mut parts: Option<BytesMut> = None;
    loop {
        deadline.extend(BODY_STALL);
        let frame = tokio::select! {
            biased;
            frame = body.frame() => frame,
            () = deadline.expired() => return Err(BodyError::Stalled),
        };
        let Some(frame) = frame else { break };
        let Ok(data) = frame.map_err(|_| BodyError::Broken)?.into_data() else { continue };
        let length = parts.as_ref().map_or(whole.len(), BytesMut::len) + data.len();
        if length as u64 > limit {
            return Err(BodyError::TooLarge);
        }
        // Most bodies are one frame: those are not copied.
        if let Some(parts) = &mut parts {
            parts.extend_from_slice(&data);
        } else if whole.is_empty() {
            whole = data;
        } else {
            let mut buffer = BytesMut::with_capacity((whole.len() + data.len()).next_power_of_two());
            buffer.extend_from_slice(&whole);
            buffer.extend_from_slice(&data);
            whole = Bytes::new();
            parts = Some(buffer);
        }
        // What is taken counts, not what is filled: a buffer that grows doubles.
        let held = parts.as_ref().map_or(whole.len(), BytesMut::capacity) as u64;
        let more = held.saturating_sub(charge.bytes());
        if more > 0 && !charge.try_grow(more) {
            charge.grow(more, BUDGET_WAIT).await.map_err(|_| BodyError::NoMemory)?;
        }
    }
    Ok((parts.map_or(whole, BytesMut::freeze), charge))
}

/// What watches over a body that is streamed onward.
pub struct UploadWatch {
    /// Where a fault is noted for the exchange to find.
    pub fault: Rc<Cell<Option<StreamFault>>>,
    /// Ends a body whose client stopped sending; looked at only while the client is waited for.
    pub stall: Deadline,
}

/// The body that goes to the vendor.
pub enum OnwardBody {
    /// Collected, or none.
    Whole(Option<Bytes>),
    /// As it comes from the client.
    Stream {
        /// The client's body.
        body: Incoming,
        /// Bytes that may still come.
        left: u64,
        /// What watches over it.
        watch: UploadWatch,
    },
}

/// Why a streamed body ended early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamFault {
    /// More bytes than `maxRequestBody`.
    TooLarge,
    /// The client went away or broke the framing.
    Broken,
    /// The client sent nothing for 60 s.
    Stalled,
}

impl OnwardBody {
    /// A collected body.
    pub fn whole(bytes: Bytes) -> Self {
        Self::Whole((!bytes.is_empty()).then_some(bytes))
    }

    /// A body that is passed on as it comes.
    pub fn stream(body: Incoming, limit: u64, watch: UploadWatch) -> Self {
        watch.stall.extend(BODY_STALL);
        Self::Stream { body, left: limit, watch }
    }
}

impl Body for OnwardBody {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream { body, left, watch: UploadWatch { fault, stall } } => {
                let Poll::Ready(frame) = Pin::new(body).poll_frame(cx) else {
                    ready!(stall.poll_expired(cx));
                    fault.set(Some(StreamFault::Stalled));
                    return Poll::Ready(Some(Err(std::io::Error::other("the client stopped sending"))));
                };
                stall.extend(BODY_STALL);
                let Some(frame) = frame else { return Poll::Ready(None) };
                let Ok(frame) = frame else {
                    fault.set(Some(StreamFault::Broken));
                    return Poll::Ready(Some(Err(std::io::Error::other("the client's body ended early"))));
                };
                let length = frame.data_ref().map_or(0, Bytes::len) as u64;
                match left.checked_sub(length) {
                    Some(rest) => *left = rest,
                    None => {
                        fault.set(Some(StreamFault::TooLarge));
                        return Poll::Ready(Some(Err(std::io::Error::other("the client's body is too large"))));
                    }
                }
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Stream { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::Stream { body, .. } => body.size_hint(),
        }
    }
}
