//! Addresses as people write them: a host and a port, kept as names. Whoever connects resolves
//! the name, at every connect, because addresses behind names change.

use std::{collections::BTreeMap, fmt, net::IpAddr, str::FromStr};

/// A host (name, IPv4 or IPv6 address) and a port. Not resolved.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// DNS name or address, IPv6 without brackets.
    pub host: String,
    /// 1 to 65535.
    pub port: u16,
}

impl Endpoint {
    /// The address, when the host is written as one.
    pub fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Why a text is not an address or a peer list. The text names the wrong part.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct AddressError(String);

impl FromStr for Endpoint {
    type Err = AddressError;

    /// `host:port` or `[ipv6]:port`.
    fn from_str(text: &str) -> Result<Self, AddressError> {
        let text = text.trim();
        let (host, port) = split_port(text)?;
        let plain = port.bytes().all(|b| b.is_ascii_digit()); // `+80` parses, but is no port
        let number = port.parse().ok().filter(|port: &u16| plain && *port > 0);
        let Some(port) = number else {
            return Err(AddressError(format!("`{port}` in `{text}` is not a port (1–65535)")));
        };
        host_error(host)
            .map_or_else(|| Ok(Self { host: host.to_owned(), port }), |e| Err(AddressError(e)))
    }
}

fn split_port(text: &str) -> Result<(&str, &str), AddressError> {
    if let Some(inside) = text.strip_prefix('[') {
        let Some((host, rest)) = inside.split_once(']') else {
            return Err(AddressError(format!("`{text}`: `[` without `]`")));
        };
        if host.parse::<std::net::Ipv6Addr>().is_err() {
            return Err(AddressError(format!("`{host}` in `{text}` is not an IPv6 address")));
        }
        let port = rest.strip_prefix(':').filter(|p| !p.is_empty());
        return port.map(|port| (host, port)).ok_or_else(|| no_port(text));
    }
    let (host, port) = text.rsplit_once(':').ok_or_else(|| no_port(text))?;
    if host.contains(':') {
        return Err(AddressError(format!(
            "`{text}`: write an IPv6 address in brackets, `[address]:port`"
        )));
    }
    if port.is_empty() { Err(no_port(text)) } else { Ok((host, port)) }
}

fn no_port(text: &str) -> AddressError {
    AddressError(format!("`{text}` has no port: write `host:port`"))
}

/// What is wrong with a host name or address, if anything.
pub fn host_error(host: &str) -> Option<String> {
    if host.is_empty() {
        return Some("the host is empty".to_owned());
    }
    if host.parse::<IpAddr>().is_ok() {
        return None;
    }
    let numeric = host.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    if numeric || host.len() > 253 || !host.bytes().all(legal) || host.starts_with(['-', '.']) {
        return Some(format!("`{host}` is neither a host name nor an address"));
    }
    None
}

/// A list of name servers, `host:port;host:port`. Repeated ones are kept once.
pub fn parse_endpoints(text: &str) -> Result<Vec<Endpoint>, AddressError> {
    let mut found = Vec::new();
    for part in text.split([';', ',']).map(str::trim).filter(|part| !part.is_empty()) {
        let endpoint = part.parse()?;
        if !found.contains(&endpoint) {
            found.push(endpoint);
        }
    }
    Ok(found)
}

/// The members of a group: name → where its peers reach it. Ordered by name, so every member that
/// has the same list sees the same order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Peers(BTreeMap<String, Endpoint>);

impl Peers {
    /// The list of a group that has one member.
    pub fn single(name: &str, address: Endpoint) -> Self {
        Self(BTreeMap::from([(name.to_owned(), address)]))
    }

    /// The address of one member.
    pub fn get(&self, name: &str) -> Option<&Endpoint> {
        self.0.get(name)
    }

    /// The members, by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Endpoint)> {
        self.0.iter().map(|(name, address)| (name.as_str(), address))
    }

    /// How many members.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The place of a member in the list, from 0.
    pub fn place(&self, name: &str) -> Option<usize> {
        self.0.keys().position(|n| n == name)
    }
}

impl fmt::Display for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (name, address)) in self.iter().enumerate() {
            let semicolon = if number > 0 { ";" } else { "" };
            write!(f, "{semicolon}{name}-{address}")?;
        }
        Ok(())
    }
}

impl FromStr for Peers {
    type Err = AddressError;

    /// `n0-host:port;n1-host:port`: the first `-` ends the name, the host may contain more.
    fn from_str(text: &str) -> Result<Self, AddressError> {
        let mut peers = BTreeMap::<String, Endpoint>::new();
        for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
            let (name, address) = peer(part)?;
            if let Some((other, _)) = peers.iter().find(|(_, a)| **a == address) {
                return Err(AddressError(format!(
                    "`{part}`: member `{other}` has the address {address} already"
                )));
            }
            if peers.insert(name.to_owned(), address).is_some() {
                return Err(AddressError(format!("`{part}`: member `{name}` is listed twice")));
            }
        }
        if peers.is_empty() {
            return Err(AddressError("the list of members is empty".to_owned()));
        }
        Ok(Self(peers))
    }
}

fn peer(part: &str) -> Result<(&str, Endpoint), AddressError> {
    let Some((name, address)) = part.split_once('-') else {
        return Err(AddressError(format!(
            "`{part}` has no member name: write `name-host:port`, for example `n0-{part}`"
        )));
    };
    if let Some(error) = member_name_error(name) {
        return Err(AddressError(format!("`{part}`: {error}")));
    }
    let address = address.parse().map_err(|e| AddressError(format!("member `{name}`: {e}")))?;
    Ok((name, address))
}

/// What is wrong with a member's name, if anything.
pub fn member_name_error(name: &str) -> Option<String> {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    if name.is_empty() || name.len() > 64 || !name.bytes().all(legal) {
        let long = if name.chars().count() > 64 { "…" } else { "" };
        let name: String = name.chars().take(64).collect();
        return Some(format!(
            "`{name}{long}` is not a member name: 1–64 letters, digits or `_` (n0, n1, …)"
        ));
    }
    None
}
