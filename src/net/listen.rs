//! Binds a listening socket, and says who is in the way when that fails.
//!
//! ```text
//!  reserve ─► [Reserved]: who connects is refused ─► listen: nobody else can
//! ```

use std::{
    fmt, fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
};
use tokio::net::{TcpListener, TcpSocket};

/// Connections that may wait to be accepted: Java's `serverSocketBacklog`.
const BACKLOG: u32 = 1024;

/// An address could not be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {cause}{}", self.advice())]
pub struct BindError {
    /// The wanted address.
    pub address: SocketAddr,
    /// What the system said.
    pub cause: io::Error,
    /// Who listens on the port, if that is the cause and we may know.
    pub holder: Option<Holder>,
}

impl BindError {
    fn advice(&self) -> String {
        match (self.cause.kind(), &self.holder) {
            (io::ErrorKind::AddrInUse, Some(holder)) => {
                format!("; {holder} listens on it: stop it, or choose another port")
            }
            (io::ErrorKind::AddrInUse, None) => {
                "; whoever listens on it is hidden from us, or it is the port of an outgoing \
                 connection (sysctl net.ipv4.ip_local_reserved_ports prevents that)"
                    .to_owned()
            }
            (io::ErrorKind::AddrNotAvailable, _) => {
                "; this machine does not have that address".to_owned()
            }
            _ => String::new(),
        }
    }
}

/// A process that holds a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Process id.
    pub pid: u32,
    /// The program's short name.
    pub name: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} ({})", self.pid, self.name)
    }
}

/// An address that nobody listened on, and where nobody is let in yet: who connects is refused at once, as by
/// a process that is not there, and does not wait in a queue for one that is busy starting.
#[derive(Debug)]
pub struct Reserved {
    address: SocketAddr,
    socket: TcpSocket,
}

impl Reserved {
    /// Lets in from now on. Fails if somebody else has reserved the address as well, and was first
    /// to listen. Must be called on a tokio runtime.
    pub fn listen(self) -> Result<TcpListener, BindError> {
        self.socket.listen(BACKLOG).map_err(|cause| told(self.address, cause))
    }
}

/// Takes `address`, unless somebody listens there; port 0 takes a free one. An IPv6 wildcard takes
/// IPv4 as well.
///
/// `SO_REUSEADDR` lets a restarted server have its port while old connections are in `TIME_WAIT`;
/// it does not let two servers share one.
pub fn reserve(address: SocketAddr) -> Result<Reserved, BindError> {
    match bind(address) {
        Ok(socket) => Ok(Reserved { address, socket }),
        Err(cause) => Err(told(address, cause)),
    }
}

/// Listens on `address`, as [`reserve`] takes it. Must be called on a tokio runtime.
pub fn listen(address: SocketAddr) -> Result<TcpListener, BindError> {
    reserve(address)?.listen()
}

/// [`listen`] without the search for who is in the way.
pub(super) fn listen_again(address: SocketAddr) -> io::Result<TcpListener> {
    bind(address)?.listen(BACKLOG)
}

fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

fn told(address: SocketAddr, cause: io::Error) -> BindError {
    let taken = cause.kind() == io::ErrorKind::AddrInUse;
    let holder = if taken { holder_of(address.port(), Path::new("/proc")) } else { None };
    BindError { address, cause, holder }
}

/// Best effort: other users' processes do not show their sockets.
fn holder_of(port: u16, proc: &Path) -> Option<Holder> {
    let mut inodes = Vec::new();
    for table in ["net/tcp", "net/tcp6"] {
        let text = fs::read_to_string(proc.join(table)).unwrap_or_default();
        inodes.extend(listening_inodes(&text, port));
    }
    let sockets: Vec<PathBuf> =
        inodes.iter().map(|inode| format!("socket:[{inode}]").into()).collect();
    if sockets.is_empty() {
        return None;
    }
    fs::read_dir(proc).ok()?.flatten().find_map(|process| {
        let pid = process.file_name().to_str()?.parse().ok()?;
        let mut files = fs::read_dir(process.path().join("fd")).ok()?.flatten();
        files.find(|file| fs::read_link(file.path()).is_ok_and(|to| sockets.contains(&to)))?;
        let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
        Some(Holder { pid, name: name.trim().to_owned() })
    })
}

/// Inodes of the sockets that listen on `port`, out of the text of `/proc/net/tcp` or `tcp6`.
fn listening_inodes(table: &str, port: u16) -> Vec<u64> {
    const LISTEN: &str = "0A";
    let inode = |line: &str| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let (&[_, local, _, state], &inode) = (columns.get(..4)?, columns.get(9)?) else {
            return None;
        };
        let (_, local_port) = local.rsplit_once(':')?;
        let ours = u16::from_str_radix(local_port, 16).ok()? == port && state == LISTEN;
        if ours { inode.parse().ok() } else { None }
    };
    table.lines().skip(1).filter_map(inode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpStream;

    #[test]
    fn only_listening_sockets_of_the_port_are_found() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            0: 00000000:2A9F 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0\n\
            1: 0100007F:2A9F 0100007F:D2F0 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 100 0 0 10 0\n\
            2: 00000000:2A9E 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4713 1 0 100 0 0 10 0\n\
            3: damaged\n\
            4: 00000000000000000000000000000000:2A9F 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 4714 1";
        assert_eq!(listening_inodes(table, 10911), [4711, 4714]);
        assert_eq!(listening_inodes(table, 1), [0; 0]);
    }

    #[tokio::test]
    async fn a_taken_port_is_reported_with_its_address_and_its_holder() {
        let first = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = first.local_addr().unwrap();
        let error = listen(address).unwrap_err();
        assert_eq!(error.holder.as_ref().map(|h| h.pid), Some(std::process::id()));
        let text = error.to_string();
        assert!(text.starts_with(&format!("cannot listen on {address}: ")), "{text}");
        assert!(text.contains(&format!("process {} (", std::process::id())), "{text}");
        assert!(text.ends_with("listens on it: stop it, or choose another port"), "{text}");
    }

    #[tokio::test]
    async fn a_reserved_address_refuses_until_it_listens_and_has_one_listener() {
        let free = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let (reserved, rival) = (reserve(address).unwrap(), reserve(address).unwrap());
        let refused = TcpStream::connect(address).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        let listener = reserved.listen().unwrap();
        let (_peer, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        accepted.unwrap();
        let error = rival.listen().unwrap_err();
        assert_eq!(error.holder.map(|h| h.pid), Some(std::process::id()));
        reserve(address).unwrap_err();
    }

    #[tokio::test]
    async fn an_address_of_another_machine_is_told() {
        let text = listen("192.0.2.1:0".parse().unwrap()).unwrap_err().to_string();
        assert!(text.ends_with("; this machine does not have that address"), "{text}");
    }
}
