//! Which of many connections have something to read.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::wire::Conn;

const AT_ONCE: usize = 256;

pub struct Poll {
    epoll: OwnedFd,
    events: Vec<libc::epoll_event>,
}

impl Poll {
    pub fn new() -> Result<Self> {
        // SAFETY: no preconditions; a descriptor that is returned is ours.
        let epoll = unsafe {
            let fd = libc::epoll_create1(libc::EPOLL_CLOEXEC);
            ensure!(fd >= 0, "epoll_create1: {}", io::Error::last_os_error());
            OwnedFd::from_raw_fd(fd)
        };
        Ok(Self { epoll, events: vec![libc::epoll_event { events: 0, u64: 0 }; AT_ONCE] })
    }

    /// Watches a connection until it is closed; `at` is how it is named then.
    pub fn add(&mut self, conn: &Conn, at: usize) -> Result<()> {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: at as u64 };
        let (epoll, op) = (self.epoll.as_raw_fd(), libc::EPOLL_CTL_ADD);
        // SAFETY: both descriptors are open, and the event lives across the call.
        let done = unsafe { libc::epoll_ctl(epoll, op, conn.as_raw_fd(), &mut event) };
        ensure!(done == 0, "epoll_ctl: {}", io::Error::last_os_error());
        Ok(())
    }

    /// Those that can be read, or have ended, after at most `timeout`.
    pub fn wait(&mut self, timeout: Duration) -> Result<Vec<usize>> {
        let (epoll, millis) = (self.epoll.as_raw_fd(), timeout.as_millis() as i32);
        // SAFETY: the buffer holds AT_ONCE events and lives across the call.
        let n =
            unsafe { libc::epoll_wait(epoll, self.events.as_mut_ptr(), AT_ONCE as i32, millis) };
        let interrupted = io::Error::last_os_error().kind() == io::ErrorKind::Interrupted;
        ensure!(n >= 0 || interrupted, "epoll_wait: {}", io::Error::last_os_error());
        let ready = self.events.iter().take(usize::try_from(n).unwrap_or(0));
        Ok(ready.map(|event| event.u64 as usize).collect())
    }
}
