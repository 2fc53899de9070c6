//! The command line.

pub(crate) mod bench;
pub(crate) mod sim;

use crate::failure::Usage;
use clap::{Args, Parser, Subcommand, ValueEnum, builder::ArgPredicate};
use std::{path::PathBuf, time::Duration};

/// The longest time that a flag may give: longer ones are mistakes.
const DURATION_MAX: Duration = Duration::from_hours(30 * 24);
/// The shortest lease.
const LEASE_MIN: Duration = Duration::from_secs(1);
/// The most messages per second that one node generates.
const RATE_MAX: f64 = 100_000.0;

/// A lock, rumors and one order for a group of machines, without any server to run.
#[derive(Debug, Parser)]
#[command(name = "roundelay", version, propagate_version = true, max_term_width = 100)]
#[command(after_help = "\
Examples:
  roundelay demo                    five processes, all three protocols, checked as they run
  roundelay tokenring --help        a lock: the token goes round a ring of machines
  roundelay gossip --help           rumors: what one says, all hear
  roundelay multicast --help        one order: all see the same messages in the same order
  roundelay bench --help            how fast it is, checked as it is measured
  roundelay sim --help              thousands of runs through faults, each the same for its seed

Logs go to stderr; ROUNDELAY_LOG (or RUST_LOG) sets how much: error, warn, info, debug.
Exit codes: 0 ok, 1 a negative answer, 2 wrong usage, a bad file or a busy port.")]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What the command can do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(flatten)]
    Program(Program),
    /// Five real processes with lock, rumors and order, checked as they run
    Demo(Demo),
    /// The same protocols in a simulator, with faults drawn from a seed and every promise checked
    Sim(sim::Sim),
    /// How fast it is on this machine, with what is promised checked in the same run
    Bench(bench::Bench),
}

/// The programs that run until they are told to end, and take commands meanwhile.
#[derive(Debug, Subcommand)]
pub(crate) enum Program {
    /// A lock: the token goes round a ring of machines, and who keeps it has the lock
    Tokenring(Tokenring),
    /// Rumors: what one node says reaches all
    #[command(visible_alias = "gossiping")]
    Gossip(Gossip),
    /// One order: all peers print the same messages in the same numbered order
    Multicast(Multicast),
    /// One node of the demo, driven by `demo` over its standard input
    #[command(hide = true)]
    DemoNode(DemoNode),
}

/// What all programs share.
#[derive(Debug, Args)]
pub(crate) struct Shared {
    /// Listen here instead of on the own entry of the file
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) listen: Option<String>,

    /// Listen on other addresses than loopback, and trust whoever reaches the port
    #[arg(long)]
    pub(crate) insecure: bool,

    /// The file that protects the group off loopback (comes with a later version)
    #[arg(long, value_name = "FILE")]
    pub(crate) group_key: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) output: OutputArgs,

    /// Keep running when the input ends
    #[arg(long)]
    pub(crate) stay: bool,

    /// Record all that the protocols get to see, texts included, for `roundelay sim replay`
    #[arg(long, value_name = "FILE")]
    pub(crate) record: Option<PathBuf>,
}

/// How to print.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct OutputArgs {
    /// For people, or one JSON object per line on stdout and nothing else there
    #[arg(long = "output", value_enum, default_value_t = Format::Human)]
    pub(crate) format: Format,
}

/// For whom to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Lines for people
    Human,
    /// One object per line
    Json,
}

/// How the token moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ModeArg {
    /// It always moves on, each hop counted and shown
    Circulate,
    /// It rests where it was used last, and goes straight to who wants it next
    Rest,
}

/// How rumors spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum StrategyArg {
    /// Along a tree that the first rumors leave behind
    Tree,
    /// Rumor mongering: told that a rumor was known, a node loses interest with probability 1/k
    Rumor,
}

/// `roundelay tokenring`
#[derive(Debug, Args)]
#[command(after_help = "\
Commands:
  start    make the ring and set the token going, on any one peer, once
  lock     wait for the token and keep it      unlock  pass it on, or stop waiting
  status   what this peer knows                ring    the ring and its members
  help     the commands                        quit    leave the ring, which closes around us

Examples:
  roundelay tokenring                             asks for the names, reads machines.txt
  roundelay tokenring --name p1 --next p2
  printf 'start\\nlock\\nunlock\\n' | roundelay tokenring --name p1 --next p2 --output json
  roundelay tokenring --name p1 --next p2 --record p1.rec
  roundelay tokenring --name p1 --next p2 --data-dir p1.data
  roundelay tokenring --name p1 --next p2 --lease 1s

