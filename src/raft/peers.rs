//! The members of a group as the configuration names them.

use std::collections::BTreeMap;
use std::fmt;

/// Where a member listens for its peers. The host is resolved at each connect, never here.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PeerAddress {
    /// Name or address; IPv6 without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// All members of a group, by name. Displays as in `dLegerPeers`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Peers(BTreeMap<String, PeerAddress>);

impl Peers {
    /// Members by name.
    pub fn new(members: impl IntoIterator<Item = (String, PeerAddress)>) -> Self {
        Self(members.into_iter().collect())
    }

    /// Where the member of that name listens.
    pub fn address(&self, name: &str) -> Option<&PeerAddress> {
        self.0.get(name)
    }

    /// Names and addresses, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &PeerAddress)> {
        self.0.iter().map(|(name, address)| (name.as_str(), address))
    }

    /// Place of a member in the list, from 0.
    pub fn place(&self, name: &str) -> Option<usize> {
        self.0.keys().position(|key| key == name)
    }

    /// Number of members.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (name, address)) in self.0.iter().enumerate() {
            let separator = if place == 0 { "" } else { ";" };
            write!(f, "{separator}{name}-{address}")?;
        }
        Ok(())
    }
}
