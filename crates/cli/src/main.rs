//! The `roundelay` command.

mod args;
mod failure;
mod files;

use clap::Parser;

fn main() {
    let _ = args::Cli::parse();
}
