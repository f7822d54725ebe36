//! The models each vendor has.

use std::collections::HashSet;

use crate::api::{ModelSpec, Vendor};

/// A model: its id, and the dated snapshot that an alias stands for (the same when it is none).
struct Row(&'static str, &'static str);

const OPENAI: &[Row] = &[
    Row("gpt-3.5-turbo", "gpt-3.5-turbo-0125"),
    Row("gpt-3.5-turbo-instruct", "gpt-3.5-turbo-instruct:20230824-v2"),
    Row("gpt-4", "gpt-4-0613"),
    Row("gpt-4-turbo", "gpt-4-turbo-2024-04-09"),
    Row("gpt-4o", "gpt-4o-2024-08-06"),
    Row("gpt-4o-2024-08-06", "gpt-4o-2024-08-06"),
    Row("gpt-4o-mini", "gpt-4o-mini-2024-07-18"),
    Row("gpt-4o-mini-2024-07-18", "gpt-4o-mini-2024-07-18"),
    Row("gpt-4.1", "gpt-4.1-2025-04-14"),
    Row("gpt-4.1-mini", "gpt-4.1-mini-2025-04-14"),
    Row("gpt-4.1-nano", "gpt-4.1-nano-2025-04-14"),
    Row("gpt-5", "gpt-5-2025-08-07"),
    Row("gpt-5-mini", "gpt-5-mini-2025-08-07"),
    Row("o3", "o3-2025-04-16"),
    Row("o4-mini", "o4-mini-2025-04-16"),
    Row("davinci-002", "davinci-002"),
    Row("text-embedding-3-small", "text-embedding-3-small"),
    Row("text-embedding-3-large", "text-embedding-3-large"),
    Row("text-embedding-ada-002", "text-embedding-ada-002-v2"),
    Row("omni-moderation-latest", "omni-moderation-latest"),
    Row("dall-e-3", "dall-e-3"),
    Row("gpt-image-1", "gpt-image-1"),
    Row("whisper-1", "whisper-1"),
    Row("gpt-4o-transcribe", "gpt-4o-transcribe"),
    Row("tts-1", "tts-1"),
];

const ANTHROPIC: &[Row] = &[
    Row("claude-2.1", "claude-2.1"),
    Row("claude-3-haiku-20240307", "claude-3-haiku-20240307"),
    Row("claude-3-sonnet-20240229", "claude-3-sonnet-20240229"),
    Row("claude-3-opus-20240229", "claude-3-opus-20240229"),
    Row("claude-3-5-haiku-latest", "claude-3-5-haiku-20241022"),
    Row("claude-3-5-haiku-20241022", "claude-3-5-haiku-20241022"),
    Row("claude-3-5-sonnet-latest", "claude-3-5-sonnet-20241022"),
    Row("claude-3-5-sonnet-20241022", "claude-3-5-sonnet-20241022"),
    Row("claude-3-7-sonnet-20250219", "claude-3-7-sonnet-20250219"),
    Row("claude-sonnet-4-20250514", "claude-sonnet-4-20250514"),
    Row("claude-opus-4-20250514", "claude-opus-4-20250514"),
    Row("claude-sonnet-4-5", "claude-sonnet-4-5-20250929"),
    Row("claude-sonnet-4-5-20250929", "claude-sonnet-4-5-20250929"),
    Row("claude-haiku-4-5", "claude-haiku-4-5-20251001"),
];

fn rows(vendor: Vendor) -> &'static [Row] {
    match vendor {
        Vendor::OpenAi => OPENAI,
        Vendor::Anthropic => ANTHROPIC,
    }
}

/// The built-in models with what was added and taken away.
#[derive(Default)]
pub(crate) struct Models {
    added: HashSet<(Vendor, String)>,
    removed: HashSet<(Vendor, String)>,
}

impl Models {
    pub(crate) fn set(&mut self, spec: ModelSpec) {
        let model = (spec.vendor, spec.model);
        if spec.enabled {
            self.removed.remove(&model);
            self.added.insert(model);
        } else {
            self.added.remove(&model);
            self.removed.insert(model);
        }
    }

    /// The name a model answers with, if the vendor has it: the dated snapshot of an alias.
    pub(crate) fn snapshot(&self, vendor: Vendor, model: &str) -> Option<String> {
        let of = (vendor, model.to_owned());
        if self.removed.contains(&of) {
            return None;
        }
        let row = rows(vendor).iter().find(|r| r.0 == model);
        row.map(|r| r.1.to_owned()).or_else(|| self.added.contains(&of).then_some(of.1))
    }

    /// All ids, sorted.
    pub(crate) fn list(&self, vendor: Vendor) -> Vec<String> {
        let added = self.added.iter().filter(|(v, _)| *v == vendor).map(|(_, m)| m.clone());
        let mut all: Vec<String> = rows(vendor).iter().map(|r| r.0.to_owned()).chain(added).collect();
        all.retain(|m| !self.removed.contains(&(vendor, m.clone())));
        all.sort();
        all.dedup();
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_come_and_go() {
        let mut models = Models::default();
        let set = |m: &mut Models, model: &str, enabled| {
            m.set(ModelSpec { vendor: Vendor::OpenAi, model: model.to_owned(), enabled });
        };
        assert_eq!(models.snapshot(Vendor::OpenAi, "gpt-4o-mini").as_deref(), Some("gpt-4o-mini-2024-07-18"));
        assert_eq!(models.snapshot(Vendor::Anthropic, "gpt-4o-mini"), None);
        set(&mut models, "gpt-4o-mini", false);
        set(&mut models, "mine", true);
        assert_eq!(models.snapshot(Vendor::OpenAi, "gpt-4o-mini"), None);
        assert_eq!(models.snapshot(Vendor::OpenAi, "mine").as_deref(), Some("mine"));
        let list = models.list(Vendor::OpenAi);
        assert!(list.contains(&"mine".to_owned()) && !list.contains(&"gpt-4o-mini".to_owned()));
    }
}
