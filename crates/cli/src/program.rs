//! What the three programs have in common: who asks the questions, how a node starts and leaves,
//! and how its peers are shown.

use crate::{
    args::Shared,
    failure::Usage,
    files::{Peer, Peers, address::Address},
    input::Input,
    output::{Output, PeerLine, PeerState, QuorumState, Report},
    shutdown::Shutdown,
};
use roundelay::{Builder, Events, JoinRefusal, Node, NodeId, StartError, StorageError, View};
use std::{
    collections::BTreeMap,
    io,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{
    net::lookup_host,
    time::{sleep, timeout},
};

/// How long the orderly way out may take: with what is written before and after it, less than the
/// promised 5 s.
const LEAVE: Duration = Duration::from_millis(4500);
/// How long it may take before that is said.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long the next prompt waits for the answer to the command before.
const ANSWER: Duration = Duration::from_millis(200);
/// How long a peer that has just started looks for a group before it says who is there.
pub(crate) const LOOK: Duration = Duration::from_secs(1);
/// How long it may then take to be taken in.
pub(crate) const JOIN: Duration = Duration::from_secs(5);
/// How long the resolver may take for a warning that nobody waits for.
const RESOLVE: Duration = Duration::from_secs(3);

/// What a program plays on.
#[derive(Debug)]
pub(crate) struct Stage {
    /// Where answers and commands come from.
    pub(crate) input: Input,
    /// Where everything is said.
    pub(crate) output: Output,
    /// The wish to end.
    pub(crate) shutdown: Shutdown,
    /// Whether the node has stopped, which nobody asked for.
    pub(crate) stopped: bool,
}

impl Stage {
    /// Waits for `questions` to be answered. None if the program should end instead.
    pub(crate) async fn ask<T>(
        &mut self,
        questions: impl AsyncFnOnce(&mut Input, &Output) -> Result<Option<T>, Usage>,
    ) -> Result<Option<T>, Usage> {
        let Self { input, output, shutdown, .. } = self;
        tokio::select! {
            answers = questions(input, output) => answers,
            () = shutdown.requested() => Ok(None),
        }
    }

    /// Waits until the answer to a command of a person has been shown: only then is the next line
    /// asked for, so that answers stand below their commands even if those were typed ahead.
    pub(crate) async fn answered(&self) {
        if !self.input.is_script() {
            // Not for ever: a line that the editor has already taken appears with its next prompt.
            let _ = timeout(ANSWER, self.output.flush()).await;
        }
    }

    /// Starts the node of `own`, and says that it is ready. Its events begin with its start.
    pub(crate) async fn start(
        &self,
        peers: &Peers,
        own: &Peer,
        shared: &Shared,
        configure: impl FnOnce(Builder) -> Builder,
    ) -> anyhow::Result<(Node, Events)> {
        let listen = listen_address(own, shared)?;
        let mut builder =
            Node::builder(own.name.as_str()).listen(listen.to_string()).insecure(shared.insecure);
        for peer in peers.list() {
            builder = builder.peer(peer.name.as_str(), peer.address.to_string());
        }
        if let Some(path) = &shared.record {
            check_recording(path)?;
            builder = builder.record(path);
        }
        let name = own.name.as_str();
        let mut builder = configure(builder);
        let events = builder.events();
        let started = builder.start().await;
        let node = started.map_err(|error| start_error(error, name, &listen))?;
        let address = node.listen_addr();
        if !address.ip().to_canonical().is_loopback() {
            let warning = "warning: --insecure: whoever reaches";
            self.output.aside(format!("{warning} {address} is trusted")).await;
        }
        let ready = Report::Ready { node: name.into(), listen: address.to_string() };
        self.output.report(ready).await;
        if address.ip().to_canonical().is_loopback() {
            let others = peers.list().iter().filter(|peer| peer.name != own.name).cloned();
            let (name, others) = (name.to_owned(), others.collect::<Vec<_>>());
            let output = self.output.clone();
            tokio::spawn(async move {
                if let Some(warning) = unreachable_warning(&name, &others).await {
                    output.aside(warning).await;
                }
            });
        }
        Ok((node, events))
    }

    /// Leaves in order. It is an error if the node had stopped before.
    pub(crate) async fn leave(&self, node: &Node) -> anyhow::Result<()> {
        let leave = timeout(LEAVE, node.leave());
        tokio::pin!(leave);
        let left = tokio::select! {
            left = &mut leave => left,
            () = sleep(PATIENCE) => {
                self.output.note("leaving…").await;
                leave.await
            }
        };
        if left.is_err() {
            tracing::warn!("left without waiting for the others any longer");
        }
        if let Some(failure) = node.failure() {
            anyhow::bail!("the node has stopped: {failure}");
        }
        if self.stopped {
            anyhow::bail!("the node has stopped by itself, which is a defect; start it anew");
        }
        Ok(())
    }
}

/// Keeps the view in this directory, if one was given.
pub(crate) fn keep(builder: Builder, dir: Option<PathBuf>) -> Builder {
    match dir {
        Some(dir) => builder.data_dir(dir),
        None => builder,
    }
}

/// Where a node listens: on its own entry, or where `--listen` says.
fn listen_address(own: &Peer, shared: &Shared) -> Result<Address, Usage> {
    match &shared.listen {
        None => Ok(own.address.clone()),
        Some(text) => Address::parse(text, own.address.port)
            .map_err(|reason| Usage(format!("--listen: {reason}"))),
    }
}

/// What went wrong, why, and what to do.
fn start_error(error: StartError, name: &str, listen: &Address) -> anyhow::Error {
    let text = match error {
        StartError::System(_) => return error.into(),
        StartError::NotLoopback(address) => format!(
            "{name} would listen on {address}, where other machines can reach it, and whoever \
             reaches it would be trusted; if that is all right, add --insecure (--group-key FILE, \
             which keeps others out, comes with a later version)"
        ),
        StartError::Listen { address, source } => {
            let todo = match source.kind() {
                io::ErrorKind::AddrInUse => format!(
                    "the port is in use; end what uses it (is {name} running already?), or choose \
                     another port"
                ),
                io::ErrorKind::AddrNotAvailable => {
                    "this machine does not have that address; run this name where it belongs, or \
                     add --listen with an address of this machine"
                        .to_owned()
                }
                io::ErrorKind::PermissionDenied => {
                    format!("{source}; choose a port above 1023")
                }
                _ => source.to_string(),
            };
            format!("cannot listen on {address}: {todo}")
        }
        StartError::Storage(StorageError::Damaged { .. } | StorageError::DamagedLog { .. }) => {
            return error.into();
        }
        StartError::Storage(error @ StorageError::Io { .. }) => format!("--data-dir: {error}"),
        StartError::Record { path, source } => {
            format!("--record: cannot write {}: {source}", path.display())
        }
        StartError::Resolve { source, .. } => format!(
            "cannot find the address of {listen}: {source}; correct it, or add --listen with an \
             address of this machine"
        ),
        error => error.to_string(),
    };
    Usage(text).into()
}

/// Refuses to record over a file with something in it: it may be what somebody wants to look at, or
/// no recording at all.
pub(crate) fn check_recording(path: &Path) -> Result<(), Usage> {
    match std::fs::metadata(path) {
        Ok(file) if file.is_file() && file.len() > 0 => Err(Usage(format!(
            "--record: {} exists already; give another name, or move it away",
            path.display()
        ))),
        _ => Ok(()),
    }
}

/// A warning if others live elsewhere than on this machine: they cannot reach who listens on
/// loopback.
async fn unreachable_warning(name: &str, others: &[Peer]) -> Option<String> {
    for Peer { name: other, address } in others {
        let Ok(Ok(found)) = timeout(RESOLVE, lookup_host(address.to_string())).await else {
            continue;
        };
        let ips: Vec<IpAddr> = found.map(|found| found.ip().to_canonical()).collect();
        if !ips.is_empty() && !ips.iter().any(IpAddr::is_loopback) {
            return Some(format!(
                "warning: {name} listens on loopback, where {other} ({address}) cannot reach it; \
                 give {name} an address of the network, or add --listen"
            ));
        }
    }
    None
}

/// The peers of a node and their states, to say each change once.
#[derive(Debug)]
pub(crate) struct PeerBook {
    peers: BTreeMap<NodeId, Entry>,
    /// Changes that are not said yet, while they are held back.
    held: Option<Vec<Report>>,
}

#[derive(Debug)]
struct Entry {
    name: String,
    address: String,
    /// None: nothing has been heard of it yet.
    state: Option<PeerState>,
}

impl PeerBook {
    /// The peers of the node called `own`.
    pub(crate) fn new(peers: &Peers, own: &str) -> Self {
        let others = peers.list().iter().filter(|peer| peer.name.as_str() != own);
        let peers = others.map(|peer| {
            let Peer { name, address } = peer;
            let (text, address) = (name.to_string(), address.to_string());
            (name.id(), Entry { name: text, address, state: None })
        });
        Self { peers: peers.collect(), held: None }
    }

    /// Says nothing until [`PeerBook::release`]: who comes to a group that exists reads of its view
    /// first.
    pub(crate) fn holding(self) -> Self {
        Self { held: Some(Vec::new()), ..self }
    }

    /// Says what was held back, and everything from now on at once.
    pub(crate) async fn release(&mut self, output: &Output) {
        for report in self.held.take().into_iter().flatten() {
            output.report(report).await;
        }
    }

    /// Notes a peer's state, and says so if it is news. A peer that is not in the file has only
    /// the name that it gives itself.
    pub(crate) async fn note(&mut self, id: NodeId, name: &str, state: PeerState, output: &Output) {
        let before = self.peers.get_mut(&id).and_then(|entry| entry.state.replace(state));
        if before == Some(state) {
            return;
        }
        let report = Report::Peer { name: name.to_owned(), state };
        match &mut self.held {
            Some(held) => held.push(report),
            None => output.report(report).await,
        }
    }

    /// What has become of a member that is not in the next view.
    fn parting(&self, id: NodeId) -> &'static str {
        match self.peers.get(&id).and_then(|entry| entry.state) {
            Some(PeerState::Left) => "has left",
            _ => "is gone",
        }
    }

    /// How one view differs from the one before: "p3 is gone; view 2: p1 p2".
    pub(crate) fn describe_change(&self, before: &View, view: &View) -> String {
        let mut news = Vec::new();
        for member in before.members.iter().filter(|member| view.position(member.id).is_none()) {
            news.push(format!("{} {}", member.name, self.parting(member.id)));
        }
        for member in view.members.iter() {
            match before.position(member.id) {
                None => news.push(format!("{} has come", member.name)),
                Some(at) if before.members[at].incarnation != member.incarnation => {
                    news.push(format!("{} has come back", member.name));
                }
                Some(_) => {}
            }
        }
        news.push(format!("view {}: {}", view.number, member_names(view).join(" ")));
        news.join("; ")
    }

    /// The name of a peer; the node knows those of others.
    pub(crate) fn name(&self, id: NodeId, node: &Node) -> String {
        self.peers.get(&id).map_or_else(|| node.name_of(id), |entry| entry.name.clone())
    }

    /// "waiting for …", for these.
    pub(crate) fn waiting(&self, ids: &[NodeId]) -> Report {
        let entries: Vec<&Entry> = ids.iter().filter_map(|id| self.peers.get(id)).collect();
        Report::Waiting {
            names: entries.iter().map(|entry| entry.name.clone()).collect(),
            addresses: entries.iter().map(|entry| entry.address.clone()).collect(),
        }
    }

    /// Whether anything has been heard of this peer, and it is there.
    pub(crate) fn is_up(&self, id: NodeId) -> bool {
        self.peers.get(&id).is_some_and(|entry| entry.state == Some(PeerState::Up))
    }

    /// Whether anybody is there.
    pub(crate) fn is_any_up(&self) -> bool {
        self.peers.values().any(|entry| entry.state == Some(PeerState::Up))
    }

    /// All peers with their addresses; `pushed` adds what gossip knows of them.
    pub(crate) fn lines(&self, pushed: impl Fn(NodeId) -> Option<bool>) -> Vec<PeerLine> {
        let line = |(id, entry): (&NodeId, &Entry)| PeerLine {
            name: entry.name.clone(),
            address: entry.address.clone(),
            state: entry.state.unwrap_or(PeerState::Down),
            pushed: pushed(*id),
        };
        let mut lines: Vec<PeerLine> = self.peers.iter().map(line).collect();
        lines.sort_by(|a, b| a.name.cmp(&b.name));
        lines
    }
}

