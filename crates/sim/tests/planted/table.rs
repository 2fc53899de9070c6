//! The tables of `docs/testing.md`, made from what is tested: so they cannot say anything else.

use crate::{lock, rows};
use roundelay_core::planted::Bug;
use roundelay_sim::invariant::Invariants;
use std::{env, fmt::Write as _, fs, path::Path};

const BEGIN: &str = "<!-- made by a test from here: UPDATE_DOCS=1 cargo test -p roundelay-sim \
                     --test planted tables -->\n";
const END: &str = "<!-- to here -->\n";

#[test]
fn the_tables_in_the_documentation_are_true() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/testing.md");
    let text = fs::read_to_string(&path).expect("the documentation is there");
    let (before, rest) = text.split_once(BEGIN).expect("the beginning is marked");
    let (tables, after) = rest.split_once(END).expect("the end is marked");
    let made = format!("{}\n{}", properties(), bugs());
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, format!("{before}{BEGIN}{made}{END}{after}")).expect("it can be written");
        return;
    }
    assert!(
        tables == made,
        "docs/testing.md is out of date: UPDATE_DOCS=1 cargo test -p roundelay-sim --test planted \
         tables"
    );
}

/// What must never happen, and which bugs prove that it would be seen.
fn properties() -> String {
    let mut table = String::from(
        "| invariant | promised in | paper | planted bugs that break it |\n|---|---|---|---|\n",
    );
    for [name, source, paper] in Invariants::properties() {
        let breaks = format!("breaks {name}");
        let found = rows().filter(|row| row.found == breaks);
        let bugs: Vec<String> = found.map(|row| format!("`{:?}`", row.bug)).collect();
        let bugs = if bugs.is_empty() { "a bent node".into() } else { bugs.join(", ") };
        let file = format!("[`{name}`](../crates/sim/src/invariant/{name}.rs)");
        let _ = writeln!(table, "| {file} | {source} | {paper} | {bugs} |");
    }
    table
}

/// What is left out, and who notices.
fn bugs() -> String {
    let mut table = String::from("| bug | the rule without which it is | found by | seeds |\n");
    table.push_str("|---|---|---|---|\n");
    for bug in Bug::ALL {
        let row = rows().find(|row| row.bug == *bug);
        let open = lock::NOT_FOUND_YET.contains(bug);
        let known = row.is_some() || open || lock::SHOWN_BY_STEPS.contains(bug);
        assert!(known, "every bug has a test");
        let without = if open { "nothing yet" } else { "one interleaving, step by step" };
        let found = row.map_or(without.into(), |row| words(row.found));
        let seeds = row.map_or("too rare".into(), |row| format!("< {}", row.seeds));
        let _ = writeln!(table, "| `{bug:?}` | {} | {found} | {seeds} |", bug.rule().trim());
    }
    table
}

/// Who finds a bug, for people.
fn words(found: &str) -> String {
    match found.split_once(' ') {
        Some(("breaks", invariant)) => format!("`{invariant}`"),
        Some(("never_reaches", what)) => format!("never reached: \"… {what} …\""),
        Some(("never_rests", what)) => format!("never quiet: {what}"),
        _ => unreachable!("there are three ways to be found"),
    }
}
