//! Names that Kubernetes takes, from names that others took.

use std::collections::BTreeSet;

use bifrost_crds::MAX_NAME_LENGTH;

/// Names that were given out; none is given out twice.
#[derive(Debug, Default)]
pub(super) struct Names {
    taken: BTreeSet<String>,
}

impl Names {
    /// The nearest DNS-1035 label that is still free.
    pub(super) fn label(&mut self, text: &str) -> String {
        let label = label(text);
        let mut free = label.clone();
        let mut number = 2;
        while !self.taken.insert(free.clone()) {
            let end = format!("-{number}");
            let cut = label.len().min(MAX_NAME_LENGTH - end.len());
            free = format!("{}{end}", label[..cut].trim_end_matches('-'));
            number += 1;
        }
        free
    }
}

fn label(text: &str) -> String {
    let fit = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let mut label: String = text.chars().map(fit).collect();
    if !label.starts_with(|c: char| c.is_ascii_lowercase()) {
        label = format!("x-{}", label.trim_start_matches('-'));
    }
    label.truncate(MAX_NAME_LENGTH);
    label.trim_end_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_labels_and_are_given_out_once() {
        let mut names = Names::default();
        assert_eq!(names.label("My_Key.1"), "my-key-1");
        assert_eq!(names.label("my key 1"), "my-key-1-2");
        assert_eq!(names.label("1st"), "x-1st");
        assert_eq!(names.label("--"), "x");
        let long = "k".repeat(60);
        assert_eq!(names.label(&long).len(), MAX_NAME_LENGTH);
        assert_eq!(names.label(&long).len(), MAX_NAME_LENGTH);
    }
}
