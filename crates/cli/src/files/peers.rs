//! `peers.json`: `[{"name", "host", "port"}]`, `{"name": "host:port"}` or
//! `{"name": {"host", "port"}}`.

use super::{
    Part, Peer, Seen, Wrong,
    address::{Address, DEFAULT_PORT, Host},
};
use roundelay::Name;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;
use std::{fmt, net::Ipv6Addr};

const SHAPES: &str = "write [{\"name\": …, \"host\": …, \"port\": …}] or {\"name\": \"host:port\"}";

/// An object, in the order of the file and with what stands in it twice.
struct Fields<'a>(Vec<(&'a RawValue, &'a RawValue)>);

/// A peer, and where in the text its parts begin.
struct Entry {
    peer: Peer,
    name_byte: usize,
    address_byte: usize,
}

/// The text, to find the places of its values.
struct Source<'a>(&'a str);

/// Parses the text of `peers.json`.
pub(crate) fn parse(text: &str) -> Result<Vec<Peer>, Wrong> {
    let source = Source(text);
    let whole: &RawValue = serde_json::from_str(text).map_err(|error| source.syntax(&error))?;
    let entries = match whole.get().as_bytes()[0] {
        b'[' => {
            let items: Vec<&RawValue> = source.decode(whole, "a list")?;
            items.into_iter().map(|item| source.listed(item)).collect::<Result<Vec<_>, _>>()?
        }
        b'{' => {
            let Fields(fields) = source.decode(whole, "an object")?;
            fields
                .into_iter()
                .map(|(key, value)| source.keyed(key, value))
                .collect::<Result<Vec<_>, _>>()?
        }
        _ => return Err(source.wrong(whole, format!("this is no list of peers; {SHAPES}"))),
    };
    if entries.is_empty() {
        return Err(source.wrong(whole, format!("no peers in this file; {SHAPES}")));
    }
    let mut seen = Seen::default();
    for entry in &entries {
        seen.add(&entry.peer).map_err(|(part, reason)| {
            let byte = match part {
                Part::Name => entry.name_byte,
                Part::Address => entry.address_byte,
            };
            Wrong::at(text, byte, reason)
        })?;
    }
    Ok(entries.into_iter().map(|entry| entry.peer).collect())
}

impl<'a> Source<'a> {
    /// An entry of the list: `{"name", "host", "port"}`.
    fn listed(&self, item: &'a RawValue) -> Result<Entry, Wrong> {
        let [name, host, port] = self.fields(item, ["name", "host", "port"])?;
        let address = self.address(host, port)?;
        Ok(Entry {
            peer: Peer { name: self.name(name)?, address },
            name_byte: self.byte(name),
            address_byte: self.byte(host),
        })
    }

    /// An entry of the object: a name, and `"host:port"` or `{"host", "port"}`.
    fn keyed(&self, key: &'a RawValue, value: &'a RawValue) -> Result<Entry, Wrong> {
        let name = self.name(key)?;
        let address = match value.get().as_bytes()[0] {
            b'"' => self.host_and_port(value)?,
            b'{' => {
                let [host, port] = self.fields(value, ["host", "port"])?;
                self.address(host, port)?
            }
            _ => {
                let reason =
                    format!("the address of {name} is neither \"host:port\" nor an object");
                return Err(self.wrong(value, reason));
            }
        };
        Ok(Entry {
            peer: Peer { name, address },
            name_byte: self.byte(key),
            address_byte: self.byte(value),
        })
    }

    /// The values of exactly these fields of an object.
    fn fields<const N: usize>(
        &self,
        object: &'a RawValue,
        wanted: [&str; N],
    ) -> Result<[&'a RawValue; N], Wrong> {
        let expected = wanted.map(|name| format!("{name:?}")).join(", ");
        if !object.get().starts_with('{') {
            return Err(self.wrong(object, format!("this is no object with {expected}")));
        }
        let Fields(fields) = self.decode(object, "an object")?;
        let mut found = [None; N];
        for (key, value) in fields {
            let key_text: String = self.decode(key, "text")?;
            let Some(index) = wanted.iter().position(|name| *name == key_text) else {
                let reason = format!("{key_text:?} is unknown; a peer has {expected}");
                return Err(self.wrong(key, reason));
            };
            if found[index].replace(value).is_some() {
                return Err(self.wrong(key, format!("{key_text:?} is given twice")));
            }
        }
        let missing = |index: usize| {
            self.wrong(object, format!("{:?} is missing; a peer has {expected}", wanted[index]))
        };
        if let Some(index) = found.iter().position(Option::is_none) {
            return Err(missing(index));
        }
        Ok(found.map(|value| value.expect("none of them is missing")))
    }

