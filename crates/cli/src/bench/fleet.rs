//! The processes of a benchmark: started together, let go together, heard at the end.

use super::node::{Done, Said, Work};
use crate::args::bench::Pin;
use anyhow::{Context, bail};
use futures_util::future::try_join_all;
use std::{
    net::{Ipv4Addr, TcpListener},
    process::{ExitStatus, Stdio},
    thread::available_parallelism,
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

/// How long the processes may take to find each other.
const BEGIN: Duration = Duration::from_secs(30);
/// How long they may work longer than they should.
const OVERTIME: Duration = Duration::from_mins(1);
/// How long they may take to leave.
const LEAVE: Duration = Duration::from_secs(10);

/// All processes.
pub(super) struct Fleet {
    nodes: Vec<Process>,
}

struct Process {
    name: String,
    child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Fleet {
    /// Starts `count` processes that will do `work`, and waits until they are a group.
    pub(super) async fn start(count: usize, pin: Pin, work: &Work) -> anyhow::Result<Self> {
        let group = free_addresses(count)?;
        let work = serde_json::to_string(work).context("cannot say what to do")?;
        let nodes = (0..count).map(|index| Process::start(index, &group, pin, &work));
        let mut fleet = Self { nodes: nodes.collect::<anyhow::Result<_>>()? };
        for node in &mut fleet.nodes {
            match timeout(BEGIN, node.said()).await {
                Ok(said) => match said? {
                    Said::Ready => {}
                    Said::Done(_) => bail!("{} is done before it began", node.name),
                },
                Err(_) => bail!("the processes did not find each other"),
            }
        }
        Ok(fleet)
    }

    /// Lets all work, and waits until all are done.
    pub(super) async fn work(&mut self, about: Duration) -> anyhow::Result<Vec<Done>> {
        self.say("go").await?;
        // All at once: who cannot tell its result would stay for ever.
        let done = self.nodes.iter_mut().map(|node| async move {
            match timeout(about + OVERTIME, node.said()).await {
                Ok(said) => match said? {
                    Said::Done(result) => Ok(result),
                    Said::Ready => bail!("{} is ready twice", node.name),
                },
                Err(_) => bail!("{} does not come to an end", node.name),
            }
        });
        try_join_all(done).await
    }

    /// Ends all in order.
    pub(super) async fn leave(mut self) -> anyhow::Result<()> {
        self.say("quit").await?;
        for mut node in self.nodes {
            drop(node.stdin);
            match timeout(LEAVE, node.child.wait()).await {
                Ok(status) if status.as_ref().is_ok_and(ExitStatus::success) => {}
                Ok(status) => bail!("{} ended with {status:?}", node.name),
                Err(_) => bail!("{} did not leave", node.name),
            }
        }
        Ok(())
    }

    async fn say(&mut self, text: &str) -> anyhow::Result<()> {
        for node in &mut self.nodes {
            let said = node.stdin.write_all(format!("{text}\n").as_bytes()).await;
            said.with_context(|| format!("{} is gone", node.name))?;
        }
        Ok(())
    }
}

impl Process {
    fn start(index: usize, group: &[String], pin: Pin, work: &str) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("cannot find this program")?;
        let mut command = match core(index, pin) {
            // From outside, so that all threads of the process are where they should be.
            Some(core) => {
                let mut command = Command::new("taskset");
                command.args(["-c", &core.to_string()]).arg(program);
                command
            }
            None => Command::new(program),
        };
        command.args(["bench-node", "--index", &index.to_string(), "--group", &group.join(",")]);
        command.args(["--work", work]).stdin(Stdio::piped()).stdout(Stdio::piped());
        command.process_group(0).kill_on_drop(true);
        let mut child = command.spawn().context("cannot start a process")?;
        let stdin = child.stdin.take().expect("the input is a pipe");
        let stdout = child.stdout.take().expect("the output is a pipe");
        let lines = BufReader::new(stdout).lines();
        Ok(Self { name: name(index), child, stdin, lines })
    }

    async fn said(&mut self) -> anyhow::Result<Said> {
        match self.lines.next_line().await {
            Ok(Some(line)) => {
                serde_json::from_str(&line).with_context(|| format!("{} said {line:?}", self.name))
            }
            Ok(None) => bail!("{} ended by itself", self.name),
            Err(error) => bail!("{} cannot be heard: {error}", self.name),
        }
    }
}

/// The name of a node.
pub(super) fn name(index: usize) -> String {
    format!("n{}", index + 1)
}

fn core(index: usize, pin: Pin) -> Option<usize> {
    match pin {
        Pin::Any => None,
        Pin::One => Some(0),
        Pin::Own => Some(index % available_parallelism().map_or(1, usize::from)),
    }
}

/// All ports are held before the first is given back, so that they differ.
fn free_addresses(count: usize) -> anyhow::Result<Vec<String>> {
    let held: Vec<TcpListener> = (0..count)
        .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
        .collect::<Result<_, _>>()
        .context("there are no free ports")?;
    held.iter().map(|listener| Ok(listener.local_addr()?.to_string())).collect()
}
