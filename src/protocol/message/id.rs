//! Message ids. An *offset message id* says where a record is, a *unique id* says which message
//! it is; both are hexadecimal and 32 (IPv4) or 56 (IPv6) characters long.

#![warn(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::arithmetic_side_effects
)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::{BufMut, BytesMut};

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// The id of the record at `physical` in the log of the broker at `host`, upper case.
pub fn offset_msg_id(host: SocketAddr, physical: u64) -> String {
    let mut out = BytesMut::with_capacity(56);
    put_offset_msg_id(&mut out, host, physical);
    String::from_utf8_lossy(&out).into_owned()
}

/// The same, appended to `out` without an allocation of its own.
pub fn put_offset_msg_id(out: &mut BytesMut, host: SocketAddr, physical: u64) {
    match host.ip() {
        IpAddr::V4(ip) => put_hex(out, &ip.octets()),
        IpAddr::V6(ip) => put_hex(out, &ip.octets()),
    }
    put_hex(out, &u32::from(host.port()).to_be_bytes());
    put_hex(out, &physical.to_be_bytes());
}

/// Broker address and position in an offset message id, in either case.
pub fn parse(id: &str) -> Option<(SocketAddr, u64)> {
    let ip: IpAddr = match id.len() {
        32 => Ipv4Addr::from(u32::try_from(hex(id.get(..8)?)?).ok()?).into(),
        56 => {
            let (high, low) = (hex(id.get(..16)?)?, hex(id.get(16..32)?)?);
            Ipv6Addr::from(u128::from(high) << 64 | u128::from(low)).into()
        }
        _ => return None,
    };
    let rest = id.get(id.len().checked_sub(24)?..)?;
    let port = u16::try_from(hex(rest.get(..8)?)?).ok()?;
    Some((SocketAddr::new(ip, port), hex(rest.get(8..)?)?))
}

/// What a unique id is made of.
#[derive(Debug, Clone, Copy)]
pub struct UniqueId {
    /// Address of whoever makes it.
    pub ip: IpAddr,
    /// Low bits of the process id.
    pub process: u16,
    /// Drawn once per process, so that a reused process id makes other ids.
    pub seed: u32,
    /// Milliseconds since the start of the month.
    pub month_ms: u32,
    /// Counts messages.
    pub counter: u16,
}

impl UniqueId {
    /// The id as Java's client writes it, upper case.
    pub fn text(&self) -> String {
        let mut out = BytesMut::with_capacity(56);
        match self.ip {
            IpAddr::V4(ip) => put_hex(&mut out, &ip.octets()),
            IpAddr::V6(ip) => put_hex(&mut out, &ip.octets()),
        }
        put_hex(&mut out, &self.process.to_be_bytes());
        put_hex(&mut out, &self.seed.to_be_bytes());
        put_hex(&mut out, &self.month_ms.to_be_bytes());
        put_hex(&mut out, &self.counter.to_be_bytes());
        String::from_utf8_lossy(&out).into_owned()
    }
}

fn put_hex(out: &mut BytesMut, bytes: &[u8]) {
    for byte in bytes {
        for nibble in [byte >> 4, byte & 15] {
            out.put_u8(HEX.get(usize::from(nibble)).copied().unwrap_or_default());
        }
    }
}

fn hex(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|b| b.is_ascii_hexdigit());
    if digits { u64::from_str_radix(text, 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ids_are_those_of_java() {
        let host = "127.0.0.1:32911".parse().unwrap();
        assert_eq!(offset_msg_id(host, 0x1AF6), "7F0000010000808F0000000000001AF6");
        assert_eq!(parse("7F0000010000808F0000000000001af6"), Some((host, 0x1AF6)));
    }

    #[test]
    fn what_is_not_an_id_is_refused() {
        let rows = [
            "",
            "7F0000010000808F0000000000001AF",
            "7F0000010001808F0000000000001AF6",
            "+F0000010000808F0000000000001AF6",
            "ä7F0000010000808F0000000000001A",
        ];
        for id in rows {
            assert_eq!(parse(id), None, "{id}");
        }
    }

    #[test]
    fn unique_ids_have_the_length_clients_expect() {
        let id = |ip| UniqueId { ip, process: 7, seed: 0xAB, month_ms: 1000, counter: 3 };
        let v4 = id(Ipv4Addr::LOCALHOST.into()).text();
        assert_eq!(v4, "7F0000010007000000AB000003E80003");
        assert_eq!(id(Ipv6Addr::LOCALHOST.into()).text().len(), 56);
    }

    proptest! {
        #[test]
        fn ids_come_back(ip in any::<IpAddr>(), port in any::<u16>(), at in any::<u64>()) {
            let host = SocketAddr::new(ip, port);
            prop_assert_eq!(parse(&offset_msg_id(host, at)), Some((host, at)));
        }

        #[test]
        fn arbitrary_text_never_panics(text in any::<String>()) {
            let _ = parse(&text);
        }
    }
}
