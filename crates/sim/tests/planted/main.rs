//! Rules left out on purpose: a check that never failed proves nothing.
//!
//! Each [`Bug`] has a test, in the file of its protocol, which names the invariant or the goal that
//! must find it and within how many seeds. A run that gets stuck, panics or breaks something else
//! finds nothing. What no rule of a core can break is bent from outside (`bent`).
//!
//! ```text
//! cargo test -p roundelay-sim --test planted -- --nocapture      which seed finds which bug
//! BUG=NoMajority PARTS=order SEED=3 cargo test -p roundelay-sim --test planted one_seed \
//!     -- --nocapture                                             one run, as a story
//! ```

mod bent;
mod gossip;
mod lock;
mod order;
mod table;

use roundelay_core::{node::Node, planted::Bug};
use roundelay_sim::{
    Scenario,
    scenario::{Parts, Selection},
    storm::{self, Failure},
    trace,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// One test for each bug of a protocol, and the list of these bugs. The runs have only the parts
/// of the nodes that matter.
macro_rules! planted {
    (
        in runs with $parts:expr;
        $($test:ident: $bug:ident $is_found:ident $what:literal within $seeds:literal seeds,)*
    ) => {
        pub(crate) const TESTED: &[crate::Row] = &[$(crate::Row {
            bug: Bug::$bug,
            found: concat!(stringify!($is_found), " ", $what),
            seeds: $seeds,
        }),*];

        $(
            #[test]
            fn $test() {
                println!("{}", crate::$is_found(Bug::$bug, $parts, $seeds, $what));
            }
        )*
    };
}
pub(crate) use planted;

/// Who finds a bug, within how many seeds.
#[derive(Clone, Copy, Debug)]
struct Row {
    bug: Bug,
    found: &'static str,
    seeds: u64,
}

fn rows() -> impl Iterator<Item = &'static Row> {
    [lock::TESTED, order::TESTED, gossip::TESTED].into_iter().flatten()
}

#[test]
fn every_bug_has_a_test() {
    let tested = rows().map(|row| &row.bug).chain(lock::SHOWN_BY_STEPS);
    let tested = tested.chain(lock::NOT_FOUND_YET);
    let tested: BTreeSet<Bug> = tested.copied().collect();
    let untested: Vec<&Bug> = Bug::ALL.iter().filter(|bug| !tested.contains(bug)).collect();
    assert!(untested.is_empty(), "no test says who finds {untested:?}");
}

/// Prints the run of `SEED` with `BUG` planted, if they are given.
#[test]
fn one_seed() {
    let (Ok(seed), Ok(bug)) = (env::var("SEED"), env::var("BUG")) else { return };
    let parts = env::var("PARTS").map_or(Parts::ALL, |text| {
        let has = |part| text.split(',').any(|listed| listed == part);
        Parts { lock: has("lock"), order: has("order"), gossip: has("gossip") }
    });
    let bug = Bug::ALL.iter().find(|listed| format!("{listed:?}") == bug);
    let bug = bug.unwrap_or_else(|| panic!("BUG is one of {:?}", Bug::ALL));
    let scenario = planted_in(*bug, parts, seed.parse().expect("SEED is a number"));
    println!("{}", trace::heading(&scenario, &scenario.ingredients()));
    let result = storm::run::<Node>(&scenario, &mut |step| {
        println!("{}", trace::tell(&scenario, step));
    });
    println!("{result:?}");
}

/// Says what finds which bug, and how often, in `SURVEY` seeds for each of `BUGS`, or of all.
#[test]
fn survey() {
    let Ok(seeds) = env::var("SURVEY") else { return };
    let seeds: u64 = seeds.parse().expect("SURVEY is a number");
    let listed = env::var("BUGS").ok();
    let is_listed = |bug: &&Bug| {
        let name = format!("{bug:?}");
        listed.as_ref().is_none_or(|listed| listed.split(',').any(|one| one == name))
    };
    let parts = env::var("PARTS").map_or(Parts::ALL, |text| {
        let has = |part| text.split(',').any(|listed| listed == part);
        Parts { lock: has("lock"), order: has("order"), gossip: has("gossip") }
    });
    for bug in Bug::ALL.iter().filter(is_listed) {
        let mut found: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        for seed in 0..seeds {
            let scenario = planted_in(*bug, parts, seed);
            let Err(failure) = roundelay_sim::attempt::<Node>(&scenario, &mut |_| ()) else {
                continue;
            };
            let count = found.entry(failure.promise().to_owned()).or_insert((seed, 0));
            count.1 += 1;
        }
        println!("{bug:?}: {found:?}");
    }
}

/// The invariant of this name must be found broken.
#[track_caller]
fn breaks(bug: Bug, parts: Parts, seeds: u64, invariant: &str) -> String {
    find(bug, parts, seeds, invariant, |failure| match failure {
        Failure::Violation { violation, .. } => violation.invariant == invariant,
        _ => false,
    })
}

/// Something must be left open after the storm, with `words` in what it is.
#[track_caller]
fn never_reaches(bug: Bug, parts: Parts, seeds: u64, words: &str) -> String {
    find(bug, parts, seeds, words, |failure| match failure {
        Failure::Unreached(open) => open.iter().any(|open| open.what.contains(words)),
        _ => false,
    })
}

/// When all is done, messages with `words` in them must go on.
#[track_caller]
fn never_rests(bug: Bug, parts: Parts, seeds: u64, words: &str) -> String {
    find(bug, parts, seeds, words, |failure| match failure {
        Failure::Restless { message, .. } => message.contains(words),
        _ => false,
    })
}

/// Plants the bug in one run after the other until a run fails in the right way, and says how.
#[track_caller]
fn find(
    bug: Bug,
    parts: Parts,
    seeds: u64,
    what: &str,
    is_right: impl Fn(&Failure) -> bool,
) -> String {
    let mut others: Vec<String> = Vec::new();
    for seed in 0..seeds {
        let scenario = planted_in(bug, parts, seed);
        // What is unsafe may as well run into an assertion of a core.
        let run = AssertUnwindSafe(|| storm::run::<Node>(&scenario, &mut |_| ()));
        match catch_unwind(run) {
            Ok(Err(failure)) if is_right(&failure) => {
                return format!("{bug:?}, seed {seed} of {seeds}: {failure}");
            }
            Ok(Err(failure)) => others.push(format!("seed {seed}: {failure}")),
            Ok(Ok(_)) => {}
            Err(_) => others.push(format!("seed {seed} panics")),
        }
    }
    others.truncate(5);
    panic!("{seeds} seeds have not found {bug:?} by {what}, but {others:#?}");
}

fn planted_in(bug: Bug, parts: Parts, seed: u64) -> Scenario {
    let mut scenario = Scenario::with(seed, Selection { parts, nodes: None });
    scenario.settings.planted = Some(bug);
    scenario
}
