//! Reports as people read them. Everything that comes from elsewhere is escaped.

use super::{
    Clock, Message, PeerLine, PeerState, Queue, Queued, QuorumState, Report, RingStatus, Rumor,
    RumorStatus, escape,
};

/// How many messages or rumors of a long list are shown.
const LIST_MAX: usize = 100;

/// The report in words.
pub(super) fn describe(report: &Report) -> String {
    match report {
        Report::Ready { node, listen } => format!("{} listens on {listen}", escape(node)),
        Report::View { shown, .. } => escape(shown),
        Report::Quorum { state, unheard } => quorum(*state, unheard),
        Report::Loss { after } => {
            format!("messages after {after} may be lost: too many have forgotten them")
        }
        Report::Missed { from, to } => {
            format!("{from} to {to} have passed, and nobody keeps them any more")
        }
        Report::Token { hop, from, .. } => format!("token: hop {hop} from {}", escape(from)),
        Report::Acquired { fence, waited_ms, .. } => {
            format!("you have the lock (fence {fence}, waited {})", waited(*waited_ms))
        }
        Report::Released { fence, .. } => format!("you passed the lock on (fence {fence})"),
        Report::Lost { fence, reason, .. } => {
            format!("you have lost the lock (fence {fence}): {}", escape(reason))
        }
        Report::Rumor(rumor) => describe_rumor(rumor),
        Report::Delivered(message) => describe_message(message),
        Report::Peer { name, state } => format!("{} {}", escape(name), state_words(*state)),
        Report::Error { message } => format!("error: {}", escape(message)),
        Report::Waiting { names, addresses } => {
            let shown: Vec<String> = names
                .iter()
                .zip(addresses)
                .map(|(name, address)| format!("{} ({address})", escape(name)))
                .collect();
            format!("waiting for {}…", shown.join(", "))
        }
        Report::Ring { members, started, next } => describe_ring(members, *started, next),
        Report::RingStatus(status) => ring_status(status),
        Report::RumorStatus(status) => rumor_status(status),
        Report::Peers { peers } => list(peers, "no peers", describe_peer),
        Report::Rumors { rumors } => list(rumors, "no rumors yet", describe_rumor),
        Report::Clock(clock) => describe_clock(clock),
        Report::Queue(queue) => describe_queue(queue),
        Report::History { messages } => list(messages, "no messages yet", describe_message),
        Report::Progress { seconds, grants, rumors, messages, violations } => format!(
            "{seconds:>4} s: {grants} grants, {rumors} rumors everywhere, {messages} messages in \
             one order, {violations} violations"
        ),
        Report::Violation { what } => format!("VIOLATION: {}", escape(what)),
        Report::Summary { nodes, grants, rumors, messages, violations } => format!(
            "{nodes} processes: {grants} grants of the lock, {rumors} rumors heard by all, \
             {messages} messages in one order, {violations} violations"
        ),
        Report::Rested { grants, rumors, messages } => {
            format!("done: {grants} grants, {rumors} rumors, {messages} messages")
        }
    }
}

fn quorum(state: QuorumState, unheard: &[String]) -> String {
    if state == QuorumState::Regained {
        return "enough of the others are heard again".into();
    }
    let names: Vec<String> = unheard.iter().map(|name| escape(name)).collect();
    let whom = if names.is_empty() { "the others".into() } else { names.join(", ") };
    format!("no majority without {whom}: all waits until enough are heard again")
}

fn waited(ms: f64) -> String {
    if ms < 10.0 {
        format!("{ms:.1} ms")
    } else if ms < 10_000.0 {
        format!("{ms:.0} ms")
    } else {
        format!("{:.1} s", ms / 1000.0)
    }
}

fn state_words(state: PeerState) -> &'static str {
    match state {
        PeerState::Up => "is here",
        PeerState::Down => "is gone",
        PeerState::Suspect => "is silent",
        PeerState::Left => "has left",
    }
}

