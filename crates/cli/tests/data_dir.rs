//! `--data-dir`: what it keeps, and what people get wrong about it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod process;

use process::{Dir, Ended, Process, SOON, free_ports, run};
use std::fs;

/// A directory with files for `p1` and `p2`, each a group of its own as far as this test goes.
fn dir() -> Dir {
    let dir = Dir::new();
    let [a, b] = free_ports();
    dir.machines(&[("p1", a), ("p2", b)]);
    dir.peers(&[("p1", a), ("p2", b)]);
    dir
}

fn tokenring<'a>(name: &'a str, data: &'a str) -> [&'a str; 9] {
    ["tokenring", "--name", name, "--next", name, "--output", "json", "--data-dir", data]
}

/// Runs the program, and checks that it ends with this code and one error that says `reasons`.
fn refused(dir: &Dir, args: &[&str], code: i32, reasons: &[&str]) {
    let Ended { code: ended, stderr, .. } = run(dir, args, "");
    assert_eq!(ended, Some(code), "{args:?}: {stderr}");
    assert_eq!(stderr.matches("error: ").count(), 1, "{args:?}: {stderr}");
    assert_eq!(stderr.lines().count(), 1, "{args:?}: {stderr}");
    for reason in reasons {
        assert!(stderr.contains(reason), "{reason:?} is missing: {stderr}");
    }
}

#[test]
fn a_directory_is_one_processs_and_one_nodes() {
    let dir = dir();
    let mut first = Process::start(&dir, &tokenring("p1", "of/p1"));
    first.wait_for("ready");
    assert!(dir.path().join("of/p1/view.redb").exists());
    let in_use = ["the data directory of/p1 is in use by another process"];
    refused(&dir, &tokenring("p1", "of/p1"), 2, &in_use);
    refused(&dir, &["multicast", "p2", "--no-generate", "--data-dir", "of/p1"], 2, &in_use);
    // Killed, so that it leaves everything as it is.
    first.signal("KILL");
    first.wait_end(SOON);
    let other = ["the data directory of/p1 belongs to the node p1, not to p2"];
    refused(&dir, &tokenring("p2", "of/p1"), 2, &other);
    let mut again = Process::start(&dir, &tokenring("p1", "of/p1"));
    again.wait_for("ready");
    again.end_input();
    assert_eq!(again.wait_end(SOON).0, Some(0));
}

#[test]
fn a_directory_that_cannot_be_used_is_named() {
    let dir = dir();
    dir.write("file", "not a directory");
    let reasons = ["--data-dir: cannot create the data directory file"];
    refused(&dir, &tokenring("p1", "file"), 2, &reasons);
    let reasons = ["--data-dir: cannot create the data directory file/p1"];
    refused(&dir, &["multicast", "p1", "--no-generate", "--data-dir", "file/p1"], 2, &reasons);

    fs::create_dir(dir.path().join("p1")).unwrap();
    dir.write("p1/view.redb", "this is no record");
    let reasons = ["p1/view.redb is damaged, ", "move the data directory away and start anew"];
    refused(&dir, &tokenring("p1", "p1"), 1, &reasons);

    // What may not be written: whoever runs this may be allowed everything.
    let locked = dir.path().join("locked");
    fs::create_dir(&locked).unwrap();
    let mut permissions = fs::metadata(&locked).unwrap().permissions();
    permissions.set_readonly(true);
    fs::set_permissions(&locked, permissions).unwrap();
    if fs::write(locked.join("probe"), "").is_err() {
        let reasons = ["--data-dir: cannot write locked/lock: "];
        refused(&dir, &tokenring("p1", "locked"), 2, &reasons);
    }
}

#[test]
fn gossip_has_no_view_to_keep() {
    let dir = dir();
    let args = ["gossip", "--name", "p1", "--neighbors", "", "--data-dir", "p1"];
    let Ended { code, stderr, .. } = run(&dir, &args, "");
    assert_eq!(code, Some(2), "{stderr}");
    assert!(stderr.contains("unexpected argument '--data-dir'"), "{stderr}");
}