The ring closes around a peer that dies or leaves. If it had the lock, the next one gets it when
the lease is over. Started again, the peer comes back by itself. With --data-dir even all of them
may be killed at once: started again, they go on, and fences do, too.

machines.txt has one peer a line: name host port, name host:port, or name host (port 7464).")]
pub(crate) struct Tokenring {
    /// The file of all peers
    #[arg(long, value_name = "FILE", default_value = "machines.txt")]
    pub(crate) machines: PathBuf,

    /// Which of them this is (asked for if not given)
    #[arg(long)]
    pub(crate) name: Option<String>,

    /// The peer that gets the token next (asked for if not given)
    #[arg(long, value_name = "NAME")]
    pub(crate) next: Option<String>,

    /// How the token moves; the starter's is the whole ring's
    #[arg(long, value_enum, default_value_t = ModeArg::Circulate)]
    pub(crate) mode: ModeArg,

    /// How long an idle peer keeps a circulating token
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration)]
    pub(crate) hold: Duration,

    /// How long the lock stays with a peer that is not heard; the starter's is the whole ring's
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = lease)]
    pub(crate) lease: Duration,

    /// Keep the view over a restart, in this directory, which is this peer's alone (made if missing)
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) shared: Shared,
}

/// `roundelay gossip`
#[derive(Debug, Args)]
#[command(after_help = "\
Any text is a rumor. Commands:
  /send TEXT        say TEXT, even if it begins with a slash
  /generate RATE    say RATE random rumors per second         /stop   stop that
  /peers  /rumors  /status  /help  /quit

Examples:
  roundelay gossip                                asks for the names, reads machines.txt
  roundelay gossip --name a --neighbors b,c
  roundelay gossip --name a --neighbors b --strategy rumor --k 3 --generate 10
  roundelay gossip --name a --neighbors b,c --record a.rec

Neighbours are neighbours both ways, whichever of the two names the other.")]
pub(crate) struct Gossip {
    /// The file of all nodes
    #[arg(long, value_name = "FILE", default_value = "machines.txt")]
    pub(crate) machines: PathBuf,

    /// Which of them this is (asked for if not given)
    #[arg(long)]
    pub(crate) name: Option<String>,

    /// The neighbours, with commas between them; empty for none (asked for if not given)
    #[arg(long, value_name = "A,B", num_args = 1)]
    pub(crate) neighbors: Option<String>,

    /// How rumors spread; repair runs with either, so nothing is lost
    #[arg(long, value_enum, default_value_t = StrategyArg::Tree)]
    #[arg(default_value_if("k", ArgPredicate::IsPresent, "rumor"))]
    pub(crate) strategy: StrategyArg,

    /// The k of the rumor strategy
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) k: Option<u32>,

    /// Say this many random rumors per second, until /stop
    #[arg(long, value_name = "RATE", value_parser = rate)]
    pub(crate) generate: Option<f64>,

    #[command(flatten)]
    pub(crate) shared: Shared,
}

/// `roundelay multicast`
#[derive(Debug, Args)]
#[command(after_help = "\
Any text is a message. Commands:
  /generate RATE    send RATE random messages per second      /stop   stop that
  /peers  /clock  /queue  /history  /help  /quit

Examples:
  roundelay multicast                             asks for the name, reads peers.json
  roundelay multicast p1 --no-generate
  roundelay multicast p2 --generate 10 --output json
  roundelay multicast p2 --generate 10 --record p2.rec
  roundelay multicast p2 --generate 10 --data-dir p2.data
  roundelay multicast p2 --generate 10 --data-dir p2.data --durable

