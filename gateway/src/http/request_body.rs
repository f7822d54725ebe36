//! Request bodies: collected into one buffer under the pod's byte budget, or streamed onward as they come.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use smallvec::SmallVec;

use crate::deadline::Deadline;
use crate::memory::{Budget, Charge, Exhausted};

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
    /// More than the pod's whole byte budget, which has this many bytes.
    OverMemory(u64),
    /// The client sent nothing for 60 s.
    Stalled,
    /// The client went away or broke the framing.
    Broken,
}

impl From<Exhausted> for BodyError {
    fn from(exhausted: Exhausted) -> Self {
        match exhausted {
            Exhausted::Busy { .. } => Self::NoMemory,
            Exhausted::TooLarge { total, .. } => Self::OverMemory(total),
        }
    }
}

/// Reads a whole body of at most `limit` bytes. It holds its share of the budget until the last of its slices is dropped.
pub async fn collect(mut body: Incoming, limit: u64, budget: &Budget, deadline: &Deadline) -> Result<Bytes, BodyError> {
    let declared = body.size_hint();
    if declared.lower() > limit {
        return Err(BodyError::TooLarge);
    }
    let declared = declared.exact().and_then(|length| usize::try_from(length).ok());
    let mut charge = budget.open();
    let mut whole = Bytes::new();
    let mut parts: Option<Vec<u8>> = None;
    loop {
        deadline.extend(BODY_STALL);
        let frame = tokio::select! {
            biased;
            frame = body.frame() => frame,
            () = deadline.expired() => return Err(BodyError::Stalled),
        };
        let Some(frame) = frame else { break };
        let Ok(data) = frame.map_err(|_| BodyError::Broken)?.into_data() else { continue };
        let length = parts.as_ref().map_or(whole.len(), Vec::len) + data.len();
        if length as u64 > limit {
            return Err(BodyError::TooLarge);
        }
        // Most bodies are one frame: those are not copied.
        if let Some(parts) = &mut parts {
            if parts.capacity() < length {
                // By a quarter, not by as much again: all of it is charged.
                let more = data.len().max(parts.len() / 4);
                parts.try_reserve_exact(more).map_err(|_| BodyError::NoMemory)?;
            }
            parts.extend_from_slice(&data);
        } else if whole.is_empty() {
            whole = data;
        } else {
            let mut buffer = Vec::new();
            // As large as it will be, so that it is never copied again: pages that nothing was written to take no memory.
            let size = declared.unwrap_or(2 * length);
            buffer.try_reserve_exact(size).map_err(|_| BodyError::NoMemory)?;
            buffer.extend_from_slice(&whole);
            buffer.extend_from_slice(&data);
            whole = Bytes::new();
            parts = Some(buffer);
        }
        let held = match &parts {
            // What is taken counts, not what is filled.
            Some(parts) if declared.is_none() => parts.capacity(),
            _ => length,
        };
        let more = (held as u64).saturating_sub(charge.bytes());
        if more > 0 && !charge.try_grow(more) {
            charge.grow(more, BUDGET_WAIT).await?;
        }
    }
    let bytes = parts.map_or(whole, Bytes::from);
    Ok(if bytes.is_empty() { bytes } else { Bytes::from_owner(Charged { bytes, _charge: charge }) })
}

/// Bytes with their share of the budget.
struct Charged {
    bytes: Bytes,
    _charge: Charge,
}

impl AsRef<[u8]> for Charged {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// What watches over a body that is streamed onward.
pub struct UploadWatch {
    /// Where a fault is noted for the exchange to find.
    pub fault: UploadFault,
    /// Ends a body whose client stopped sending; looked at only while the client is waited for.
    pub stall: Deadline,
    /// Where the time is noted at which the last bytes so far came.
    pub last_bytes: LastBytes,
}

/// When the last bytes of a body that is streamed onward came, once some have.
pub type LastBytes = Rc<Cell<Option<Instant>>>;

/// The fault of a body that is streamed onward, once there is one.
pub type UploadFault = Rc<Cell<Option<StreamFault>>>;

/// The body that goes to the vendor.
pub enum OnwardBody {
    /// In memory, or none: its parts, the last one first.
    Whole(SmallVec<[Bytes; 1]>),
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
    /// A body in memory, of parts that are not empty.
    pub fn whole(mut parts: SmallVec<[Bytes; 1]>) -> Self {
        parts.reverse();
        Self::Whole(parts)
    }

    /// A body that is passed on as it comes.
    pub fn stream(body: Incoming, limit: u64, watch: UploadWatch) -> Self {
        watch.stall.extend(BODY_STALL);
        Self::Stream { body, left: limit, watch }
    }

    /// The client's body, where it was to be passed on as it comes.
    pub fn into_stream(self) -> Option<Incoming> {
        match self {
            Self::Whole(_) => None,
            Self::Stream { body, .. } => Some(body),
        }
    }
}

impl Body for OnwardBody {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        match self.get_mut() {
            Self::Whole(parts) => Poll::Ready(parts.pop().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream { body, left, watch: UploadWatch { fault, stall, last_bytes } } => {
                let Poll::Ready(frame) = Pin::new(body).poll_frame(cx) else {
                    ready!(stall.poll_expired(cx));
                    fault.set(Some(StreamFault::Stalled));
                    return Poll::Ready(Some(Err(std::io::Error::other("the client stopped sending"))));
                };
                stall.extend(BODY_STALL);
                last_bytes.set(Some(Instant::now()));
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
            Self::Whole(parts) => parts.is_empty(),
            Self::Stream { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(parts) => SizeHint::with_exact(parts.iter().map(|part| part.len() as u64).sum()),
            Self::Stream { body, .. } => body.size_hint(),
        }
    }
}