    fn name(&self, value: &'a RawValue) -> Result<Name, Wrong> {
        let text: String = self.text(value, "the name")?;
        Name::new(&text).map_err(|error| self.wrong(value, error.to_string()))
    }

    fn host_and_port(&self, value: &'a RawValue) -> Result<Address, Wrong> {
        let text = self.text(value, "the address")?;
        if !Address::has_port(&text) && Address::parse(&text, DEFAULT_PORT).is_ok() {
            return Err(self.wrong(value, format!("{text:?} has no port; write \"host:port\"")));
        }
        Address::parse(&text, DEFAULT_PORT).map_err(|error| self.wrong(value, error))
    }

    fn address(&self, host: &'a RawValue, port: &'a RawValue) -> Result<Address, Wrong> {
        let text = self.text(host, "the host")?;
        // In a field of its own an IPv6 address needs no brackets.
        let parsed = match text.parse::<Ipv6Addr>() {
            Ok(ip) => Ok(Host::Ip(ip.into())),
            Err(_) if !text.starts_with('[') && Address::has_port(&text) => {
                Err(format!("{text:?} has a port, which belongs into \"port\""))
            }
            Err(_) => Host::parse(&text),
        };
        let host = parsed.map_err(|error| self.wrong(host, error))?;
        let text = port.get();
        let Ok(number @ 1..=u16::MAX) = text.parse() else {
            let reason = format!("{text} is not a port; a port is a number from 1 to 65535");
            return Err(self.wrong(port, reason));
        };
        Ok(Address { host, port: number })
    }

    fn text(&self, value: &'a RawValue, what: &str) -> Result<String, Wrong> {
        if value.get().starts_with('"') {
            self.decode(value, "text")
        } else {
            Err(self.wrong(value, format!("{what} is not a text in quotes")))
        }
    }

