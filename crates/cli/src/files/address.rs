//! Addresses as people write them: a host and a port.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// The port of who gives none: "RING" on a telephone.
pub(crate) const DEFAULT_PORT: u16 = 7464;

/// Where a node listens. Equal addresses are written alike; whether two names lead to one machine
/// only the resolver knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    /// The host.
    pub(crate) host: Host,
    /// The port, never 0.
    pub(crate) port: u16,
}

/// A host: an address, or a name to look up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    /// An IP address.
    Ip(IpAddr),
    /// A DNS name, in lower case.
    Dns(String),
}

impl Address {
    /// Parses `host:port` or `host`, where an IPv6 address stands in brackets. Without a port in
    /// the text it is `default_port`.
    pub(crate) fn parse(text: &str, default_port: u16) -> Result<Self, String> {
        let (host, port) = split(text)?;
        let port = port.map_or(Ok(default_port), parse_port)?;
        Ok(Self { host: Host::parse(host)?, port })
    }

    /// Whether `text` says which port.
    pub(crate) fn has_port(text: &str) -> bool {
        matches!(split(text), Ok((_, Some(_))))
    }
}

/// Splits `host:port`, leaving the brackets to the host.
fn split(text: &str) -> Result<(&str, Option<&str>), String> {
    let colon = if text.starts_with('[') {
        let Some(end) = text.find(']') else {
            return Err(format!("the bracket of {text:?} is never closed"));
        };
        match &text[end + 1..] {
            "" => None,
            rest if rest.starts_with(':') => Some(end + 1),
            rest => return Err(format!("{rest:?} stands after the bracket; write [address]:port")),
        }
    } else {
        if text.matches(':').count() > 1 {
            return Err(format!(
                "{text:?} has several colons; write an IPv6 address in brackets, like [::1]:7001"
            ));
        }
        text.find(':')
    };
    Ok(match colon {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    })
}

/// Parses a port.
pub(crate) fn parse_port(text: &str) -> Result<u16, String> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match text.parse() {
        Ok(port @ 1..) if digits => Ok(port),
        _ => Err(format!("{text:?} is not a port; a port is a number from 1 to 65535")),
    }
}

impl Host {
    /// Parses an IPv4 address, an IPv6 address in brackets, or a DNS name.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("the host is missing".into());
        }
        if let Some(inner) = text.strip_prefix('[') {
            let ip = inner.strip_suffix(']').and_then(|ip| ip.parse::<Ipv6Addr>().ok());
            return ip
                .map(|ip| Self::Ip(ip.into()))
                .ok_or_else(|| format!("{text:?} is not an IPv6 address in brackets"));
        }
        if text.contains(':') {
            return Err(format!("{text:?} needs brackets if it is an IPv6 address: [{text}]"));
        }
        if let Ok(ip) = text.parse::<Ipv4Addr>() {
            return Ok(Self::Ip(ip.into()));
        }
        dns(text).map(Self::Dns)
    }
}

/// Checks a DNS name (RFC 1123, section 2.1) and puts it into lower case.
fn dns(text: &str) -> Result<String, String> {
    if !text.is_ascii() {
        return Err(format!("{text:?} is not a host; write an international name as xn--…"));
    }
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    // Underscores are not in the RFC, but in the names of containers.
    let letter = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    let label = |label: &str| {
        let edge = label.starts_with('-') || label.ends_with('-');
        (1..=63).contains(&label.len()) && label.bytes().all(letter) && !edge
    };
    if name.len() > 253 || !name.split('.').all(label) {
        return Err(format!("{text:?} is neither an address nor a DNS name"));
    }
    let last = name.rsplit('.').next().unwrap_or(&name);
    if last.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!("{text:?} is not an IPv4 address"));
    }
    Ok(name)
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]:{}", self.port),
            Host::Ip(IpAddr::V4(ip)) => write!(f, "{ip}:{}", self.port),
            Host::Dns(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_write_an_address() {
        for (text, shown) in [
            ("127.0.0.1:7001", "127.0.0.1:7001"),
            ("127.0.0.1", "127.0.0.1:7464"),
            ("[::1]:7001", "[::1]:7001"),
            ("[::1]", "[::1]:7464"),
            ("[0:0::1]:1", "[::1]:1"),
            ("Ring.Example.org.:65535", "ring.example.org:65535"),
            ("localhost", "localhost:7464"),
            ("node_1:80", "node_1:80"),
            ("1a", "1a:7464"),
        ] {
            let address = Address::parse(text, DEFAULT_PORT).unwrap();
            assert_eq!(address.to_string(), shown, "{text}");
        }
    }

    #[test]
    fn every_malformed_address_has_its_reason() {
        for (text, reason) in [
            ("", "the host is missing"),
            (":7001", "the host is missing"),
            ("h:", "\"\" is not a port"),
            ("h:0", "\"0\" is not a port"),
            ("h:+1", "\"+1\" is not a port"),
            ("h:65536", "\"65536\" is not a port"),
            ("h:port", "\"port\" is not a port"),
            ("::1", "several colons"),
            ("::1:7001", "several colons"),
            ("[::1", "never closed"),
            ("[::1]7001", "after the bracket"),
            ("[::g]", "not an IPv6 address"),
            ("[127.0.0.1]", "not an IPv6 address"),
            ("127.0.0.300", "not an IPv4 address"),
            ("127.0.0.1.5", "not an IPv4 address"),
            ("bücher", "xn--"),
            ("-a", "neither"),
            ("a..b", "neither"),
            ("a/b", "neither"),
            ("http://a", "not a port"),
        ] {
            let error = Address::parse(text, DEFAULT_PORT).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
        assert!(Address::parse(&"a".repeat(64), 1).is_err());
        assert!(Address::parse(&["abcdefg"; 40].join("."), 1).is_err());
    }
}
