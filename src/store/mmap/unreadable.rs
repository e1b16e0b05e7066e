//! Pages of mapped files that the disk cannot read any more.
//!
//! Reading one through memory is a signal (SIGBUS) that ends the process, at every start again as
//! long as somebody reads there. Here a page of zeros takes the place of it. Nothing of the log is
//! believed without its checksum: zeros are damage like any other, repaired from another member or
//! told. Who reads derived data asks afterwards how many pages were missing, and has it built again
//! from the log. Only mappings that are watched are treated so; elsewhere the signal does what it
//! always did: a process whose own program cannot be read has nothing to go on with.
//!
//! A page can be read, forgotten, and be unreadable when it is read again: who holds a slice of it
//! then finds zeros where bytes were. That is the one exception to the rule that slices never
//! change, and the alternative is the end of the process.

use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering, fence};

/// Mappings that are watched at a time, a segment and its derived data two; with 1 GiB segments a
/// log of 4 TiB. Further ones are not.
const WATCHES_MAX: usize = 8192;
/// Instead of an address: nobody's slot, and one that is being filled.
const FREE: usize = 0;
const TAKEN: usize = 1;

/// Where a watched mapping lies. The handler reads these, so they are atomics in a static.
struct Slot {
    start: AtomicUsize,
    end: AtomicUsize,
    pages: AtomicUsize,
}

impl Slot {
    const fn free() -> Self {
        let [end, pages] = [const { AtomicUsize::new(0) }; 2];
        Self { start: AtomicUsize::new(FREE), end, pages }
    }

    fn holds(&self, address: usize) -> bool {
        let start = self.start.load(Ordering::Acquire);
        let is_within =
            start > TAKEN && (start..self.end.load(Ordering::Acquire)).contains(&address);
        is_within && self.start.load(Ordering::Relaxed) == start // or the slot changed hands
    }
}

static SLOTS: [Slot; WATCHES_MAX] = [const { Slot::free() }; WATCHES_MAX];
/// What the signal did before, and the size of a page.
static BEFORE: OnceLock<(libc::sigaction, usize)> = OnceLock::new();

/// Watches a mapping. To be dropped before the mapping is.
pub(super) struct Watch(Option<&'static Slot>);

impl Watch {
    pub(super) fn new(start: usize, len: usize) -> Self {
        BEFORE.get_or_init(install);
        let take = |slot: &&Slot| {
            let taken = (Ordering::Acquire, Ordering::Relaxed);
            slot.start.compare_exchange(FREE, TAKEN, taken.0, taken.1).is_ok()
        };
        let slot = SLOTS.iter().find(take);
        if let Some(slot) = slot {
            slot.pages.store(0, Ordering::Relaxed);
            slot.end.store(start + len, Ordering::Relaxed);
            slot.start.store(start, Ordering::Release);
        }
        Self(slot)
    }

    /// Pages that could not be read so far. Whoever has seen one of the zeros sees it counted.
    pub(super) fn pages(&self) -> usize {
        fence(Ordering::Acquire); // after what was read of the mapping
        self.0.map_or(0, |slot| slot.pages.load(Ordering::Relaxed))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(slot) = self.0 {
            slot.start.store(FREE, Ordering::Release);
        }
    }
}

fn install() -> (libc::sigaction, usize) {
    // SAFETY: both structures are plain data for which zeros are valid, and the handler does only
    // what a signal handler may: atomics and system calls. On the alternate stack, as those of the
    // standard library, which it replaces and goes back to.
    unsafe {
        let mut ours: libc::sigaction = std::mem::zeroed();
        let mut before: libc::sigaction = std::mem::zeroed();
        let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = on_sigbus;
        ours.sa_sigaction = handler as usize;
        ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        libc::sigaction(libc::SIGBUS, &raw const ours, &raw mut before);
        (before, usize::try_from(libc::sysconf(libc::_SC_PAGESIZE)).unwrap_or(4096))
    }
}

extern "C" fn on_sigbus(_signal: c_int, info: *mut libc::siginfo_t, _context: *mut c_void) {
    // SAFETY: the kernel hands a valid structure to a handler that was installed with SA_SIGINFO,
    // and it has an address when the kernel itself has sent the signal (a code above 0).
    let address = unsafe { ((*info).si_code > 0).then(|| (*info).si_addr().addr()) };
    if address.is_some_and(put_zeros) {
        return; // the read is tried again
    }
    if let Some((before, _)) = BEFORE.get() {
        // SAFETY: what was installed before is valid. The read is tried again and does its worst.
        unsafe { libc::sigaction(libc::SIGBUS, ptr::from_ref(before), ptr::null_mut()) };
    }
}

/// Puts a page of zeros at an address of a watched mapping. Called by the handler.
fn put_zeros(address: usize) -> bool {
    let Some(slot) = SLOTS.iter().find(|slot| slot.holds(address)) else { return false };
    let Some((_, page_bytes)) = BEFORE.get() else { return false };
    let page = ptr::with_exposed_provenance_mut(address - address % page_bytes);
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
    slot.pages.fetch_add(1, Ordering::Release); // before another thread can see the zeros
    // SAFETY: the page lies in a mapping that lives: whoever reads there, and waits for us, holds
    // it. It cannot be read, so nobody has a reference to what is in it, but for the case above.
    // `errno` is the interrupted code's and left as it was.
    let put = unsafe {
        let errno = libc::__errno_location();
        let kept = *errno;
        let put = libc::mmap(page, *page_bytes, libc::PROT_READ, flags, -1, 0);
        *errno = kept;
        put
    };
    put != libc::MAP_FAILED
}
