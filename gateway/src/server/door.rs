//! The ports that applications come in by. Connections of all are served alike; only what may be asked for differs.

use std::fmt;

/// By which port a connection came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// The applications' own.
    Main,
    /// The preview: serves the colour of a blue-green migration that is not active, or the candidate of a rollout, and nothing else.
    Preview,
    /// Where a pod of a candidate takes what other pods of the gateway forward to it.
    Forwarded,
}

impl Door {
    /// The flag that sets its port.
    pub const fn flag(self) -> &'static str {
        match self {
            Self::Main => "--port",
            Self::Preview => "--preview-port",
            Self::Forwarded => "--forward-port",
        }
    }
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Main => "main",
            Self::Preview => "preview",
            Self::Forwarded => "forward",
        })
    }
}
