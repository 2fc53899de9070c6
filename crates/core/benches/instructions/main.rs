//! Counts the instructions of the core's paths, and compares with what was counted before.
//!
//! A group of nodes works in this process; what one of them hears is taken down and told to a copy
//! of it once more, under valgrind, which counts what the node executes meanwhile. There is no
//! clock and no chance in it: the figures are the same on every machine of a kind, busy or not, and
//! depend on nothing but the code, its compiler and the allocator.
//!
//! ```text
//! make instructions                            compares: a path may differ by two per cent
//! UPDATE_INSTRUCTIONS=1 make instructions      writes the figures down
//! ```

#![expect(clippy::print_stdout, reason = "it prints a table")]

mod network;
mod paths;

use paths::{PATHS, Path};
use roundelay_core::{
    node::Node,
    protocol::{Context, EffectOf, Protocol as _, Rng},
};
use std::{
    collections::BTreeMap,
    env, fs,
    hint::black_box,
    process::{Command, ExitCode},
};

/// Where the figures are kept.
const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions.txt");

/// How much a path may differ, in thousandths.
const TOLERANCE: u64 = 20;

fn main() -> ExitCode {
    let mut args = env::args().skip(1);
    if args.next().as_deref() == Some("--count") {
        let name = args.next().expect("--count is followed by a path");
        let path = PATHS.iter().find(|path| path.name == name).expect("it is one of the paths");
        execute(path);
        return ExitCode::SUCCESS;
    }
    let counted: Vec<(&str, u64)> = PATHS.iter().map(|path| (path.name, count(path))).collect();
    if env::var_os("UPDATE_INSTRUCTIONS").is_some() {
        fs::write(FILE, written(&counted)).expect("the figures can be written");
    }
    compare(&counted)
}

/// Prints the table. A failure if a path differs by too much, and the compiler is the same.
fn compare(counted: &[(&str, u64)]) -> ExitCode {
    let text = fs::read_to_string(FILE).unwrap_or_default();
    let (compiler, figures) = read(&text);
    println!("{:44} {:>12} {:>12} {:>8}", "path", "instructions", "checked in", "");
    let mut differs = false;
    for (name, now) in counted {
        let Some(before) = figures.get(name) else {
            println!("{name:44} {now:>12} {:>12} {:>8}", "-", "new");
            differs = true;
            continue;
        };
        let off = now.abs_diff(*before) * 1000 > before * TOLERANCE;
        differs |= off;
        let change = per_cent(*now, *before);
        println!("{name:44} {now:>12} {before:>12} {change:>+7.1}%{}", if off { " !" } else { "" });
    }
    if compiler != rustc() {
        println!("\nThe figures checked in are those of another compiler, so nothing is compared:");
        println!("  {compiler}, and this is {}", rustc());
        return ExitCode::SUCCESS;
    }
    if differs {
        println!("\nSomething differs by more than {}.{} %.", TOLERANCE / 10, TOLERANCE % 10);
        println!("If that is meant: UPDATE_INSTRUCTIONS=1 make instructions");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

#[expect(clippy::cast_precision_loss, reason = "paths are short")]
fn per_cent(now: u64, before: u64) -> f64 {
    (now as f64 / before as f64 - 1.0) * 100.0
}

/// The file of the figures: the compiler, and a line for each path.
fn written(counted: &[(&str, u64)]) -> String {
    let lines = counted.iter().map(|(name, count)| format!("{name}\t{count}"));
    let lines: Vec<String> = [format!("compiler\t{}", rustc())].into_iter().chain(lines).collect();
    lines.join("\n") + "\n"
}

fn read(text: &str) -> (&str, BTreeMap<&str, u64>) {
    let mut lines = text.lines().filter_map(|line| line.split_once('\t'));
    let compiler = lines.next().map_or("no compiler", |(_, version)| version);
    (compiler, lines.filter_map(|(name, count)| Some((name, count.parse().ok()?))).collect())
}

fn rustc() -> String {
    let rustc = env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let version = Command::new(rustc).arg("--version").output().expect("rustc is at hand");
    String::from_utf8_lossy(&version.stdout).trim().to_owned()
}

/// The instructions of one operation, counted by valgrind in a process of its own.
fn count(path: &Path) -> u64 {
    let this = env::current_exe().expect("this program has a path");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg("--toggle-collect=*counted_input*")
        .arg(this)
        .args(["--count", path.name])
        .output()
        .expect("valgrind is installed");
    let (told, count) =
        (String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
    let collected =
        told.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok());
    let collected: u64 =
        collected.unwrap_or_else(|| panic!("valgrind has counted nothing:\n{told}"));
    let operations: u64 = count.trim().parse().unwrap_or_else(|_| panic!("it has failed:\n{told}"));
    assert!(collected > 0, "{} executes nothing", path.name);
    (collected + operations / 2) / operations
}

/// Tells a node all of its inputs, and prints how many operations of the path they were.
fn execute(path: &Path) {
    let work = path.work();
    let (mut node, mut rng) = (work.node, rand_core::SeedableRng::seed_from_u64(1));
    let mut effects: Vec<EffectOf<Node>> = Vec::with_capacity(1024);
    let mut inputs = 0;
    for arrival in work.inputs {
        if (path.has)(&arrival.1) {
            inputs += 1;
            counted_input(&mut node, arrival, &mut rng, &mut effects);
        } else {
            other_input(&mut node, arrival, &mut rng, &mut effects);
        }
        effects.clear();
    }
    assert!(inputs > 0, "no input is of the path");
    println!("{}", if path.per_round { work.operations } else { inputs });
}

/// An input of the path: what is executed in here is counted.
#[inline(never)]
fn counted_input(
    node: &mut Node,
    (now, input): network::Arrival,
    rng: &mut Rng,
    effects: &mut Vec<EffectOf<Node>>,
) {
    node.handle(input, &mut Context::new(now, rng, effects));
    black_box("counted");
}

/// Any other input.
#[inline(never)]
fn other_input(
    node: &mut Node,
    (now, input): network::Arrival,
    rng: &mut Rng,
    effects: &mut Vec<EffectOf<Node>>,
) {
    node.handle(input, &mut Context::new(now, rng, effects));
    black_box("not");
}
