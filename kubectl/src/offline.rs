//! `lint` and `render`: manifests judged and built without a cluster, by the operator's own pure steps.
//!
//! What only the API server knows is left to it: the patterns of the schema and whether names are taken already.

mod documents;
mod lint;
mod render;
mod rollout;

use std::ffi::OsStr;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use bifrost_config::AddressRule;

use self::documents::Documents;
use crate::cli::FilesArgs;
use crate::failure::Failure;
use crate::human::count;
use crate::run::{note, say};

/// What the files of a folder end in that kubectl reads.
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];

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
            continue;
        }
        for file in files_of(path)? {
            let name = file.display().to_string();
            let text = fs::read_to_string(&file).map_err(|error| Failure::Io { what: name.clone(), error })?;
            documents.read(&name, &text);
        }
    }
    Ok(documents)
}

/// The file, or the manifests of the folder, in the order of their names; as kubectl, none of the folders in it.
fn files_of(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let fault = |error| Failure::Io { what: path.display().to_string(), error };
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(fault)? {
        let file = entry.map_err(fault)?.path();
        let extension = file.extension().and_then(OsStr::to_str).unwrap_or_default();
        if EXTENSIONS.contains(&extension) && !file.is_dir() {
            files.push(file);
        }
    }
    if files.is_empty() {
        return Err(Failure::no(format!(
            "{} holds no file *.{}: name the files, or a folder that holds them itself",
            path.display(),
            EXTENSIONS.join(", *.")
        )));
    }
    files.sort();
    Ok(files)
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
    fn of_a_folder_the_manifests_are_read_and_no_folder_below() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
        let names = |folder: &str| {
            let files = files_of(&root.join(folder)).unwrap();
            files.iter().map(|file| file.strip_prefix(&root).unwrap().display().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(names("lint"), ["lint/bad.yaml", "lint/canary.yaml"]);
        assert_eq!(names("import"), ["import/full.json", "import/litellm.yaml"]);
        assert_eq!(names("lint/bad.yaml"), ["lint/bad.yaml"]);
        assert!(names(".").iter().all(|name| !name.contains("bad.yaml")), "{:?}", names("."));
        assert_eq!(files_of(&root.join("nowhere")).unwrap(), [root.join("nowhere")], "reading it says what is wrong");
    }

    #[test]
    fn a_folder_without_manifests_is_named() {
        let empty = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let failure = files_of(&empty).unwrap_err().to_string();
        assert!(
            failure.ends_with(
                "/src holds no file *.yaml, *.yml, *.json: name the files, or a folder that holds them itself"
            ),
            "{failure}"
        );
        let args = FilesArgs {
            files: vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/lint")],
            allow_local_addresses: false,
        };
        let read = read(&args).unwrap();
        assert!(!read.gateways.is_empty() && !read.problems.is_empty());
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
