//! Why a request took its arm: the values of `x-bf-arm-reason`, and of the label `reason` in metrics.

/// Why a request took its arm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Eligible: the percentage decided.
    Canary,
    /// Eligible: the rules of the phases decided.
    Gradual,
    /// Eligible: the active colour decided.
    BlueGreen,
    /// Eligible: DropIn sends everything through the pipeline, and nothing once it was taken back.
    DropIn,
    /// Eligible: the request asked for its arm by the header `x-bf-arm`.
    Header,
    /// Eligible: the preview serves the colour that is not active.
    Preview,
    /// Eligible, but it may name state that belongs to the caller's account.
    VendorState,
    /// A path of the caller's account.
    Account,
    /// Not eligible: the caller has no credential of its own.
    NoCredential,
    /// Not eligible: the credential is this gateway's.
    VirtualKey,
    /// Not eligible: a model of another provider than the front's own.
    OtherProvider,
    /// Not eligible: `provider/model`, which the vendor would not understand.
    ProviderPrefix,
    /// Not eligible: the body names fallbacks.
    Fallbacks,
    /// Not eligible: several providers could be the front's own.
    AmbiguousProvider,
}

impl Reason {
    /// The reason as header and label spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Canary => "canary",
            Self::Gradual => "gradual",
            Self::BlueGreen => "blue_green",
            Self::DropIn => "drop_in",
            Self::Header => "header",
            Self::Preview => "preview",
            Self::VendorState => "vendor_state",
            Self::Account => "account",
            Self::NoCredential => "no_credential",
            Self::VirtualKey => "virtual_key",
            Self::OtherProvider => "other_provider",
            Self::ProviderPrefix => "provider_prefix",
            Self::Fallbacks => "fallbacks",
            Self::AmbiguousProvider => "ambiguous_provider",
        }
    }

    /// Whether the request says something of its arm that may be compared with the other's: what the split decided, and what the
    /// preview showed before a switch. What has no choice of an arm is not alike, and under DropIn there is nothing to compare with.
    pub const fn is_compared(self) -> bool {
        matches!(self, Self::Canary | Self::Gradual | Self::BlueGreen | Self::Preview)
    }

    /// Whether the request counts in the observed percent: only those that were left to the split.
    pub const fn is_observed(self) -> bool {
        matches!(self, Self::Canary | Self::Gradual | Self::BlueGreen | Self::DropIn | Self::VendorState)
    }
}
