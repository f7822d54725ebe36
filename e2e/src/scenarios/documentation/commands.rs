//! The commands that pages show, against those that are run. A command that is new in a page is a failure here until somebody runs it.

use super::{PAGES, STORY, manifests, page::Page, reader::Line};
use crate::scenarios::common_issues;

/// What a command begins with. Others (`make`, `helm`, `cargo`) are not about a gateway.
const PROGRAMS: [&str; 2] = ["kubectl ", "curl "];
/// How a comment behind a command begins.
const COMMENT: &str = "  #";

/// Commands that nobody runs here, and why.
const NOT_RUN: &[(&str, &str)] = &[
    (
        "kubectl exec -n llm deploy/example-app -- node app.mjs --once 400",
        "the application is what `make up` starts; that sends its requests in this way",
    ),
    ("kubectl top pods -n llm -l app.kubernetes.io/instance=ai", "it needs a metrics server, as the page says"),
    ("kubectl bifrost lint -f FILE", "a name stands for a file; every manifest is linted"),
    ("kubectl describe", "a sentence names the command"),
    ("kubectl scale", "a sentence names the command"),
];

/// A page's commands: of code blocks, of code in tables and sentences, and for a manifest those of its comments.
fn commands(page: &Page) -> Vec<String> {
    let mut commands = Vec::new();
    if page.is_manifest() {
        let comments = page.text.lines().filter_map(|line| line.trim_start().strip_prefix("#  "));
        commands.extend(comments.map(one));
    } else {
        let (blocks, prose) = page.parts();
        commands.extend(blocks.iter().filter(|(language, _)| *language == "sh").flat_map(|(_, block)| scripts(block)));
        // Every second piece between backticks is code.
        commands.extend(prose.split('`').skip(1).step_by(2).map(one));
    }
    let calls = |command: &String| PROGRAMS.iter().any(|program| command.contains(program));
    let begins = |command: &String| PROGRAMS.iter().any(|program| command.starts_with(program));
    commands.retain(|command| begins(command) || calls(command) && needs_others(command));
    commands
}

/// A block's commands: one a line, but all of it where lines need each other.
fn scripts(block: &str) -> Vec<String> {
    let joined = block.split("\\\n").map(|part| part.trim_matches(' ')).collect::<Vec<_>>().join(" ");
    let lines: Vec<_> = joined.lines().map(one).filter(|line| !line.is_empty()).collect();
    if lines.iter().any(|line| needs_others(line)) { vec![lines.join("\n")] } else { lines }
}

/// A loop, or a variable that is set.
fn needs_others(line: &str) -> bool {
    let variable = line.split_once('=').map(|(name, _)| name);
    line.starts_with("for ") || variable.is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_lowercase()))
}

/// A command on one line, without a comment behind it.
fn one(text: &str) -> String {
    let joined = text.lines().map(str::trim).collect::<Vec<_>>().join(" ");
    joined.split_once(COMMENT).map_or(joined.as_str(), |(command, _)| command).trim_end().to_owned()
}

#[test]
fn every_command_of_a_page_is_run_and_no_other() {
    let pages = || PAGES.iter().chain(manifests::EXAMPLES);
    let shown: Vec<_> = pages().flat_map(|page| commands(page).into_iter().map(|one| (page.path, one))).collect();
    let run: Vec<_> = STORY.iter().chain(common_issues::STORY).copied().flatten().filter_map(Line::of_page).collect();
    let known: Vec<_> = run.into_iter().chain(NOT_RUN.iter().map(|(command, _)| *command)).collect();
    let missing: Vec<_> = shown.iter().filter(|(_, command)| !known.contains(&command.as_str())).collect();
    assert!(missing.is_empty(), "nobody runs these, so add them to a story here or in common_issues.rs: {missing:#?}");
    let extra: Vec<_> = known.iter().filter(|known| !shown.iter().any(|(_, command)| command == *known)).collect();
    assert!(extra.is_empty(), "no page shows {extra:#?}");
}

#[test]
fn every_line_has_something_to_look_for() {
    for line in STORY.iter().chain(common_issues::STORY).copied().flatten() {
        assert!(!line.wanted().is_empty(), "{line:?}");
    }
}

#[test]
fn commands_of_blocks_tables_and_sentences_are_found() {
    let text = "Say `kubectl bifrost abort\nai -n llm`, or `promote`.\n\n| a | `kubectl get bgw` |\n\n```sh\nmake up\n\
                curl -i 'a  b' \\\n  -d '{\"a\": 1}'   # what\n```\n\n```yaml\n# kubectl no\n```\n";
    let wanted = ["curl -i 'a  b' -d '{\"a\": 1}'", "kubectl bifrost abort ai -n llm", "kubectl get bgw"];
    assert_eq!(commands(&Page { path: "a.md", text }), wanted);
}

#[test]
fn lines_that_need_each_other_are_one_command() {
    let text = "```sh\nrevision=$(kubectl get bgw)\nkubectl annotate a=$revision\n```\n\
                ```sh\nfor a in b c; do\n  curl $a\ndone\ndiff b c\n```\n```sh\nkubectl get a=b\nkubectl get c\n```\n";
    let wanted = [
        "revision=$(kubectl get bgw)\nkubectl annotate a=$revision",
        "for a in b c; do\ncurl $a\ndone\ndiff b c",
        "kubectl get a=b",
        "kubectl get c",
    ];
    assert_eq!(commands(&Page { path: "a.md", text }), wanted);
}

#[test]
fn comments_of_a_manifest_are_commands() {
    let text = "# What kubectl does\n#\n#   kubectl apply -f a.yaml\nkind: A\n  #   kubectl get a\n";
    assert_eq!(commands(&Page { path: "a.yaml", text }), ["kubectl apply -f a.yaml", "kubectl get a"]);
}
