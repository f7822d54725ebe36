//! Which models get a label of their own.
//!
//! A client can send any text as a model, so a name becomes a label only when the configuration names it or a provider answered
//! it with a 2xx, and only up to a limit per pod; every other one is counted as [`OTHER`].

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

/// Label of a model that has none of its own.
pub const OTHER: &str = "other";

/// Most models with a label of their own.
const MAX_NAMES: usize = 200;
/// Longest name that becomes a label, in bytes.
const MAX_LENGTH: usize = 128;

/// The models of one pod that have a label. Reading takes no lock.
#[derive(Debug)]
pub struct ModelLabels {
    names: ArcSwap<HashSet<Arc<str>>>,
    /// Held while `names` is replaced, which happens at most [`MAX_NAMES`] times.
    writing: Mutex<()>,
    other: Arc<str>,
    none: Arc<str>,
}

impl Default for ModelLabels {
    fn default() -> Self {
        Self { names: ArcSwap::default(), writing: Mutex::new(()), other: Arc::from(OTHER), none: Arc::from("") }
    }
}

impl ModelLabels {
    /// Lets in the names that the configuration lists, as far as there is room.
    pub fn configure<'a>(&self, names: impl IntoIterator<Item = &'a str>) {
        for name in names {
            self.let_in(name);
        }
    }

    /// The label of a model. `confirmed`: a provider has just answered it with a 2xx.
    pub fn label(&self, model: &str, confirmed: bool) -> Arc<str> {
        if model.is_empty() {
            return self.none.clone();
        }
        if let Some(name) = self.names.load().get(model) {
            return name.clone();
        }
        if confirmed { self.let_in(model) } else { self.other.clone() }
    }

    /// Whether a model has a label of its own; `confirmed` as in [`Self::label`].
    pub(super) fn has(&self, model: &str, confirmed: bool) -> bool {
        self.names.load().contains(model) || (confirmed && *self.let_in(model) == *model)
    }

    fn let_in(&self, model: &str) -> Arc<str> {
        // Names only come, so that what is full stays full: whom nobody can let in waits for no lock.
        if let Some(label) = self.settled(model) {
            return label;
        }
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(label) = self.settled(model) {
            return label;
        }
        let names = self.names.load();
        let name: Arc<str> = Arc::from(model);
        let mut more = HashSet::clone(&names);
        more.insert(name.clone());
        self.names.store(Arc::new(more));
        name
    }

    /// The label of a model that has one, or can have none of its own.
    fn settled(&self, model: &str) -> Option<Arc<str>> {
        let names = self.names.load();
        if let Some(name) = names.get(model) {
            return Some(name.clone());
        }
        let is_shut_out = names.len() >= MAX_NAMES || model.is_empty() || model.len() > MAX_LENGTH;
        is_shut_out.then(|| self.other.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_configured_and_confirmed_names_get_a_label() {
        let models = ModelLabels::default();
        models.configure(["gpt-4o-mini"]);
        assert_eq!(&*models.label("gpt-4o-mini", false), "gpt-4o-mini");
        assert_eq!(&*models.label("made-up", false), OTHER);
        assert_eq!(&*models.label("made-up", true), "made-up");
        assert_eq!(&*models.label("made-up", false), "made-up");
        assert_eq!(&*models.label("", true), "");
    }

    #[test]
    fn a_pod_has_at_most_200_of_them() {
        let models = ModelLabels::default();
        for index in 0..MAX_NAMES {
            models.label(&format!("model-{index}"), true);
        }
        assert_eq!(&*models.label("one-more", true), OTHER);
        assert_eq!(&*models.label("model-7", false), "model-7");
        assert_eq!(&*models.label(&"x".repeat(MAX_LENGTH + 1), true), OTHER);
    }

    #[test]
    fn whom_nobody_can_let_in_waits_for_no_lock() {
        let models = Arc::new(ModelLabels::default());
        let label = |model: String| {
            let (told, tell) = (Arc::clone(&models), std::sync::mpsc::channel());
            let _writing = models.writing.lock().unwrap();
            std::thread::spawn(move || tell.0.send((told.label(&model, true), told.has(&model, true))));
            tell.1.recv_timeout(std::time::Duration::from_secs(5)).expect("it waits for the lock")
        };
        assert_eq!(label("x".repeat(MAX_LENGTH + 1)), (Arc::from(OTHER), false));
        models.configure((0..MAX_NAMES).map(|index| format!("model-{index}")).collect::<Vec<_>>().iter().map(|n| &**n));
        assert_eq!(label("one-more".into()), (Arc::from(OTHER), false));
        assert_eq!(label("model-7".into()), (Arc::from("model-7"), true));
    }
}
