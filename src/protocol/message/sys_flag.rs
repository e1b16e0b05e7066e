//! Bits of a message's `sysFlag`.

/// The body is compressed.
pub const COMPRESSED: i32 = 0x1;
/// The topic has several tags per message; unused.
pub const MULTI_TAGS: i32 = 0x2;
/// Transaction state, one of the next four.
pub const TRANSACTION_MASK: i32 = 0xC;
/// An ordinary message.
pub const TRANSACTION_NONE: i32 = 0x0;
/// A half message.
pub const TRANSACTION_PREPARED: i32 = 0x4;
/// A committed transactional message.
pub const TRANSACTION_COMMIT: i32 = 0x8;
/// A rolled back one.
pub const TRANSACTION_ROLLBACK: i32 = 0xC;
/// The born host is an IPv6 address.
pub const BORN_HOST_V6: i32 = 0x10;
/// The store host is an IPv6 address.
pub const STORE_HOST_V6: i32 = 0x20;
/// The body is a batch that consumers unwrap.
pub const NEED_UNWRAP: i32 = 0x40;
/// The record is one batch.
pub const INNER_BATCH: i32 = 0x80;
/// How the body is compressed: 0 and 0x300 zlib, 0x100 LZ4, 0x200 ZSTD.
pub const COMPRESSION_MASK: i32 = 0x700;

/// Bits that brokers decide, whatever a producer says: where hosts are, how a record is read.
const OF_BROKERS: i32 = BORN_HOST_V6 | STORE_HOST_V6 | NEED_UNWRAP | INNER_BATCH;

/// What of a producer's `sys_flag` is the producer's to say. Its transaction state is left in:
/// whoever takes the message judges that.
pub fn of_producer(sys_flag: i32) -> i32 {
    sys_flag & !OF_BROKERS
}

/// The transaction state in `sys_flag`.
pub fn transaction(sys_flag: i32) -> i32 {
    sys_flag & TRANSACTION_MASK
}
