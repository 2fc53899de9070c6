//! The files that say who takes part: `machines.txt` and `peers.json`.

pub(crate) mod address;
pub(crate) mod machines;
pub(crate) mod peers;

use crate::failure::Usage;
use address::Address;
use roundelay::{Name, core::view::MEMBERS_MAX};
use std::{fmt, path::Path};

/// A larger file is not read: no list of peers is that long.
const FILE_BYTES_MAX: usize = 1 << 20;

/// One line of `machines.txt`, one entry of `peers.json`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    /// What it is called.
    pub(crate) name: Name,
    /// Where it listens.
    pub(crate) address: Address,
}

/// Everyone who takes part, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Peers {
    /// The file, as it was named.
    file: String,
    list: Vec<Peer>,
}

/// Where in a file something is wrong, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    /// Counted from 1.
    pub(crate) line: usize,
    /// Counted from 1, in characters.
    pub(crate) column: usize,
    /// What is wrong, and what would be right.
    pub(crate) reason: String,
}

impl Peers {
    /// Reads the file and lets `parse` make a list of it.
    pub(crate) fn read(
        path: &Path,
        parse: fn(&str) -> Result<Vec<Peer>, Wrong>,
    ) -> Result<Self, Usage> {
        let file = path.display().to_string();
        let bytes = std::fs::read(path).map_err(|error| {
            Usage(format!("cannot read {file}: {error}; write it, or name another file"))
        })?;
        match text(&bytes).and_then(parse) {
            Ok(list) => Ok(Self { file, list }),
            Err(wrong) => Err(Usage(format!("{file}:{wrong}"))),
        }
    }

    /// These, as if they had been read.
    #[cfg(test)]
    pub(crate) fn of(list: Vec<Peer>) -> Self {
        Self { file: "a test".into(), list }
    }

    /// The list, in the order of the file.
    pub(crate) fn list(&self) -> &[Peer] {
        &self.list
    }

    /// The peer called `name`.
    pub(crate) fn named(&self, name: &str) -> Result<&Peer, Usage> {
        let found = self.list.iter().find(|peer| peer.name.as_str() == name);
        found.ok_or_else(|| {
            let known = names(&self.list);
            Usage(format!("{name:?} is not in {}; it lists {known}", self.file))
        })
    }

    /// Refuses a list that is too long for a group with a lock or an order.
    pub(crate) fn check_group(&self) -> Result<(), Usage> {
        if self.list.len() <= MEMBERS_MAX {
            return Ok(());
        }
        let Self { file, list } = self;
        let count = list.len();
        Err(Usage(format!(
            "{file} lists {count} peers, but a group has at most {MEMBERS_MAX} members; shorten it"
        )))
    }
}

/// The names of some peers, for people.
fn names(list: &[Peer]) -> String {
    const SHOWN: usize = 12;
    let mut text: Vec<&str> = list.iter().take(SHOWN).map(|peer| peer.name.as_str()).collect();
    if list.len() > SHOWN {
        text.push("…");
    }
    text.join(", ")
}

/// The text of a file, without a byte order mark.
fn text(bytes: &[u8]) -> Result<&str, Wrong> {
    if bytes.len() > FILE_BYTES_MAX {
        return Err(Wrong::new(1, 1, format!("the file is larger than {FILE_BYTES_MAX} bytes")));
    }
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(Wrong::new(1, 1, "the file is UTF-16; save it as UTF-8"));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let valid = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
        Wrong::at(&valid, valid.len(), "this is not UTF-8; save the file as UTF-8")
    })?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// Notices what is in a list twice.
#[derive(Default)]
struct Seen<'a>(Vec<&'a Peer>);

impl<'a> Seen<'a> {
    /// Adds `peer`, or says which of its two parts was there before.
    fn add(&mut self, peer: &'a Peer) -> Result<(), (Part, String)> {
        for other in &self.0 {
            if other.name == peer.name {
                let reason = format!("the name {} is used twice; names differ", peer.name);
                return Err((Part::Name, reason));
            }
            if other.address == peer.address {
                let (name, address) = (&other.name, &peer.address);
                let reason = format!("{address} is the address of {name} already");
                return Err((Part::Address, reason));
            }
        }
        self.0.push(peer);
        Ok(())
    }
}

/// A part of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Name,
    Address,
}

impl Wrong {
    /// Something wrong at this line and column.
    fn new(line: usize, column: usize, reason: impl Into<String>) -> Self {
        Self { line, column, reason: reason.into() }
    }

    /// Something wrong at this byte of `text`.
    fn at(text: &str, byte: usize, reason: impl Into<String>) -> Self {
        let before = &text[..byte];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.matches('\n').count() + 1;
        Self::new(line, before[line_start..].chars().count() + 1, reason)
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, column, reason } = self;
        write!(f, "{line}:{column}: {reason}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_text_have_a_place() {
        assert_eq!(
            text(b"p1 h\n\xc3\xa4 \xff"),
            Err(Wrong::new(2, 3, "this is not UTF-8; save the file as UTF-8"))
        );
        assert_eq!(text(b"\xff\xfep\0").unwrap_err().line, 1);
        assert_eq!(text("\u{feff}p1".as_bytes()), Ok("p1"));
        assert!(text(&vec![b'#'; FILE_BYTES_MAX + 1]).is_err());
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Peers::read(Path::new("no/such/file"), machines::parse).unwrap_err();
        assert!(error.0.starts_with("cannot read no/such/file: "), "{}", error.0);
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_known_ones() {
        let list = machines::parse("p1 a\np2 b\n").unwrap();
        let peers = Peers { file: "machines.txt".into(), list };
        assert_eq!(
            peers.named("p9").unwrap_err().0,
            "\"p9\" is not in machines.txt; it lists p1, p2"
        );
        assert_eq!(peers.named("p2").unwrap().name.as_str(), "p2");
    }

    #[test]
    fn a_group_has_a_limit() {
        let many: Vec<String> = (0..=MEMBERS_MAX).map(|i| format!("p{i} h {}", i + 1)).collect();
        let list = machines::parse(&many.join("\n")).unwrap();
        let peers = Peers { file: "f".into(), list };
        assert!(peers.check_group().is_err());
    }
}
