//! Permission bits of topics and brokers, as in route answers.

/// Whoever may read gets this topic first; unused by current clients.
pub const PRIORITY: u32 = 8;
/// Consumers may read.
pub const READ: u32 = 4;
/// Producers may write.
pub const WRITE: u32 = 2;
/// New topics may be created from this one as a template.
pub const INHERIT: u32 = 1;
/// All bits that have a meaning.
pub const ALL: u32 = PRIORITY | READ | WRITE | INHERIT;

/// Whether `perm` has the read bit.
pub fn readable(perm: u32) -> bool {
    perm & READ != 0
}

/// Whether `perm` has the write bit.
pub fn writable(perm: u32) -> bool {
    perm & WRITE != 0
}

/// Whether `perm` has the inherit bit.
pub fn inheritable(perm: u32) -> bool {
    perm & INHERIT != 0
}

/// `RWX` form as printed by Java: `RW-`, `R--`, `RWX`.
pub fn text(perm: u32) -> String {
    let letter = |bit, letter| if perm & bit != 0 { letter } else { '-' };
    [letter(READ, 'R'), letter(WRITE, 'W'), letter(INHERIT, 'X')].into_iter().collect()
}
