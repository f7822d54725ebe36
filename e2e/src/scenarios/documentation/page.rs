//! A page of the documentation, as it was when this program was built: its code blocks, and what stands between them. Pure.

/// A page; a manifest is one too.
pub(in crate::scenarios) struct Page {
    /// Its path in this repository.
    pub(in crate::scenarios) path: &'static str,
    /// Its text.
    pub(in crate::scenarios) text: &'static str,
}

/// Names the page of a path.
macro_rules! page {
    ($path:literal) => {
        $crate::scenarios::documentation::page::Page {
            path: $path,
            text: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../", $path)),
        }
    };
}
pub(in crate::scenarios) use page;

impl Page {
    /// Its blocks of YAML; a manifest is one.
    pub(in crate::scenarios) fn yaml(&self) -> Vec<String> {
        if self.is_manifest() {
            return vec![self.text.to_owned()];
        }
        self.parts().0.into_iter().filter(|(language, _)| *language == "yaml").map(|(_, block)| block).collect()
    }

    /// Whether it is no text with blocks, but a manifest.
    pub(super) fn is_manifest(&self) -> bool {
        self.path.ends_with(".yaml")
    }

    /// Its code blocks by language, and the prose around them.
    pub(super) fn parts(&self) -> (Vec<(&'static str, String)>, String) {
        let (mut blocks, mut prose) = (Vec::<(&str, String)>::new(), String::new());
        let mut inside = false;
        for line in self.text.lines() {
            match (line.strip_prefix("```"), blocks.last_mut()) {
                (Some(_), _) if inside => inside = false,
                (Some(language), _) => {
                    inside = true;
                    blocks.push((language, String::new()));
                }
                (None, Some((_, block))) if inside => {
                    block.push_str(line);
                    block.push('\n');
                }
                _ => {
                    prose.push_str(line);
                    prose.push('\n');
                }
            }
        }
        (blocks, prose)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_and_prose_are_told_apart() {
        let page = Page { path: "a.md", text: "one\n```yaml\na: 1\nb: 2\n```\ntwo\n```json\n{}\n```\n" };
        assert_eq!(page.yaml(), ["a: 1\nb: 2\n"]);
        let (blocks, prose) = page.parts();
        assert_eq!((blocks[1].clone(), prose.as_str()), (("json", "{}\n".to_owned()), "one\ntwo\n"));
        let manifest = Page { path: "a.yaml", text: "kind: A\n" };
        assert_eq!(manifest.yaml(), [manifest.text]);
    }
}
