//! The `roundelay` command.

mod args;
mod failure;
mod files;
mod input;
mod output;
mod shutdown;
mod terminal;

use clap::Parser;

fn main() {
    let _ = args::Cli::parse();
}