    /// Decodes a value whose syntax has been checked; what fails is its text, or its depth.
    fn decode<T: Deserialize<'a>>(&self, value: &'a RawValue, what: &str) -> Result<T, Wrong> {
        serde_json::from_str(value.get())
            .map_err(|error| self.wrong(value, format!("this is not {what}: {error}")))
    }

    /// Where in the text a value begins: it is a part of it.
    fn byte(&self, value: &RawValue) -> usize {
        value.get().as_ptr() as usize - self.0.as_ptr() as usize
    }

    fn wrong(&self, value: &RawValue, reason: impl Into<String>) -> Wrong {
        Wrong::at(self.0, self.byte(value), reason)
    }

    /// An error of the parser, which counts columns in bytes, and from 0 at the end of the text.
    fn syntax(&self, error: &serde_json::Error) -> Wrong {
        let text = error.to_string();
        // The place is printed before the reason already.
        let reason = text.split(" at line ").next().unwrap_or(&text);
        let line = self.0.split('\n').nth(error.line().saturating_sub(1)).unwrap_or_default();
        let mut end = error.column().saturating_sub(1).min(line.len());
        while !line.is_char_boundary(end) {
            end -= 1;
        }
        let column = line[..end].chars().count() + 1;
        Wrong::new(error.line().max(1), column, format!("this is not JSON: {reason}"))
    }
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;

        impl<'de> Visitor<'de> for Collect {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(Collect)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Vec<String> {
        let peers = parse(text).unwrap();
        peers.iter().map(|peer| format!("{} {}", peer.name, peer.address)).collect()
    }

    #[test]
    fn every_shape_of_the_file() {
        let same = ["p2 127.0.0.1:7002", "p1 localhost:7001"];
        assert_eq!(
            shown(
                r#" [{"name": "p2", "host": "127.0.0.1", "port": 7002},
                     {"port": 7001, "host": "localhost", "name": "p1"}] "#
            ),
            same
        );
        assert_eq!(shown(r#"{"p2": "127.0.0.1:7002", "p1": "localhost:7001"}"#), same);
        assert_eq!(
            shown(
                r#"{"p2": {"host": "127.0.0.1", "port": 7002}, "p1": {"host": "localhost", "port": 7001}}"#
            ),
            same
        );
        assert_eq!(
            shown(
                r#"{"a": {"host": "::1", "port": 1}, "b": {"host": "[::1]", "port": 2}, "\u0063": "[::1]:3"}"#
            ),
            ["a [::1]:1", "b [::1]:2", "c [::1]:3"]
        );
    }

    #[test]
    fn every_malformed_file_has_its_place_and_reason() {
        for (text, line, column, reason) in [
            ("", 1, 1, "not JSON"),
            ("\n\n", 3, 1, "not JSON"),
            ("p1 h 7001", 1, 1, "not JSON"),
            ("[", 1, 1, "not JSON"),
            ("{\"p1\": \"h:1\",}", 1, 14, "not JSON"),
            ("{\"p1\": \"h:1\"}\n x", 2, 2, "not JSON"),
            ("{\"p1\": \"h:1\"\n \"p2\": 3}", 2, 2, "not JSON"),
            ("7", 1, 1, "no list of peers"),
            (" \"p1\"", 1, 2, "no list of peers"),
            ("[]", 1, 1, "no peers in this file"),
            ("{}", 1, 1, "no peers in this file"),
            ("[7]", 1, 2, "no object with"),
            ("[[\"p1\", \"h\", 1]]", 1, 2, "no object with"),
            ("[{\"name\": \"p1\", \"host\": \"h\"}]", 1, 2, "\"port\" is missing"),
            ("[{\"name\": \"p1\", \"port\": 1}]", 1, 2, "\"host\" is missing"),
            ("[\n {\"host\": \"h\", \"port\": 1}]", 2, 2, "\"name\" is missing"),
            (
                "[{\"name\":\"a\",\"host\":\"h\",\"port\":1,\"prot\":2}]",
                1,
                34,
                "\"prot\" is unknown",
            ),
            ("[{\"name\":\"a\",\"name\":\"b\",\"host\":\"h\",\"port\":1}]", 1, 14, "twice"),
            ("[{\"name\":\"a\",\"host\":\"h\",\"port\":0}]", 1, 32, "0 is not a port"),
            ("[{\"name\":\"a\",\"host\":\"h\",\"port\":65536}]", 1, 32, "65536 is not a port"),
            ("[{\"name\":\"a\",\"host\":\"h\",\"port\":\"1\"}]", 1, 32, "\"1\" is not a port"),
            ("[{\"name\":\"a\",\"host\":\"h\",\"port\":1.5}]", 1, 32, "1.5 is not a port"),
            ("[{\"name\":\"a\",\"host\":\"h\",\"port\":-1}]", 1, 32, "-1 is not a port"),
            ("[{\"name\":\"a\",\"host\":7,\"port\":1}]", 1, 21, "host is not a text"),
            ("[{\"name\":\"a\",\"host\":\"h:2\",\"port\":1}]", 1, 21, "belongs into \"port\""),
            ("[{\"name\":\"a\",\"host\":\"\",\"port\":1}]", 1, 21, "host is missing"),
            ("[{\"name\":\"a b\",\"host\":\"h\",\"port\":1}]", 1, 10, "cannot contain"),
            ("[{\"name\":null,\"host\":\"h\",\"port\":1}]", 1, 10, "name is not a text"),
            ("{\"\": \"h:1\"}", 1, 2, "cannot be empty"),
            ("{\"p1\": 7}", 1, 8, "neither"),
            ("{\"p1\": \"h\"}", 1, 8, "has no port"),
            ("{\"p1\": \"h:x\"}", 1, 8, "not a port"),
            ("{\"p1\": \"::1:7001\"}", 1, 8, "brackets"),
            ("{\"p1\": {\"host\": \"h\"}}", 1, 8, "\"port\" is missing"),
            ("{\"p1\": {\"host\": \"h\", \"port\": 1, \"name\": \"x\"}}", 1, 33, "unknown"),
            ("{\"p1\": \"a:1\",\n \"p1\": \"b:1\"}", 2, 2, "the name p1 is used twice"),
            ("{\"p1\": \"a:1\", \"p\\u0031\": \"b:1\"}", 1, 15, "the name p1 is used twice"),
            ("{\"p1\": \"a:1\", \"p2\": \"A:1\"}", 1, 21, "the address of p1 already"),
            ("{\"p1\": \"ä:1\"}", 1, 8, "xn--"),
            ("{\"ä\": \"h:1\", 7}", 1, 14, "not JSON"),
        ] {
            let wrong = parse(text).unwrap_err();
            assert_eq!((wrong.line, wrong.column), (line, column), "{text:?}: {wrong}");
            assert!(wrong.reason.contains(reason), "{text:?}: {wrong}");
        }
        assert!(parse(&"[".repeat(100_000)).is_err(), "no stack is deep enough for some files");
    }
}
