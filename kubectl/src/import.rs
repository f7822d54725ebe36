//! `import`: the file of another gateway as manifests that say the same. What cannot be carried is named, one line each.
//!
//! The manifests go to standard output, the lines to standard error. Traffic starts at 0 %: nothing moves by an import.

mod config_json;
mod draft;
mod lite_llm;
mod manifests;
mod names;

use std::fs;

use serde_json::Value;

use self::draft::Imported;
use crate::cli::ImportArgs;
use crate::failure::Failure;
use crate::human::count;
use crate::run::{note, say};

/// Reads the file and prints what became of it.
pub(crate) fn run(args: &ImportArgs, namespace: Option<&str>) -> Result<(), Failure> {
    let what = args.file.display().to_string();
    let text = fs::read_to_string(&args.file).map_err(|error| Failure::Io { what: what.clone(), error })?;
    let imported = import(&text).map_err(|why| Failure::no(format!("{what}: {why}")))?;
    let manifests = manifests::manifests(&imported, &args.name, namespace, args.with_secrets)
        .map_err(|error| Failure::no(format!("the manifests cannot be written: {error}")))?;
    say(&manifests)?;
    for line in lines(&imported, args.with_secrets) {
        note(&line);
    }
    Ok(())
}

/// Which of the two forms it is, and what it says.
fn import(text: &str) -> Result<Imported, String> {
    // YAML's errors are the better ones for YAML, and JSON's for JSON.
    let is_json = text.trim_start().starts_with('{');
    let root: Value = match is_json {
        true => serde_json::from_str(text).map_err(|error| format!("is no JSON: {error}"))?,
        false => serde_yaml_ng::from_str(text).map_err(|error| format!("is no YAML: {error}"))?,
    };
    let imported = if root.get("model_list").is_some() {
        lite_llm::read(&root)
    } else if root.get("providers").is_some() {
        config_json::read(root)?
    } else {
        return Err("is neither a config.json with \"providers\" nor a LiteLLM config with model_list".to_owned());
    };
    if imported.providers.is_empty() {
        return Err(format!("nothing of it can be served:\n  {}", imported.notes.join("\n  ")));
    }
    Ok(imported)
}

/// What the user has to know: what is missing, and how to go on.
fn lines(imported: &Imported, with_secrets: bool) -> Vec<String> {
    let mut lines: Vec<_> = imported.notes.iter().map(|note| format!("not carried: {note}")).collect();
    lines.extend(imported.changes.iter().map(|change| format!("changed: {change}")));
    let literal = imported.keys.iter().filter(|key| key.value.is_literal());
    lines.extend(literal.map(|key| match with_secrets {
        false => format!(
            "{}: the key stands in the file itself and is not printed: set ${{{}}} to it",
            key.path,
            key.variable()
        ),
        true => format!("{}: the key itself stands in the output", key.path),
    }));
    let (providers, keys) = (count(imported.providers.len(), "provider"), count(imported.keys.len(), "key"));
    lines.push(format!(
        "carried: {providers}, {keys}; fill in the ${{NAME}}s, then `kubectl bifrost lint -f FILE` and `kubectl apply -f FILE`"
    ));
    lines
}

/// The manifests of a file, for tests of what reads them.
#[cfg(test)]
pub(crate) fn manifests_of(text: &str, name: &str, namespace: Option<&str>) -> Result<String, String> {
    manifests::manifests(&import(text)?, name, namespace, false).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn golden(text: &str, with_secrets: bool) -> String {
        match import(text) {
            Ok(imported) => format!(
                "{}---- standard error ----\n{}\n",
                manifests::manifests(&imported, "ai", Some("llm"), with_secrets).unwrap(),
                lines(&imported, with_secrets).join("\n"),
            ),
            Err(why) => why,
        }
    }

    #[test]
    fn the_guides_config_json() {
        insta::assert_snapshot!(golden(include_str!("../../gateway/config/testdata/guide.json"), false));
    }

    #[test]
    fn a_config_json_with_much_that_cannot_be_carried() {
        let text = include_str!("../testdata/import/full.json");
        let shown = golden(text, false);
        assert!(!shown.contains("sk-literal"), "a key that stands in the file is not printed");
        insta::assert_snapshot!(shown);
    }

    #[test]
    fn keys_that_stand_in_the_file_are_printed_when_asked_for() {
        let text = r#"{"providers": {"openai": {"keys": [{"name": "main", "value": "sk-literal-1", "weight": 1}]}}}"#;
        assert!(golden(text, true).contains("sk-literal-1"));
        assert!(!golden(text, false).contains("sk-literal-1"));
    }

    #[test]
    fn a_lite_llm_config() {
        let shown = golden(include_str!("../testdata/import/litellm.yaml"), false);
        assert!(!shown.contains("sk-literal") && !shown.contains("sk-master"), "keys are not printed");
        insta::assert_snapshot!(shown);
    }

    #[test]
    fn a_value_that_looks_like_a_number_is_filled_in_as_a_text() {
        let text = r#"{"providers": {"openai": {"keys": [{"name": "main", "value": "env.KEY", "weight": 1}]}}}"#;
        let filled = manifests_of(text, "ai", None).unwrap().replace("${KEY}", "0123");
        let secret = filled.split("---\n").nth(1).unwrap();
        let secret: Value = serde_yaml_ng::from_str(secret).unwrap();
        assert_eq!(secret["stringData"]["api-key"], "0123");
    }

    #[test]
    fn other_files_are_refused_with_what_they_should_be() {
        assert!(golden("a: 1", false).contains("neither a config.json"));
        assert!(golden("{", false).contains("is no JSON"));
        let none = golden("model_list: [{model_name: x, litellm_params: {model: bedrock/x}}]", false);
        assert!(none.contains("nothing of it can be served") && none.contains("model_list[0]"), "{none}");
    }
}
