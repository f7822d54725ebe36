//! The names of the members that the peek knows.

/// A member that the peek looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Known {
    /// `model`
    Model,
    /// `stream`
    Stream,
    /// `store`
    Store,
    /// `user`
    User,
    /// `safety_identifier`
    SafetyIdentifier,
    /// `metadata`
    Metadata,
    /// `user_id` inside of `metadata`
    MetadataUserId,
    /// `prompt_cache_key`
    PromptCacheKey,
    /// `previous_response_id`
    PreviousResponseId,
    /// `fallbacks`
    Fallbacks,
    /// `stream_options`
    StreamOptions,
    /// `include_usage` inside of `stream_options`
    IncludeUsage,
}

impl Known {
    /// The member's path from the top of the body.
    pub fn path(self) -> &'static str {
        match self {
            Known::Model => "model",
            Known::Stream => "stream",
            Known::Store => "store",
            Known::User => "user",
            Known::SafetyIdentifier => "safety_identifier",
            Known::Metadata => "metadata",
            Known::MetadataUserId => "metadata.user_id",
            Known::PromptCacheKey => "prompt_cache_key",
            Known::PreviousResponseId => "previous_response_id",
            Known::Fallbacks => "fallbacks",
            Known::StreamOptions => "stream_options",
            Known::IncludeUsage => "stream_options.include_usage",
        }
    }

    /// The top-level member that could be meant by a name of this many bytes; each has a length of its own but two.
    #[inline]
    fn candidates(length: usize) -> &'static [Known] {
        match length {
            4 => &[Known::User],
            5 => &[Known::Model, Known::Store],
            6 => &[Known::Stream],
            8 => &[Known::Metadata],
            9 => &[Known::Fallbacks],
            14 => &[Known::StreamOptions],
            16 => &[Known::PromptCacheKey],
            17 => &[Known::SafetyIdentifier],
            20 => &[Known::PreviousResponseId],
            _ => &[],
        }
    }

    /// The top-level member of this name, ignoring case as [`Spelling`] says.
    #[inline]
    pub(super) fn top_level(name: &str) -> Option<(Known, Spelling)> {
        find(name, Known::candidates)
    }

    /// The member of `stream_options` of this name.
    pub(super) fn in_stream_options(name: &str) -> Option<(Known, Spelling)> {
        find(name, |length| if length == "include_usage".len() { &[Known::IncludeUsage] } else { &[] })
    }

    /// The name itself, without the path to it.
    fn name(self) -> &'static str {
        let path = self.path();
        path.rsplit_once('.').map_or(path, |(_, name)| name)
    }
}

impl std::fmt::Display for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.path())
    }
}

/// How a known name is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spelling {
    /// As it should be.
    Exact,
    /// In another case, in the sense of the most generous parser in wide use (Go's): ASCII case is ignored, and so is the difference between
    /// `s` and U+017F and between `k` and U+212A.
    OtherCase,
}

#[inline]
fn find(name: &str, candidates: impl Fn(usize) -> &'static [Known]) -> Option<(Known, Spelling)> {
    for &known in candidates(name.len()) {
        if name == known.name() {
            return Some((known, Spelling::Exact));
        }
        if name.eq_ignore_ascii_case(known.name()) {
            return Some((known, Spelling::OtherCase));
        }
    }
    if name.is_ascii() { None } else { find_folded(name, candidates) }
}

#[cold]
fn find_folded(name: &str, candidates: impl Fn(usize) -> &'static [Known]) -> Option<(Known, Spelling)> {
    let folded: String = name
        .chars()
        .map(|character| match character {
            '\u{17f}' => 's',
            '\u{212a}' => 'k',
            other => other.to_ascii_lowercase(),
        })
        .collect();
    let known = candidates(folded.len()).iter().find(|known| folded == known.name())?;
    Some((*known, Spelling::OtherCase))
}
