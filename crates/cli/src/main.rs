//! The `roundelay` command.

mod args;
mod bench;
mod demo;
mod failure;
mod files;
mod generator;
mod gossip;
mod input;
mod multicast;
mod outbox;
mod output;
mod program;
mod shutdown;
mod sim;
mod terminal;
mod tokenring;
mod words;

use args::{Cli, Command, Format, Program};
use clap::Parser;
use failure::Usage;
use input::Input;
use output::Output;
use program::Stage;
use shutdown::Shutdown;
use std::{
    io::{self, IsTerminal, Write},
    process::ExitCode,
};
use terminal::Terminal;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let terminal = Terminal::find();
    let ended = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| {
            let ended = runtime.block_on(run(cli.command, &terminal));
            // A look-up in the background may take long, and nobody needs it any more.
            runtime.shutdown_background();
            ended
        });
    terminal.restore();
    match ended {
        Ok(code) => code,
        Err(error) => {
            // Without stderr there is nobody to tell.
            let _ = writeln!(io::stderr(), "error: {}", output::escape(&format!("{error:#}")));
            failure::exit_code(&error)
        }
    }
}

/// Runs a command to its end.
async fn run(command: Command, terminal: &Terminal) -> anyhow::Result<ExitCode> {
    let program = match command {
        Command::Program(program) => program,
        Command::Demo(args) => return demonstrate(args, terminal).await,
        Command::Sim(args) => {
            let shutdown = Shutdown::new();
            shutdown.on_signals(terminal.exists())?;
            log_to(None)?;
            return sim::run(args.command, shutdown).await;
        }
        Command::Bench(args) => {
            let shutdown = Shutdown::new();
            shutdown.on_signals(terminal.exists())?;
            log_to(None)?;
            return bench::run(args, shutdown).await;
        }
    };
    let shutdown = Shutdown::new();
    shutdown.on_signals(terminal.exists())?;
    let format = match &program {
        Program::Tokenring(args) => args.shared.output.format,
        Program::Gossip(args) => args.shared.output.format,
        Program::Multicast(args) => args.shared.output.format,
        Program::DemoNode(_) => Format::Json,
    };
    let (input, printer) = Input::start(format, terminal);
    let edited = printer.is_some();
    let output = Output::start(format, printer, shutdown.clone());
    log_to(edited.then(|| output.clone()))?;
    let stage = Stage { input, output: output.clone(), shutdown, stopped: false };
    let ended = match program {
        Program::Tokenring(args) => tokenring::run(args, stage).await,
        Program::Gossip(args) => gossip::run(args, stage).await,
        Program::Multicast(args) => multicast::run(args, stage).await,
        Program::DemoNode(args) => demo::node::run(args, stage).await,
    };
    let ended = ended.map(|()| ExitCode::SUCCESS);
    tell(ended, &output).await
}

async fn demonstrate(args: args::Demo, terminal: &Terminal) -> anyhow::Result<ExitCode> {
    let shutdown = Shutdown::new();
    shutdown.on_signals(terminal.exists())?;
    let output = Output::start(args.output.format, None, shutdown.clone());
    log_to(None)?;
    let watched = terminal.exists() && io::stdout().is_terminal();
    let ended = demo::run(args, output.clone(), shutdown, watched).await;
    tell(ended, &output).await
}

/// Tells who reads only stdout what went wrong, and lets everything be written.
async fn tell(ended: anyhow::Result<ExitCode>, output: &Output) -> anyhow::Result<ExitCode> {
    if let Err(error) = &ended
        && !output.is_human()
    {
        output.error(format!("{error:#}")).await;
    }
    output.hurry();
    output.flush().await;
    ended
}

/// Sends log lines to stderr, or above the line that is being typed.
fn log_to(edited: Option<Output>) -> Result<(), Usage> {
    let wanted = ["ROUNDELAY_LOG", "RUST_LOG"].into_iter().find_map(|name| {
        let value = std::env::var(name).ok().filter(|value| !value.is_empty())?;
        Some((name, value))
    });
    let filter = match wanted {
        None => EnvFilter::new("warn"),
        Some((name, value)) => EnvFilter::try_new(&value).map_err(|error| {
            Usage(format!("{name}={value} is no log filter: {error}; try {name}=info"))
        })?,
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_target(false);
    if let Some(output) = edited {
        builder.with_ansi(false).with_writer(move || output.log()).init();
    } else {
        let colored = io::stderr().is_terminal();
        builder.with_ansi(colored).with_writer(io::stderr).init();
    }
    Ok(())
}
