//! Watch: what is looked at in an answer's body while it passes, and what that takes of the memory.

use bifrost_wire::{StreamFormat, StreamRelay, StreamTap, Tail};

use super::decode::Reading;
use crate::http::{Head, Inflate};
use crate::memory::Charge;
use crate::server::Shard;

/// What is looked at while a body passes.
pub enum Watch {
    /// Nothing: encoded, or not understood.
    Blind,
    /// A plain answer's end, for its usage; of one in this form all of it, if it is not too long.
    Plain(Tail, Option<StreamFormat>, Option<Inflate>),
    /// The bifrost arm's stream: whole events pass.
    Events(StreamRelay),
    /// The baseline arm's stream, or one of the candidate's pods: bytes pass as they come.
    Tap(StreamTap, Option<Inflate>),
}

impl Watch {
    /// What is to be looked at, and what the copies that are kept for it take of the byte budget. Without room nothing is looked at but
    /// what decides how the answer passes.
    pub fn new(reading: &Reading, stream: bool, head: &Head, shard: &Shard) -> (Self, Option<Charge>) {
        let watch = Self::wanted(reading, stream, head);
        let most = match &watch {
            Self::Blind | Self::Events(_) => return (watch, None),
            Self::Plain(tail, ..) => head.content_length().unwrap_or(u64::MAX).min(tail.most() as u64),
            Self::Tap(..) => StreamTap::KEPT as u64,
        };
        match shard.shared.budget.try_charge_spare(most) {
            Some(charge) => (watch, Some(charge)),
            None => (Self::Blind, None),
        }
    }

    fn wanted(reading: &Reading, stream: bool, head: &Head) -> Self {
        let inflate = match head.is_encoded() {
            true if reading.is_raw() => match head.get("content-encoding").and_then(Inflate::of) {
                Some(inflate) => Some(inflate),
                None => return Self::Blind,
            },
            true => return Self::Blind,
            false => None,
        };
        let mut watch = match (reading.format, stream) {
            (Some(format), true) if reading.is_raw() => Self::Tap(StreamTap::new(format), inflate),
            (Some(format), true) if reading.drop_usage_chunk => Self::Events(StreamRelay::without_usage_chunk(format)),
            (Some(format), true) => Self::Events(StreamRelay::new(format)),
            (None, true) => Self::Blind,
            (Some(format), false) if head.is_json() && reading.tool_calls => {
                Self::Plain(Tail::for_tools(), Some(format), inflate)
            }
            (format, false) if head.is_json() => Self::Plain(Tail::new(), format, inflate),
            (_, false) => Self::Blind,
        };
        match &mut watch {
            Self::Tap(tap, _) if reading.tool_calls => tap.look_at_tool_calls(),
            Self::Events(relay) if reading.tool_calls => relay.look_at_tool_calls(),
            _ => {}
        }
        watch
    }

    /// Whether other bytes may go on than came.
    pub fn changes_length(&self) -> bool {
        matches!(self, Self::Events(_))
    }
}