/// The names of a view's members, in its order.
pub(crate) fn member_names(view: &View) -> Vec<String> {
    view.members.iter().map(|member| member.name.to_string()).collect()
}

/// What people read when the group goes on without this node.
pub(crate) fn outside_text(was_member: bool) -> &'static str {
    if was_member {
        "the group goes on without this node; rejoining…"
    } else {
        "the group is there already; joining…"
    }
}

/// Why the group does not take this node in, and what to do.
pub(crate) fn join_refused_text(reason: JoinRefusal, name: &str) -> String {
    match reason {
        JoinRefusal::NameTaken => format!(
            "another {name} is in the group, and is there; end it, or start this one under another \
             name of the file"
        ),
        JoinRefusal::Full => {
            "the group has as many members as it can have; this node comes in when \
                              one of them goes"
                .into()
        }
    }
}

/// Whether enough of the group are heard, and whom this node does not hear.
pub(crate) async fn quorum_report(node: &Node, book: &PeerBook, regained: bool) -> Report {
    if regained {
        return Report::Quorum { state: QuorumState::Regained, unheard: Vec::new() };
    }
    let unheard = node.status().await.change.map(|change| change.unheard).unwrap_or_default();
    let unheard = unheard.into_iter().map(|id| book.name(id, node)).collect();
    Report::Quorum { state: QuorumState::Lost, unheard }
}

