//! `machines.txt`: `name host port`, `name host:port` or `name host`, one peer a line.

use super::{
    Part, Peer, Seen, Wrong,
    address::{Address, DEFAULT_PORT, Host, parse_port},
};
use roundelay::Name;

/// A word of a line, and its column, counted from 1 in characters.
struct Word<'a> {
    text: &'a str,
    column: usize,
}

/// A peer, and where it was found.
struct Entry {
    peer: Peer,
    line: usize,
    name_column: usize,
    host_column: usize,
}

/// Parses the text of `machines.txt`.
pub(crate) fn parse(text: &str) -> Result<Vec<Peer>, Wrong> {
    let mut entries = Vec::new();
    // `lines` takes the `\r` of `\r\n` off.
    for (index, line) in text.lines().enumerate() {
        let content = line.split('#').next().unwrap_or_default();
        let words = words(content);
        if !words.is_empty() {
            let end = content.trim_end().chars().count() + 1;
            entries.push(parse_line(&words, index + 1, end)?);
        }
    }
    if entries.is_empty() {
        let reason = "no peers in this file; write one \"name host port\" a line";
        return Err(Wrong::new(1, 1, reason));
    }
    let mut seen = Seen::default();
    for entry in &entries {
        seen.add(&entry.peer).map_err(|(part, reason)| {
            let column = match part {
                Part::Name => entry.name_column,
                Part::Address => entry.host_column,
            };
            Wrong::new(entry.line, column, reason)
        })?;
    }
    Ok(entries.into_iter().map(|entry| entry.peer).collect())
}

fn words(line: &str) -> Vec<Word<'_>> {
    line.split_whitespace()
        .map(|text| {
            // A word is a part of the line, so the distance of their starts is its place.
            let byte = text.as_ptr() as usize - line.as_ptr() as usize;
            Word { text, column: line[..byte].chars().count() + 1 }
        })
        .collect()
}

/// Parses one line; what is missing is missing at column `end`.
fn parse_line(words: &[Word<'_>], line: usize, end: usize) -> Result<Entry, Wrong> {
    let wrong = |word: &Word<'_>, reason: String| Wrong::new(line, word.column, reason);
    let name = &words[0];
    let Some(host) = words.get(1) else {
        let reason = format!("the host of {} is missing; write \"name host port\"", name.text);
        return Err(Wrong::new(line, end, reason));
    };
    if let Some(word) = words.get(3) {
        let reason = format!("{:?} is too much; write \"name host port\"", word.text);
        return Err(wrong(word, reason));
    }
    let peer_name = Name::new(name.text).map_err(|error| wrong(name, error.to_string()))?;
    let address = match words.get(2) {
        None => Address::parse(host.text, DEFAULT_PORT).map_err(|error| wrong(host, error))?,
        Some(port) if Address::has_port(host.text) => {
            return Err(wrong(port, format!("{:?} has a port already", host.text)));
        }
        Some(port) => Address {
            host: Host::parse(host.text).map_err(|error| wrong(host, error))?,
            port: parse_port(port.text).map_err(|error| wrong(port, error))?,
        },
    };
    let peer = Peer { name: peer_name, address };
    Ok(Entry { peer, line, name_column: name.column, host_column: host.column })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Vec<String> {
        let peers = parse(text).unwrap();
        peers.iter().map(|peer| format!("{} {}", peer.name, peer.address)).collect()
    }

    #[test]
    fn every_form_of_a_line() {
        let text = "# the ring\r\n\r\np1 127.0.0.1 7001\r\np2\t127.0.0.1:7002   # the second\r\n  \
                    p3 ring.example.org\n\np4 [::1] 7004\np5 [::1]:7005\np6 [fe80::1]\n";
        assert_eq!(
            shown(text),
            [
                "p1 127.0.0.1:7001",
                "p2 127.0.0.1:7002",
                "p3 ring.example.org:7464",
                "p4 [::1]:7004",
                "p5 [::1]:7005",
                "p6 [fe80::1]:7464"
            ]
        );
        assert_eq!(shown("p1 h 1"), ["p1 h:1"], "the last line may lack its newline");
    }

    #[test]
    fn every_malformed_line_has_its_place_and_reason() {
        for (text, line, column, reason) in [
            ("", 1, 1, "no peers"),
            ("# nobody\n\n", 1, 1, "no peers"),
            ("p1", 1, 3, "the host of p1 is missing"),
            ("p1 h\np2   # later\n", 2, 3, "the host of p2 is missing"),
            ("p1 h 7001 x", 1, 11, "too much"),
            ("p1 h port", 1, 6, "not a port"),
            ("p1 h 0", 1, 6, "not a port"),
            ("p1 h 65536", 1, 6, "not a port"),
            ("p1 h -1", 1, 6, "not a port"),
            ("p1 h:7001 7002", 1, 11, "has a port already"),
            ("p1 h:70001", 1, 4, "not a port"),
            ("p1\t::1", 1, 4, "brackets"),
            ("p1 ::1 7001", 1, 4, "brackets"),
            ("p1 [::1 7001", 1, 4, "not an IPv6 address"),
            ("p1 [::x]:7001", 1, 4, "not an IPv6 address"),
            ("p1 256.0.0.1", 1, 4, "not an IPv4 address"),
            ("p1 a_b/c", 1, 4, "neither"),
            ("a,b h", 1, 1, "cannot contain ','"),
            ("p\u{7} h", 1, 1, "cannot contain"),
            ("p1 a\np1 b", 2, 1, "the name p1 is used twice"),
            ("p1 a 1\n  p2 a:1", 2, 6, "a:1 is the address of p1 already"),
            ("p1 A\np2 a.", 2, 4, "is the address of p1 already"),
            ("p1 [::1]\np2 [0::1]:7464", 2, 4, "is the address of p1 already"),
            ("ä h 1\nö ß", 2, 3, "xn--"),
        ] {
            let wrong = parse(text).unwrap_err();
            assert_eq!((wrong.line, wrong.column), (line, column), "{text:?}: {wrong}");
            assert!(wrong.reason.contains(reason), "{text:?}: {wrong}");
        }
        let long = format!("{} h", "n".repeat(65));
        assert!(parse(&long).unwrap_err().reason.contains("at most 64 bytes"));
    }
}
