//! What a server or a client counts. Plain atomics: telemetry reads them whenever it likes.

use std::sync::atomic::{AtomicU64, Ordering};

/// Totals since the start, except `open`, `unfinished_bytes` and `unsent_bytes`. All relaxed: each
/// number is right, a set of them is not one moment's picture.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections now open.
    pub open: AtomicU64,
    /// Connections accepted by a server, or made by a client.
    pub accepted: AtomicU64,
    /// Connections closed at once because there were too many.
    pub refused: AtomicU64,
    /// Bytes read from sockets.
    pub bytes_in: AtomicU64,
    /// Bytes written to sockets.
    pub bytes_out: AtomicU64,
    /// Frames decoded: requests and responses.
    pub frames_in: AtomicU64,
    /// Frames written: requests and responses.
    pub frames_out: AtomicU64,
    /// Connections closed because of bytes that are not the remoting protocol.
    pub decode_errors: AtomicU64,
    /// Connections closed by a time limit: idle, a frame that did not end, a peer that did not read.
    pub timed_out: AtomicU64,
    /// Bytes now held by unfinished frames, without the small ones that are free.
    pub unfinished_bytes: AtomicU64,
    /// Bytes now held by unsent answers, without the few of each connection that are free.
    pub unsent_bytes: AtomicU64,
    /// Connections closed because unfinished frames, or unsent answers, of all connections held
    /// too much.
    pub crowded_out: AtomicU64,
    /// HTTP requests answered on the remoting port.
    pub http_requests: AtomicU64,
}

/// Adds to a counter; returns what it was.
pub(super) fn add(counter: &AtomicU64, n: usize) -> u64 {
    counter.fetch_add(n as u64, Ordering::Relaxed)
}

/// Takes from a gauge.
pub(super) fn take(gauge: &AtomicU64, n: usize) {
    gauge.fetch_sub(n as u64, Ordering::Relaxed);
}

/// Sets a gauge.
pub(super) fn set(gauge: &AtomicU64, n: usize) {
    gauge.store(n as u64, Ordering::Relaxed);
}

/// Takes one from a gauge.
pub(super) fn minus_one(gauge: &AtomicU64) {
    take(gauge, 1);
}