peers.json is [{\"name\": \"p1\", \"host\": \"127.0.0.1\", \"port\": 7001}, …] or
{\"p1\": \"127.0.0.1:7001\", …}. It begins by itself once all peers have been reached. The
others go on without a peer that dies; started again, it comes back and gets what it has missed.
With --data-dir even all of them may be killed at once: started again, they go on, and positions do,
too. If messages may be lost with more than half of the memories, everybody says so. With --durable
at all of them no message that has its position is lost, unless half of the disks are.")]
pub(crate) struct Multicast {
    /// Which of the peers this is (asked for if not given)
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<String>,

    /// The file of all peers
    #[arg(long, value_name = "FILE", default_value = "peers.json")]
    pub(crate) peers: PathBuf,

    /// Send this many random messages per second, until /stop
    #[arg(long, value_name = "RATE", value_parser = rate, conflicts_with = "no_generate")]
    pub(crate) generate: Option<f64>,

    /// Send none, and do not ask
    #[arg(long)]
    pub(crate) no_generate: bool,

    /// The lease of the group, which says how often its members let each other know that they are
    /// there; that of the first peer counts
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = lease)]
    pub(crate) lease: Duration,

    /// Keep the view over a restart, in this directory, which is this peer's alone (made if missing)
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,

    /// Keep the messages in the data directory, too: each is on disk before it is sent and before it
    /// is acknowledged, and what has got its position is there again even if all peers are killed at
    /// once; costs each batch of messages a write to disk at the sender, and then at the receivers
    #[arg(long, requires = "data_dir")]
    pub(crate) durable: bool,

    #[command(flatten)]
    pub(crate) shared: Shared,
}

/// `roundelay demo`
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  roundelay demo                    at a terminal until Ctrl-C, else for 10 seconds
  roundelay demo --nodes 3 --for 5s --output json
  roundelay demo --for 10s --record runs && roundelay sim replay runs/*.rec

It ends with a summary: exit code 0 if nothing that is promised was violated.")]
pub(crate) struct Demo {
    /// How many processes
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(2..=33))]
    pub(crate) nodes: u16,

    /// How long (at a terminal until Ctrl-C, else 10s)
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    pub(crate) duration: Option<Duration>,

    /// Record what each process gets to see, one file each, for `roundelay sim replay`
    #[arg(long, value_name = "DIR")]
    pub(crate) record: Option<PathBuf>,

    /// Open the page that shows it (comes with the agent)
    #[arg(long)]
    pub(crate) open: bool,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// `roundelay demo-node`
#[derive(Debug, Args)]
pub(crate) struct DemoNode {
    /// Which of the group this is
    #[arg(long)]
    pub(crate) name: String,

    /// All nodes: NAME=HOST:PORT, with commas between them
    #[arg(long)]
    pub(crate) group: String,

    /// Where the counter and the ledger are
    #[arg(long)]
    pub(crate) dir: PathBuf,

    /// Where to record
    #[arg(long)]
    pub(crate) record: Option<PathBuf>,
}

/// Parses a time like `500ms`, `1s`, `1.5s`, `2m` or `1h`.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a time; write it like 500ms, 1.5s, 2m or 1h");
    let unit_at = text.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
    let (number, unit) = text.split_at(unit_at);
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let seconds = match unit {
        "ms" => number / 1000.0,
        "s" => number,
        "m" => number * 60.0,
        "h" => number * 3600.0,
        _ => return Err(wrong()),
    };
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if duration.is_zero() => Err("the time must be longer than nothing".into()),
        Ok(duration) if duration <= DURATION_MAX => Ok(duration),
        _ => Err(format!("{text} is too long")),
    }
}

/// Parses the lease of a group.
fn lease(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        lease if lease >= LEASE_MIN => Ok(lease),
        _ => Err("a lease is at least 1s, so that a short pause costs nobody the lock".into()),
    }
}

/// Parses a rate in messages per second.
pub(crate) fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate > 0.0 && rate <= RATE_MAX => Ok(rate),
        _ => Err(format!(
            "{text:?} is not a rate; a rate is a number of messages per second, above 0 and at most {RATE_MAX}"
        )),
    }
}

impl Shared {
    /// Refuses what this version cannot do yet.
    pub(crate) fn check(&self) -> Result<(), Usage> {
        if self.group_key.is_none() {
            return Ok(());
        }
        Err(Usage(
            "--group-key comes with a later version; on a network that you trust, use --insecure \
             instead, or listen on loopback"
                .into(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn times() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("2m"), Ok(Duration::from_mins(2)));
        assert_eq!(duration("1h"), Ok(Duration::from_hours(1)));
        for text in ["", "1", "s", "1x", "-1s", "1..2s", "0s", "1e9h", "99999999999h", "NaNs"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn leases() {
        assert_eq!(lease("1s"), Ok(Duration::from_secs(1)));
        for text in ["999ms", "0s", "soon", "1000h"] {
            assert!(lease(text).is_err(), "{text}");
        }
    }

    #[test]
    fn rates() {
        assert_eq!(rate("0.5"), Ok(0.5));
        for text in ["", "0", "-1", "NaN", "inf", "100001", "many"] {
            assert!(rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_k_without_a_strategy_means_rumor() {
        let parse = |text: &str| match Cli::parse_from(text.split(' ')).command {
            Command::Program(Program::Gossip(gossip)) => (gossip.strategy, gossip.k),
            other => panic!("{other:?}"),
        };
        assert_eq!(parse("roundelay gossip"), (StrategyArg::Tree, None));
        assert_eq!(parse("roundelay gossiping --k 2"), (StrategyArg::Rumor, Some(2)));
    }
}
