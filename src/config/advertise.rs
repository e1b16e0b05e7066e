//! The host that a broker tells its clients: as configured, or found out, or refused. A wrong
//! guess costs hours, because everything looks well until a client elsewhere connects.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket},
};

use crate::config::{BrokerConfig, address::Endpoint, settings::Source, value::Value};

/// The host that clients are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advertised {
    /// Name or address, IPv6 without brackets.
    pub host: String,
    /// Why this one, to be logged at start.
    pub reason: String,
}

/// Several addresses would do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "this machine has several addresses ({}) and it is not clear which one clients reach: set \
     brokerIP1 to one of them",
    list(.0)
)]
pub struct Ambiguous(pub Vec<Interface>);

/// An address of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its interface, if known.
    pub name: Option<String>,
    /// The address.
    pub address: IpAddr,
}

/// What the decision is made from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// `brokerIP1`, if it was written.
    pub configured: Option<String>,
    /// The address that is listened on, unless that is all of them.
    pub bound: Option<IpAddr>,
    /// A name server, and the address this machine uses towards it.
    pub route: Option<(Endpoint, IpAddr)>,
    /// Addresses of this machine, without loopback.
    pub interfaces: Vec<Interface>,
}

/// Decides: configured, bound, towards the name servers, the only one, or an error.
pub fn choose(facts: &Facts) -> Result<Advertised, Ambiguous> {
    if let Some(host) = &facts.configured {
        return Ok(Advertised { host: host.clone(), reason: "brokerIP1".into() });
    }
    let found = |address: IpAddr, reason: String| {
        let here_only = if address.is_loopback() { "; reached from this machine only" } else { "" };
        Ok(Advertised { host: address.to_string(), reason: format!("{reason}{here_only}") })
    };
    if let Some(address) = facts.bound {
        return found(address, "bindAddress".into());
    }
    if let Some((name_server, address)) = &facts.route {
        return found(*address, format!("used towards name server {name_server}"));
    }
    let own: Vec<_> = facts.interfaces.iter().filter(|i| !is_container_bridge(i)).collect();
    match own.as_slice() {
        [] => found(IpAddr::V4(Ipv4Addr::LOCALHOST), "no network".into()),
        [only] => found(only.address, "the only address of this machine".into()),
        several => Err(Ambiguous(several.iter().map(|i| (*i).clone()).collect())),
    }
}

/// Interfaces that lead to containers and virtual machines of this host, never out of it.
fn is_container_bridge(interface: &Interface) -> bool {
    let prefixes = ["docker", "br-", "virbr", "veth", "cni", "flannel", "cali", "podman"];
    interface.name.as_ref().is_some_and(|name| prefixes.iter().any(|p| name.starts_with(p)))
}

fn list(interfaces: &[Interface]) -> String {
    let shown: Vec<_> = interfaces
        .iter()
        .map(|i| {
            let on = i.name.as_ref().map(|name| format!(" on {name}"));
            format!("{}{}", i.address, on.unwrap_or_default())
        })
        .collect();
    shown.join(", ")
}

/// Looks at this machine. Resolves the name servers' names and sends nothing.
pub fn gather(config: &BrokerConfig) -> Facts {
    let wanted = |address: &IpAddr| address.is_ipv4() || config.listen.is_ipv6();
    let bound = Some(config.listen.ip()).filter(|ip| !ip.is_unspecified());
    let route = config.name_servers.iter().find_map(|name_server| {
        let addresses = (name_server.host.as_str(), name_server.port).to_socket_addrs().ok()?;
        let mut own = addresses.filter_map(|to| source_towards(to).ok());
        own.find(wanted).map(|address| (name_server.clone(), address))
    });
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let mut interfaces = ipv4_addresses(&read("/proc/net/fib_trie"), &read("/proc/net/route"));
    if interfaces.is_empty() && config.listen.is_ipv6() {
        interfaces = ipv6_addresses(&read("/proc/net/if_inet6"));
    }
    Facts { configured: config.advertised_host.clone(), bound, route, interfaces }
}

/// The address packets to `to` would come from. Connecting a datagram socket sends nothing.
fn source_towards(to: SocketAddr) -> io::Result<IpAddr> {
    let any: IpAddr = match to {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(to)?;
    Ok(socket.local_addr()?.ip())
}

/// Local addresses out of `/proc/net/fib_trie`, their interfaces out of `/proc/net/route`.
fn ipv4_addresses(trie: &str, routes: &str) -> Vec<Interface> {
    let mut found = Vec::<Interface>::new();
    let mut last = None;
    for line in trie.lines() {
        if let Some(address) = line.trim_start().strip_prefix("|-- ") {
            last = address.trim().parse::<Ipv4Addr>().ok();
        } else if line.contains("/32 host LOCAL")
            && let Some(address) = last.filter(|a| !a.is_loopback())
            && !found.iter().any(|i| i.address == IpAddr::V4(address))
        {
            found.push(Interface { name: interface_of(address, routes), address: address.into() });
        }
    }
    found
}

fn interface_of(address: Ipv4Addr, routes: &str) -> Option<String> {
    let hex = |text: &str| u32::from_str_radix(text, 16).ok().map(u32::swap_bytes);
    routes.lines().skip(1).find_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let (name, network, mask) = (fields.first()?, hex(fields.get(1)?)?, hex(fields.get(7)?)?);
        (mask != 0 && u32::from(address) & mask == network).then(|| (*name).to_owned())
    })
}