/// Waits for a future that may not be there: then for ever.
pub(crate) async fn maybe<F: Future + Unpin>(future: &mut Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::machines;
    use roundelay::core::view::Member;

    #[test]
    fn errors_say_what_to_do() {
        let listen = Address::parse("h:7001", 1).unwrap();
        let address = "10.0.0.4:7001".parse().unwrap();
        let failed = |kind: io::ErrorKind| StartError::Listen { address, source: kind.into() };
        for (error, todo) in [
            (StartError::NotLoopback(address), "--insecure"),
            (failed(io::ErrorKind::AddrInUse), "is p1 running already"),
            (failed(io::ErrorKind::AddrNotAvailable), "--listen"),
            (failed(io::ErrorKind::PermissionDenied), "above 1023"),
        ] {
            let error = start_error(error, "p1", &listen);
            assert!(error.is::<Usage>() && error.to_string().contains(todo), "{error}");
        }
        let system = StartError::System(io::ErrorKind::OutOfMemory.into());
        assert!(!start_error(system, "p1", &listen).is::<Usage>());
    }

    #[tokio::test]
    async fn who_cannot_be_reached_is_warned() {
        let others = machines::parse("p2 127.0.0.1\np3 [::1]\n").unwrap();
        assert_eq!(unreachable_warning("p1", &others).await, None);
        // An address for documentation (RFC 5737): nothing is sent to it.
        let others = machines::parse("p2 127.0.0.1\np3 192.0.2.1\n").unwrap();
        let warning = unreachable_warning("p1", &others).await.unwrap();
        assert!(warning.contains("where p3 (192.0.2.1:7464) cannot reach it"), "{warning}");
    }

    #[tokio::test]
    async fn each_change_of_a_peer_is_said_once() {
        let peers = crate::files::Peers::of(machines::parse("p1 a\np2 b\n").unwrap());
        let mut book = PeerBook::new(&peers, "p1");
        let (output, said) = Output::captured();
        let (p2, p9) = (NodeId::from_name("p2"), NodeId::from_name("p9"));
        assert!(!book.is_any_up());
        for state in [PeerState::Up, PeerState::Up, PeerState::Down, PeerState::Left] {
            book.note(p2, "p2", state, &output).await;
        }
        book.note(p9, "p9", PeerState::Up, &output).await;
        assert!(!book.is_any_up());
        assert_eq!(book.lines(|_| None)[0].state, PeerState::Left);
        output.flush().await;
        let next = || said.try_recv().ok();
        for line in ["p2 is here", "p2 is gone", "p2 has left", "p9 is here"] {
            assert_eq!(next().as_deref(), Some(line));
        }
        assert_eq!(next(), None);
    }

    #[tokio::test]
    async fn what_is_held_back_is_said_later() {
        let peers = Peers::of(machines::parse("p1 a\np2 b\n").unwrap());
        let mut book = PeerBook::new(&peers, "p1").holding();
        let (output, said) = Output::captured();
        let p2 = NodeId::from_name("p2");
        book.note(p2, "p2", PeerState::Up, &output).await;
        output.note("a view").await;
        assert!(book.is_any_up());
        book.release(&output).await;
        book.note(p2, "p2", PeerState::Down, &output).await;
        output.flush().await;
        let said: Vec<String> = said.try_iter().collect();
        assert_eq!(said, ["a view", "p2 is here", "p2 is gone"]);
    }

    #[tokio::test]
    async fn a_change_of_the_view_is_one_line() {
        let peers = machines::parse("p1 a\np2 b\np3 c\np4 d\n").unwrap();
        let mut book = PeerBook::new(&crate::files::Peers::of(peers), "p1");
        let (output, _said) = Output::captured();
        book.note(NodeId::from_name("p4"), "p4", PeerState::Left, &output).await;
        let view = |number, members: &[(&str, u64)]| View {
            number,
            members: members
                .iter()
                .map(|(name, incarnation)| {
                    let name = roundelay::Name::new(name).unwrap();
                    let (id, life) = (name.id(), roundelay::Life(1));
                    Member { id, name, life, incarnation: *incarnation }
                })
                .collect(),
            ring: (0..members.len() as u16).collect(),
            mode: roundelay::Mode::Rest,
            lease: Duration::from_secs(5),
        };
        let all = view(1, &[("p1", 1), ("p2", 1), ("p3", 1), ("p4", 1)]);
        let two = view(2, &[("p1", 1), ("p2", 1)]);
        let back = view(3, &[("p1", 1), ("p2", 3), ("p3", 3)]);
        assert_eq!(book.describe_change(&all, &two), "p3 is gone; p4 has left; view 2: p1 p2");
        assert_eq!(
            book.describe_change(&two, &back),
            "p2 has come back; p3 has come; view 3: p1 p2 p3"
        );
    }

    #[test]
    fn the_own_entry_is_where_a_node_listens() {
        let own = machines::parse("p1 [::1] 7001").unwrap().remove(0);
        let shared = |listen: Option<&str>| Shared {
            listen: listen.map(Into::into),
            insecure: false,
            group_key: None,
            output: crate::args::OutputArgs { format: crate::args::Format::Human },
            stay: false,
            record: None,
        };
        let listen = |text| listen_address(&own, &shared(text)).map(|a| a.to_string());
        assert_eq!(listen(None), Ok("[::1]:7001".into()));
        assert_eq!(listen(Some("0.0.0.0")), Ok("0.0.0.0:7001".into()));
        assert_eq!(listen(Some("0.0.0.0:9")), Ok("0.0.0.0:9".into()));
        assert!(listen(Some("0.0.0.0:x")).unwrap_err().0.starts_with("--listen: "));
    }
}
