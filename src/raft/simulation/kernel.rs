//! What a process gets from the kernel, clocks and entropy, while a simulation runs in it.
//!
//! tokio, h2, hyper and the hash maps of the standard library read these by themselves. The C
//! library's functions are replaced in the test program, where all of them end up; other tests get
//! from the kernel what they ask for.
#![allow(unsafe_code)]

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64};

use rustix::rand::{GetRandomFlags, getrandom as from_kernel};
use rustix::time::{ClockId, clock_gettime as kernel_time};

static IS_SIMULATED: AtomicBool = AtomicBool::new(false);
static NOW_MS: AtomicU64 = AtomicU64::new(0);
static WALL_MS: AtomicI64 = AtomicI64::new(0);
static ENTROPY: AtomicU64 = AtomicU64::new(0);

/// From now on this process has the clock of [`set_time`] and the entropy of `seed`.
pub(super) fn simulate(seed: u64) {
    ENTROPY.store(seed, Relaxed);
    IS_SIMULATED.store(true, Relaxed);
}

/// Sets the monotonic clock and the wall clock.
pub(super) fn set_time(now_ms: u64, wall_ms: i64) {
    NOW_MS.store(now_ms, Relaxed);
    WALL_MS.store(wall_ms, Relaxed);
}

/// `struct timespec` of 64-bit Linux.
#[repr(C)]
struct Timespec {
    seconds: i64,
    nanoseconds: i64,
}

impl Timespec {
    fn of_ms(ms: i64) -> Self {
        let (seconds, ms) = (ms.div_euclid(1000), ms.rem_euclid(1000));
        Self { seconds, nanoseconds: ms * 1_000_000 }
    }
}

fn read_clock(clock: i32) -> Option<Timespec> {
    let clock = match clock {
        0 => ClockId::Realtime,
        1 => ClockId::Monotonic,
        2 => ClockId::ProcessCPUTime,
        3 => ClockId::ThreadCPUTime,
        5 => ClockId::RealtimeCoarse,
        6 => ClockId::MonotonicCoarse,
        7 => ClockId::Boottime,
        _ => return None,
    };
    if IS_SIMULATED.load(Relaxed) {
        let now = i64::try_from(NOW_MS.load(Relaxed)).unwrap_or(i64::MAX);
        match clock {
            ClockId::Realtime | ClockId::RealtimeCoarse => {
                return Some(Timespec::of_ms(WALL_MS.load(Relaxed)));
            }
            ClockId::Monotonic | ClockId::MonotonicCoarse | ClockId::Boottime => {
                return Some(Timespec::of_ms(now));
            }
            _ => {}
        }
    }
    let now = kernel_time(clock);
    Some(Timespec { seconds: now.tv_sec, nanoseconds: now.tv_nsec })
}

/// Takes the place of the C library's function of that name.
///
/// # Safety
/// `time` points to room for a `timespec`.
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(clock: i32, time: *mut Timespec) -> i32 {
    let Some(now) = read_clock(clock) else { return -1 };
    // SAFETY: the caller's promise, which is that of clock_gettime(2).
    unsafe { time.write(now) };
    0
}

/// Takes the place of the C library's function of that name.
///
/// # Safety
/// `buffer` points to room for `bytes` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(buffer: *mut u8, bytes: usize, flags: u32) -> isize {
    if buffer.is_null() || bytes == 0 {
        return 0; // how the getrandom crate asks whether there is such a function
    }
    // SAFETY: the caller's promise, which is that of getrandom(2); zeros make it initialised.
    let out = unsafe {
        buffer.write_bytes(0, bytes);
        std::slice::from_raw_parts_mut(buffer, bytes)
    };
    if IS_SIMULATED.load(Relaxed) {
        for eight in out.chunks_mut(8) {
            let drawn = ENTROPY.fetch_add(0x9e37_79b9_7f4a_7c15, Relaxed);
            eight.copy_from_slice(&mixed(drawn).to_le_bytes()[..eight.len()]);
        }
        return isize::try_from(bytes).unwrap_or(-1);
    }
    let drawn = from_kernel(out, GetRandomFlags::from_bits_retain(flags));
    drawn.ok().and_then(|bytes| isize::try_from(bytes).ok()).unwrap_or(-1)
}

/// The output function of SplitMix64.
fn mixed(drawn: u64) -> u64 {
    let z = (drawn ^ (drawn >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