fn describe_rumor(rumor: &Rumor) -> String {
    let Rumor { origin, hops, text, .. } = rumor;
    let (origin, text) = (escape(origin), escape(text));
    match hops {
        0 => format!("{origin} (here): {text}"),
        1 => format!("{origin} (1 hop): {text}"),
        _ => format!("{origin} ({hops} hops): {text}"),
    }
}

fn describe_message(message: &Message) -> String {
    let Message { position, time, sender, text, .. } = message;
    format!("{position:>5}  {}: {}   (time {time})", escape(sender), escape(text))
}

fn describe_queue(queue: &Queue) -> String {
    let mut lines = vec![list(&queue.messages, "the queue is empty", describe_queued)];
    if let (Some(name), Some(ms)) = (&queue.waiting_for, queue.waited_ms) {
        lines.push(format!("the first waits for {}, {}", escape(name), waited(ms)));
    }
    if let Some(head) = &queue.head {
        let names = |names: &[String]| {
            let shown: Vec<String> = names.iter().map(|name| escape(name)).collect();
            shown.join(", ")
        };
        let lacks = [("clocks", &head.clocks), ("receipts", &head.receipts)];
        let lacks = lacks.iter().filter(|(_, of)| !of.is_empty());
        let lacks: Vec<String> =
            lacks.map(|(what, of)| format!("{what} of {}", names(of))).collect();
        if !lacks.is_empty() {
            lines.push(format!("it lacks {}, {}", lacks.join("; "), waited(head.waited_ms)));
        }
    }
    lines.join("\n")
}

fn describe_queued(message: &Queued) -> String {
    let Queued { time, sender, text, .. } = message;
    format!("time {time}  {}: {}", escape(sender), escape(text))
}

fn describe_peer(peer: &PeerLine) -> String {
    let PeerLine { name, address, state, pushed } = peer;
    let role = match pushed {
        None => "",
        Some(true) => ", gets rumors from here",
        Some(false) => ", gets digests from here",
    };
    let state = match state {
        PeerState::Up => "is here",
        PeerState::Down => "is not here",
        PeerState::Suspect => "is silent",
        PeerState::Left => "has left",
    };
    format!("{} ({address}) {state}{role}", escape(name))
}

fn describe_ring(members: &[String], started: bool, next: &str) -> String {
    let names: Vec<String> = members.iter().map(|name| escape(name)).collect();
    if started {
        let first = names.first().cloned().unwrap_or_default();
        return format!("{} → {first}", names.join(" → "));
    }
    let (names, next) = (names.join(", "), escape(next));
    format!("not started; the peers are {names}, and the next after this one is {next}")
}

fn ring_status(status: &RingStatus) -> String {
    if status.started && status.view.is_none() {
        return "the ring goes on without this peer, which is on its way back".into();
    }
    if !status.started {
        return "the ring is not started; type start, here or on another peer".into();
    }
    let mut lines = vec![match (status.fence, status.token) {
        (Some(fence), _) => format!("you have the lock (fence {fence})"),
        (None, true) => format!("the token is here (hop {})", status.hop),
        (None, false) => match &status.passed_to {
            Some(name) => format!("the token went on to {}", escape(name)),
            None => "the token has not been here".into(),
        },
    }];
    if status.waiting {
        lines.push("you wait for the lock".into());
    }
    if !status.wanted_by.is_empty() {
        let names: Vec<String> = status.wanted_by.iter().map(|name| escape(name)).collect();
        lines.push(format!("wanted by {}", names.join(", ")));
    }
    if !status.quorum {
        lines.push("too few of the others are heard to go on".into());
    }
    if let Some(name) = &status.waiting_for {
        lines.push(format!("nothing moves without {}", escape(name)));
    }
    lines.join("\n")
}

