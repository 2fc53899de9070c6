//! Golden transcripts: short runs that one can read as stories.
//!
//! Each `*.txt` beside this file is a story: a comment that says what is shown, a script, a line of
//! dashes, and the transcript that the script must lead to. The language of the scripts is in
//! `script.rs`. A transcript has a line for each command (`?`), message (`>`), event (`!`) and
//! fault (`~`), with the virtual time. The invariants are checked here, too.
//!
//! ```text
//! cargo test -p roundelay-sim --test golden
//! UPDATE_GOLDEN=1 cargo test -p roundelay-sim --test golden      writes the transcripts anew
//! ```
//!
//! (After etcd-io/raft, whose `testdata` can be read like that.)

mod diff;
mod play;
mod script;
mod words;

use script::Script;
use std::{
    env, fs,
    path::{Path, PathBuf},
};

const RULE: &str = "----------------------------------------";
/// A longer story is not read.
const LINES_MAX: usize = 45;

#[test]
fn every_story_goes_as_it_is_told() {
    let update = env::var_os("UPDATE_GOLDEN").is_some();
    let stories = stories();
    assert!(stories.len() >= 12, "only {} stories", stories.len());
    let wrong: Vec<String> = stories.iter().filter_map(|path| check(path, update).err()).collect();
    assert!(
        wrong.is_empty(),
        "{}\nIf this is how the stories should go now:\n  \
         UPDATE_GOLDEN=1 cargo test -p roundelay-sim --test golden\nand read the diff.",
        wrong.join("\n")
    );
}

fn stories() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let entries = fs::read_dir(folder).expect("this folder").map_while(Result::ok);
    let paths = entries.map(|entry| entry.path());
    let mut stories: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|end| end == "txt")).collect();
    stories.sort();
    stories
}

/// Plays a story and compares, or else writes it anew.
fn check(path: &Path, update: bool) -> Result<(), String> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let text = fs::read_to_string(path).map_err(|error| format!("{name}: {error}"))?;
    let (script, told) = match text.split_once(&format!("{RULE}\n")) {
        Some(halves) => halves,
        None if update => (text.as_str(), ""),
        None => return Err(format!("{name} has no transcript")),
    };
    let transcript = tell(script).map_err(|error| format!("{name}: {error}"))?;
    let lines = transcript.lines().count();
    if !(3..=LINES_MAX).contains(&lines) {
        return Err(format!("{name}: {lines} lines\n{transcript}"));
    }
    if update {
        let story = format!("{script}{RULE}\n{transcript}");
        return fs::write(path, story).map_err(|error| format!("{name}: {error}"));
    }
    match diff::lines(told, &transcript) {
        None => Ok(()),
        Some(diff) => Err(format!("{name} goes another way (- told, + happened):\n{diff}")),
    }
}

/// The transcript of a script.
fn tell(script: &str) -> Result<String, String> {
    play::transcript(&Script::parse(script)?)
}

#[test]
fn a_line_that_says_nothing_is_refused() {
    let error = |lines: &str| tell(&format!("# What is shown.\nnodes p1 p2\n{lines}")).unwrap_err();
    assert!(error("at 1s p1: dance").contains("line 3: at 1s p1: dance"));
    assert!(error("at 1s p3: leave").contains("p3"));
    assert!(error("at soon p1: leave").contains("soon"));
    assert!(error("part lock\nuntil 1s").contains("line 3: part lock"));
    assert!(error("at 1s p1: leave").contains("until"));
    assert!(tell("nodes p1\nuntil 1s").unwrap_err().contains("comment"));
}

#[test]
fn the_same_script_is_the_same_story() {
    let script = "# Two nodes.\nnodes p1 p2\nparts lock\nshow lock\nfounded by p1\n\
                  at 1s p2: lock default\nuntil 2s\n";
    let story = tell(script).unwrap();
    assert_eq!(tell(script).unwrap(), story);
    assert!(story.contains("p2 ! granted default, fence 1"), "{story}");
}