/// Global addresses out of `/proc/net/if_inet6`.
fn ipv6_addresses(text: &str) -> Vec<Interface> {
    let address = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let bits = u128::from_str_radix(fields.first()?, 16).ok()?;
        let global = fields.get(3) == Some(&"00");
        let name = fields.get(5).map(|name| (*name).to_owned());
        global.then(|| Interface { name, address: Ipv6Addr::from_bits(bits).into() })
    };
    text.lines().filter_map(address).collect()
}

impl BrokerConfig {
    /// Decides which host clients are told, and shows it as `brokerIP1` from then on.
    pub fn advertise(&mut self, facts: &Facts) -> Result<Advertised, Ambiguous> {
        let chosen = choose(facts)?;
        if facts.configured.is_none() {
            let source = Source::Derived(chosen.reason.clone());
            self.settings.set("brokerIP1", Value::Text(chosen.host.clone()), source);
            self.advertised_host = Some(chosen.host.clone());
        }
        Ok(chosen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(name: &str, address: &str) -> Interface {
        Interface { name: Some(name.into()), address: address.parse().unwrap() }
    }

    #[test]
    fn the_advertised_host_is_configured_bound_routed_or_the_only_one() {
        let all = Facts {
            configured: Some("broker.example".into()),
            bound: Some("10.0.0.1".parse().unwrap()),
            route: Some(("ns:9876".parse().unwrap(), "10.0.0.2".parse().unwrap())),
            interfaces: vec![interface("eth0", "10.0.0.3")],
        };
        let bound = Facts { configured: None, ..all.clone() };
        let routed = Facts { bound: None, ..bound.clone() };
        let only = Facts { route: None, ..routed.clone() };
        let bridge = interface("docker0", "172.17.0.1");
        let with_bridge =
            Facts { interfaces: vec![bridge, interface("eth0", "10.0.0.3")], ..only.clone() };
        let none = Facts::default();
        let local = Facts {
            route: Some(("localhost:9876".parse().unwrap(), "127.0.0.1".parse().unwrap())),
            ..with_bridge.clone()
        };
        let rows = [
            (&all, "broker.example", "brokerIP1"),
            (&bound, "10.0.0.1", "bindAddress"),
            (&routed, "10.0.0.2", "used towards name server ns:9876"),
            (&only, "10.0.0.3", "the only address of this machine"),
            (&with_bridge, "10.0.0.3", "the only address of this machine"),
            (&none, "127.0.0.1", "no network; reached from this machine only"),
            (
                &local,
                "127.0.0.1",
                "used towards name server localhost:9876; reached from this machine only",
            ),
        ];
        for (facts, host, reason) in rows {
            let chosen = choose(facts).unwrap();
            assert_eq!((chosen.host.as_str(), chosen.reason.as_str()), (host, reason));
        }
    }

    #[test]
    fn several_addresses_are_refused_and_listed() {
        let interfaces = vec![interface("eth0", "10.0.0.3"), interface("eth1", "192.168.0.3")];
        let error = choose(&Facts { interfaces, ..Facts::default() }).unwrap_err();
        assert_eq!(
            error.to_string(),
            "this machine has several addresses (10.0.0.3 on eth0, 192.168.0.3 on eth1) and it is \
             not clear which one clients reach: set brokerIP1 to one of them"
        );
    }

    #[test]
    fn addresses_are_read_from_the_kernels_tables() {
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 127.0.0.0\n        /8 host LOCAL\n     \
                    |-- 127.0.0.1\n        /32 host LOCAL\n     |-- 192.0.2.0\n        /24 link \
                    UNICAST\n     |-- 192.0.2.2\n        /32 host LOCAL\nLocal:\n     |-- \
                    192.0.2.2\n        /32 host LOCAL\n     |-- 192.0.2.255\n        /32 link \
                    BROADCAST\n";
        let routes = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\n\
                      eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\n\
                      eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\n";
        assert_eq!(ipv4_addresses(trie, routes), vec![interface("eth0", "192.0.2.2")]);
        assert_eq!(ipv4_addresses("", ""), vec![]);
        let inet6 = "fe8000000000000000fc00fffe000001 04 40 20 80     eth0\n\
                     00000000000000000000000000000001 01 80 10 80       lo\n\
                     fd000000000000000000000000000002 04 40 00 82     eth0\n";
        assert_eq!(ipv6_addresses(inet6), vec![interface("eth0", "fd00::2")]);
    }

    #[test]
    fn the_source_address_towards_loopback_is_loopback() {
        let towards = "127.0.0.1:9876".parse().unwrap();
        assert_eq!(source_towards(towards).unwrap(), Ipv4Addr::LOCALHOST);
    }
}
