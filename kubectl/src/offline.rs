//! `lint` and `render`: manifests judged and built without a cluster, by the operator's own pure steps.
//!
//! What only the API server knows is left to it: the patterns of the schema and whether names are taken already.

mod documents;
mod lint;
mod render;
mod rollout;

use std::fs;
use std::io::Read as _;

use bifrost_config::AddressRule;

use self::documents::Documents;
use crate::cli::FilesArgs;
use crate::failure::Failure;
use crate::human::count;
use crate::run::{note, say};

/// Prints all problems of the files.
pub(crate) fn lint(args: &FilesArgs) -> Result<(), Failure> {
    let documents = read(args)?;
    let findings = lint::lint(&documents, addresses(args));
    for warning in &findings.warnings {
        note(&format!("warning: {warning}"));
    }
    for problem in &findings.problems {
        say(problem)?;
    }
    let (gateways, keys) = (count(documents.gateways.len(), "gateway"), count(documents.keys.len(), "provider key"));
    match findings.problems.len() {
        0 if documents.gateways.is_empty() && documents.keys.is_empty() => {
            Err(Failure::no("the files hold no BifrostGateway and no ProviderKey"))
        }
        0 => say(&format!(
            "{gateways}, {keys}: no problems; `kubectl apply --dry-run=server` asks the API server as well"
        )),
        number => Err(Failure::no(format!("{gateways}, {keys}: {}", count(number, "problem")))),
    }
}

/// Prints what would be published, and which objects would be made.
pub(crate) fn render(args: &FilesArgs) -> Result<(), Failure> {
    let documents = read(args)?;
    let findings = lint::lint(&documents, addresses(args));
    if !findings.problems.is_empty() {
        return Err(Failure::no(format!("nothing is rendered:\n{}", findings.problems.join("\n"))));
    }
    if documents.gateways.is_empty() {
        return Err(Failure::no("the files hold no BifrostGateway"));
    }
    for gateway in &documents.gateways {
        say(&render::render(gateway, &documents, addresses(args)).map_err(Failure::No)?)?;
    }
    Ok(())
}

const fn addresses(args: &FilesArgs) -> AddressRule {
    if args.allow_local_addresses { AddressRule::Any } else { AddressRule::NoLocal }
}

fn read(args: &FilesArgs) -> Result<Documents, Failure> {
    let mut documents = Documents::default();
    for path in &args.files {
        let name = path.display().to_string();
        let fault = |error| Failure::Io { what: name.clone(), error };
        if name == "-" {
            let mut text = String::new();
            std::io::stdin().lock().read_to_string(&mut text).map_err(fault)?;
            documents.read("standard input", &text);
        } else {
            documents.read(&name, &fs::read_to_string(path).map_err(fault)?);
        }
    }
    Ok(documents)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn documents(text: &str) -> Documents {
        let mut documents = Documents::default();
        documents.read("ai.yaml", text);
        documents
    }

    fn problems(text: &str) -> String {
        lint::lint(&documents(text), AddressRule::NoLocal).problems.join("\n")
    }

    #[test]
    fn the_examples_have_no_problems() {
        let examples = [
            include_str!("../../examples/openai-and-anthropic.yaml"),
            include_str!("../../examples/rollouts/blue-green.yaml"),
            include_str!("../../examples/rollouts/canary.yaml"),
        ];
        for text in examples {
            let found = documents(text);
            assert_eq!((found.gateways.len(), found.keys.len()), (1, 2));
            let findings = lint::lint(&found, AddressRule::NoLocal);
            assert_eq!((findings.problems, findings.warnings), (vec![], vec![]));
        }
    }

    #[test]
    fn objects_of_a_rollout_are_told_apart_and_what_should_be_thought_over_is_warned_of() {
        let text = include_str!("../testdata/lint/canary.yaml");
        let rollout = "  rollout: {strategy: Canary, canary: {steps: [{percent: 10, hold: 10m}]}}\n---";
        let found = documents(&text.replacen("---", rollout, 1));
        let warnings = lint::lint(&found, AddressRule::NoLocal).warnings;
        assert!(
            warnings.iter().any(|warning| warning.contains("BifrostGateway llm/ai: spec.rollout: ")),
            "{warnings:?}"
        );
        let rendered = render::render(&found.gateways[0], &found, AddressRule::NoLocal).unwrap();
        assert!(rendered.contains("\n# a new revision: Canary, 10 % (held 10m) → stable\n"), "{rendered}");
        let (always, passing) = rendered.split_once("\n# only while a candidate exists\n").unwrap();
        assert!(!always.contains("candidate") && passing.contains("Deployment ai-bifrost-candidate"), "{rendered}");
    }

    #[test]
    fn all_problems_are_told_at_once_with_file_and_path() {
        insta::assert_snapshot!(problems(include_str!("../testdata/lint/bad.yaml")));
    }

    #[test]
    fn what_is_no_yaml_or_holds_a_member_twice_is_told_with_its_place() {
        assert!(problems("a: [").starts_with("ai.yaml: document 1: "), "{}", problems("a: ["));
        let twice = problems("apiVersion: v1\nkind: Secret\nkind: Secret\n");
        assert!(twice.contains("duplicate"), "{twice}");
    }

    #[test]
    fn what_an_import_prints_is_accepted() {
        let files = [
            include_str!("../../gateway/config/testdata/guide.json"),
            include_str!("../testdata/import/full.json"),
            include_str!("../testdata/import/litellm.yaml"),
        ];
        for file in files {
            let manifests = crate::import::manifests_of(file, "ai", None).unwrap();
            let findings = lint::lint(&documents(&manifests), AddressRule::NoLocal);
            assert_eq!(findings.problems, Vec::<String>::new(), "{manifests}");
        }
    }

    #[test]
    fn a_revision_is_named_only_where_its_image_is() {
        let text = include_str!("../testdata/lint/canary.yaml");
        let named = text.replacen("spec:\n", "spec:\n  image: {repository: registry.example/g, tag: 0.1.0}\n", 1);
        let revision = |text: &str| {
            let documents = documents(text);
            let rendered = render::render(&documents.gateways[0], &documents, AddressRule::NoLocal).unwrap();
            let line = rendered.lines().find(|line| line.contains("\"revision\": ")).unwrap().to_owned();
            line.split('"').nth(3).unwrap().to_owned()
        };
        assert!(revision(text).contains("spec.image"), "{}", revision(text));
        let named = revision(&named);
        assert!(named.len() == 10 && named.bytes().all(|byte| byte.is_ascii_hexdigit()), "{named}");
    }

    #[test]
    fn a_gateway_is_rendered_at_its_goal_without_keys() {
        let documents = documents(include_str!("../testdata/lint/canary.yaml"));
        let text = render::render(&documents.gateways[0], &documents, AddressRule::NoLocal).unwrap();
        assert!(!text.contains("sk-") && !text.contains(render::STAND_IN), "{text}");
        insta::assert_snapshot!(text);
    }
}
