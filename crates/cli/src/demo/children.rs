//! The processes of the demo: started together, heard one by one, ended in order.

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use std::{
    net::{Ipv4Addr, TcpListener},
    path::Path,
    process::Stdio,
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::mpsc,
    time::timeout,
};

/// Lines that may wait to be checked; then who says more waits.
const QUEUE: usize = 1024;
/// How long a process may take to leave in order.
const LEAVE: Duration = Duration::from_secs(5);
/// How long it may take after it has been told to stop less kindly.
const TERMINATE: Duration = Duration::from_secs(1);

/// What the demo wants to know of a node's events.
#[derive(Debug, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum Said {
    /// It listens.
    Ready,
    /// It is in the group.
    View,
    /// It has heard a rumor.
    Rumor { origin: String, sequence: u64, hops: u32, text: String },
    /// It has delivered a message.
    Delivered { position: u64, sender: String, sequence: u64, text: String },
    /// A peer came or went.
    Peer { name: String, state: String },
    /// It works no more, and has said and sent so much in all.
    Rested { rumors: u64, messages: u64 },
    /// It has seen a promise broken.
    Violation { what: String },
    /// Something went wrong.
    Error { message: String },
    /// Anything else.
    #[serde(other)]
    Other,
}

/// What a node has said; nothing more, if it has ended.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) node: usize,
    pub(super) said: Option<Said>,
}

/// All processes.
pub(super) struct Children {
    nodes: Vec<Node>,
    told: mpsc::Receiver<Told>,
}

struct Node {
    name: String,
    address: String,
    process: Child,
    stdin: Option<ChildStdin>,
}

impl Children {
    /// Starts `count` processes on free loopback ports. If they record, it is into `record`.
    pub(super) fn start(count: usize, dir: &Path, record: Option<&Path>) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("cannot find this program")?;
        // All ports are held before the first is given back, so that they differ.
        let held: Vec<TcpListener> = (0..count)
            .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
            .collect::<Result<_, _>>()
            .context("there are no free ports")?;
        let addresses: Vec<String> = held
            .iter()
            .map(|listener| listener.local_addr().map(|address| address.to_string()))
            .collect::<Result<_, _>>()?;
        drop(held);
        let name = |index: usize| format!("n{}", index + 1);
        let entry = |(index, address): (usize, &String)| format!("{}={address}", name(index));
        let group: Vec<String> = addresses.iter().enumerate().map(entry).collect();
        let group = group.join(",");
        let (tell, told) = mpsc::channel(QUEUE);
        let mut nodes = Vec::new();
        for (index, address) in addresses.into_iter().enumerate() {
            let name = name(index);
            let mut command = Command::new(&program);
            command.args(["demo-node", "--name", &name, "--group", &group, "--dir"]).arg(dir);
            if let Some(record) = record {
                command.arg("--record").arg(record.join(format!("{name}.rec")));
            }
            command.stdin(Stdio::piped()).stdout(Stdio::piped());
            // A Ctrl-C at the terminal is for the demo alone: it ends the others in order. Should
            // the demo die, their input ends, and they do.
            command.process_group(0).kill_on_drop(true);
            let mut process = command.spawn().context("cannot start a process")?;
            let stdin = process.stdin.take();
            let stdout = process.stdout.take().expect("the output is a pipe");
            tokio::spawn(listen(index, stdout, tell.clone()));
            nodes.push(Node { name, address, process, stdin });
        }
        Ok(Self { nodes, told })
    }

    /// Waits until every node is in the group.
    pub(super) async fn installed(&mut self) -> Result<(), String> {
        let mut missing = self.nodes.len();
        while missing > 0 {
            let Told { node, said } = self.told().await;
            match said {
                Some(Said::View) => missing -= 1,
                Some(Said::Error { message }) => {
                    return Err(format!("{}: {message}", self.name(node)));
                }
                None => return Err(format!("{} ended by itself", self.name(node))),
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// The next thing that any of them says.
    pub(super) async fn told(&mut self) -> Told {
        match self.told.recv().await {
            Some(told) => told,
            // All have ended, and that has been told.
            None => std::future::pending().await,
        }
    }

    /// Says something to all.
    pub(super) async fn say(&mut self, text: &str) {
        for node in &mut self.nodes {
            if let Some(stdin) = &mut node.stdin {
                // Who has ended is noticed by the end of its output.
                let _ = stdin.write_all(format!("{text}\n").as_bytes()).await;
            }
        }
    }

    /// Ends all, in order if possible, and says whose end was not.
    pub(super) async fn leave(&mut self) -> Vec<String> {
        self.say("quit").await;
        let mut broken = Vec::new();
        let Self { nodes, told } = self;
        for node in nodes {
            node.stdin = None;
            let ended = tokio::select! {
                ended = node.end() => ended,
                // Nobody may be kept from leaving by what it has to say.
                () = async { while told.recv().await.is_some() {} std::future::pending().await } => {
                    unreachable!("that never ends")
                }
            };
            if let Err(how) = ended {
                broken.push(format!("the process of {} {how}", node.name));
            }
        }
        broken
    }

    /// The names of the nodes.
    pub(super) fn names(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.name.clone()).collect()
    }

    /// The name of the node at this index.
    pub(super) fn name(&self, node: usize) -> &str {
        &self.nodes[node].name
    }

    /// Where the nodes are, for people.
    pub(super) fn places(&self) -> Vec<String> {
        self.nodes.iter().map(|node| format!("{} {}", node.name, node.address)).collect()
    }
}

impl Node {
    /// Waits for the end of the process, and insists on it. Says how it was, if not in order.
    async fn end(&mut self) -> Result<(), String> {
        if let Ok(status) = timeout(LEAVE, self.process.wait()).await {
            return match status {
                Ok(status) if status.success() => Ok(()),
                Ok(status) => Err(format!("ended with {status}")),
                Err(error) => Err(format!("cannot be waited for: {error}")),
            };
        }
        if let Some(id) = self.process.id().and_then(|id| i32::try_from(id).ok())
            && let Some(id) = Pid::from_raw(id)
        {
            // It has not been waited for, so nobody else can have its number.
            let _ = kill_process(id, Signal::TERM);
        }
        if timeout(TERMINATE, self.process.wait()).await.is_err() {
            let _ = self.process.kill().await;
        }
        Err(format!("did not leave within {} s", LEAVE.as_secs()))
    }
}

/// Passes on what a node says.
async fn listen(node: usize, stdout: ChildStdout, tell: mpsc::Sender<Told>) {
    let mut lines = BufReader::new(stdout).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let said = serde_json::from_str(&line)
            .unwrap_or_else(|_| Said::Error { message: format!("said {line:?}") });
        if tell.send(Told { node, said: Some(said) }).await.is_err() {
            return;
        }
    }
    let _ = tell.send(Told { node, said: None }).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_understood() {
        let said = |line| serde_json::from_str::<Said>(line).unwrap();
        assert!(matches!(
            said(r#"{"event":"ready","node":"n1","listen":"127.0.0.1:1"}"#),
            Said::Ready
        ));
        assert!(matches!(said(r#"{"event":"view","number":1,"members":["n1"]}"#), Said::View));
        assert!(matches!(
            said(r#"{"event":"rested","grants":1,"rumors":2,"messages":3}"#),
            Said::Rested { rumors: 2, messages: 3 }
        ));
        assert!(matches!(said(r#"{"event":"token","view":1,"hop":1,"from":"n1"}"#), Said::Other));
    }
}