fn rumor_status(status: &RumorStatus) -> String {
    let neighbors: Vec<String> = status.neighbors.iter().map(|name| escape(name)).collect();
    let neighbors = if neighbors.is_empty() { "none".into() } else { neighbors.join(", ") };
    format!(
        "neighbours linked: {neighbors}\n{} rumors said here, {} waiting to be said, {} heard, {} \
         copies too many, {} repaired, {} missing\n{} rumors ({} bytes) kept for others",
        status.said,
        status.waiting,
        status.heard,
        status.duplicates,
        status.repaired,
        status.missing,
        status.retained,
        status.retained_bytes
    )
}

fn describe_clock(clock: &Clock) -> String {
    let Clock { time, position, members } = clock;
    let heard: Vec<String> =
        members.iter().map(|member| format!("{} {}", escape(&member.name), member.time)).collect();
    format!("time {time}, position {position}; heard: {}", heard.join(", "))
}

/// The last items of a list, a line each.
fn list<T>(items: &[T], none: &str, describe: fn(&T) -> String) -> String {
    if items.is_empty() {
        return none.into();
    }
    let left_out = items.len().saturating_sub(LIST_MAX);
    let mut lines = Vec::new();
    if left_out > 0 {
        lines.push(format!("… {left_out} earlier"));
    }
    lines.extend(items[left_out..].iter().map(describe));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::HeadWait;

    #[test]
    fn people_read_sentences() {
        let waiting =
            Report::Waiting { names: vec!["p3".into()], addresses: vec!["127.0.0.1:7003".into()] };
        assert_eq!(describe(&waiting), "waiting for p3 (127.0.0.1:7003)…");
        let acquired = Report::Acquired { lock: "default".into(), fence: 4, waited_ms: 12.3 };
        assert_eq!(describe(&acquired), "you have the lock (fence 4, waited 12 ms)");
        let lost = Report::Lost { lock: "default".into(), fence: 4, reason: "why".into() };
        assert_eq!(describe(&lost), "you have lost the lock (fence 4): why");
        let unheard = vec!["p2".into(), "p3".into()];
        let quorum = Report::Quorum { state: QuorumState::Lost, unheard };
        assert!(describe(&quorum).starts_with("no majority without p2, p3: "));
        let token = Report::Token { view: 1, hop: 17, from: "p1".into() };
        assert_eq!(describe(&token), "token: hop 17 from p1");
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let (clocks, receipts) = (names(&["p4"]), names(&["p3", "p4"]));
        let head = HeadWait { waited_ms: 400.0, clocks, receipts };
        let queue = Queue {
            waiting_for: Some("p4".into()),
            waited_ms: Some(320.0),
            head: Some(head),
            messages: Vec::new(),
        };
        assert_eq!(
            describe(&Report::Queue(queue)),
            "the queue is empty\nthe first waits for p4, 320 ms\n\
             it lacks clocks of p4; receipts of p3, p4, 400 ms"
        );
    }

    #[test]
    fn texts_of_others_are_escaped() {
        let text = "\x1b]0;gotcha\x07".to_owned();
        let rumor = Rumor { origin: "p\u{9b}".into(), sequence: 1, hops: 2, text: text.clone() };
        let message = Message { position: 1, time: 1, sender: "a\x1b".into(), sequence: 1, text };
        for report in [
            Report::Rumor(rumor.clone()),
            Report::Rumors { rumors: vec![rumor] },
            Report::Delivered(message.clone()),
            Report::History { messages: vec![message] },
            Report::Peer { name: "\x1b".into(), state: PeerState::Up },
            Report::Error { message: "\x1b".into() },
        ] {
            let shown = describe(&report);
            assert!(!shown.chars().any(char::is_control), "{shown:?}");
        }
    }

    #[test]
    fn long_lists_show_their_end() {
        let rumors = (1..=150)
            .map(|sequence| Rumor { origin: "a".into(), sequence, hops: 1, text: "x".into() })
            .collect();
        let shown = describe(&Report::Rumors { rumors });
        assert!(shown.starts_with("… 50 earlier\n"));
        assert_eq!(shown.lines().count(), 101);
    }
}
