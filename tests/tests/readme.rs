//! README.md is run: each block fenced as `sh` is one script that must succeed; what is fenced otherwise is not.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::time::Duration;

use agent_tests::scripts::{run, tree};
use agent_tests::skip;

/// One block: the first may have to build everything.
const DEADLINE: Duration = Duration::from_secs(600);

/// A block of a Markdown text: the number of its first line, and the lines.
type Block = (usize, String);

/// The blocks fenced with ```` ```sh ````, and nothing after the word.
fn blocks(markdown: &str) -> Vec<Block> {
    let (mut blocks, mut open): (Vec<Block>, Option<bool>) = (Vec::new(), None);
    for (index, line) in markdown.lines().enumerate() {
        match (open, line.trim_start().strip_prefix("```")) {
            (Some(_), Some(_)) => open = None,
            (None, Some(word)) => {
                open = Some(word.trim() == "sh");
                if open == Some(true) {
                    blocks.push((index + 2, String::new()));
                }
            }
            (Some(true), None) => {
                if let Some((_, text)) = blocks.last_mut() {
                    text.push_str(line);
                    text.push('\n');
                }
            }
            _ => {}
        }
    }
    blocks
}

#[test]
fn only_sh_blocks_are_run() {
    let text = "a\n```sh\none\n  two\n```\n```text\nthree\n```\n```sh\n```\n```\nfour\n```\n";
    assert_eq!(blocks(text), [(3, "one\n  two\n".to_owned()), (10, String::new())]);
}

/// `scripts/test.sh` in a block only lists its steps, as it finds `AGENT_TEST_LIST`: this test is one of them.
#[test]
fn every_command_of_the_readme_succeeds() {
    let test = "every_command_of_the_readme_succeeds";
    let Ok(readme) = fs::read_to_string(tree().join("README.md")) else {
        return skip(test, "there is no README.md");
    };
    let before = names();
    let all = blocks(&readme);
    assert!(!all.is_empty(), "README.md has no block fenced as sh");
    for (line, block) in all {
        if block.lines().any(|l| l.trim_start().starts_with("cargo ")) && !has_cargo() {
            skip(test, &format!("README.md:{line}: no cargo in PATH that reads this workspace"));
            continue;
        }
        let mut command = Command::new("sh");
        command.args(["-eux", "-c", &block]).current_dir(tree()).env("AGENT_TEST_LIST", "1");
        let output = run(command, DEADLINE).unwrap();
        assert!(
            output.status.success(),
            "README.md:{line}: {}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let left: Vec<_> = names().difference(&before).cloned().collect();
    assert!(left.is_empty(), "the commands leave files behind: {left:?}");
}

/// A cargo of this workspace's edition: a distribution's may be older.
fn has_cargo() -> bool {
    let mut cargo = Command::new("cargo");
    cargo.args(["metadata", "--no-deps", "--offline", "--format-version", "1"]);
    cargo.current_dir(tree()).output().is_ok_and(|output| output.status.success())
}

/// What the tree holds at its top, but for what cargo makes.
fn names() -> BTreeSet<String> {
    let entries = fs::read_dir(tree()).unwrap().map(|e| e.unwrap().file_name());
    entries.map(|name| name.to_string_lossy().into_owned()).filter(|n| n != "target").collect()
}

/// SECURITY.md names tests as `file::test`: each is there.
#[test] // seen to fail with a name that is not
fn every_test_that_security_names_is_there() {
    let page = fs::read_to_string(tree().join("SECURITY.md")).unwrap();
    let named: Vec<_> = page.split('`').filter_map(|word| word.split_once("::")).collect();
    assert!(named.len() > 30, "{named:?}");
    for (file, test) in named {
        let text =
            fs::read_to_string(tree().join(format!("tests/tests/{file}.rs"))).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        let at = lines.iter().position(|line| *line == format!("fn {test}() {{"));
        let is_test = at.is_some_and(|at| lines[at - 1].starts_with("#[test]"));
        assert!(is_test, "{file}::{test}");
    }
}
