//! What docs/kubectl-plugin.md shows is what the commands print: the golden files stand in it word for word.

use std::fs;
use std::path::Path;

const SHOWN: [&str; 11] = [
    "src/snapshots/kubectl_bifrost__status__tests__a_canary_on_its_way.snap",
    "src/snapshots/kubectl_bifrost__status__tests__a_rollback_says_why_and_what_to_do.snap",
    "src/snapshots/kubectl_bifrost__status__tests__a_candidate_stands_beside_the_stable_revision.snap",
    "src/snapshots/kubectl_bifrost__history__tests__revisions_are_listed_with_what_they_are_now.snap",
    "src/snapshots/kubectl_bifrost__undo__tests__what_changes_is_shown.snap",
    "src/snapshots/kubectl_bifrost__keys__tests__each_key_says_what_became_of_it.snap",
    "src/snapshots/kubectl_bifrost__analysis__tests__checks_are_a_table.snap",
    "src/snapshots/kubectl_bifrost__preflight__tests__when_all_of_it_has_moved.snap",
    "src/snapshots/kubectl_bifrost__offline__tests__all_problems_are_told_at_once_with_file_and_path.snap",
    "src/snapshots/kubectl_bifrost__import__tests__a_lite_llm_config.snap",
    "src/bench/snapshots/kubectl_bifrost__bench__figures__tests__both_ways_and_their_difference.snap",
];

#[test]
fn the_manual_shows_what_the_commands_print() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manual = fs::read_to_string(root.join("../docs/kubectl-plugin.md")).unwrap();
    for file in SHOWN {
        let golden = fs::read_to_string(root.join(file)).unwrap();
        let (_, text) = golden.split_once("\n---\n").unwrap();
        // Of an import only what goes to standard error is shown.
        let text = text.split_once("---- standard error ----\n").map_or(text, |(_, lines)| lines);
        assert!(manual.contains(text.trim_end()), "{file} is not what docs/kubectl-plugin.md shows:\n{text}");
    }
}
