//! Decimal digits straight into a buffer: answers on the message path avoid `fmt`.

use bytes::{BufMut, BytesMut};

/// Appends `value` in decimal.
pub(super) fn put_u64(out: &mut BytesMut, value: u64) {
    let mut digits = [0_u8; 20]; // u64::MAX has 20
    let (mut rest, mut first) = (value, digits.len());
    loop {
        first -= 1;
        digits[first] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.put_slice(&digits[first..]);
}

/// Appends `value` in decimal.
pub(super) fn put_i64(out: &mut BytesMut, value: i64) {
    if value < 0 {
        out.put_u8(b'-');
    }
    put_u64(out, value.unsigned_abs());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_those_of_display() {
        for value in [0, 1, 9, 10, 99, 1_795_228_199_767, i64::MAX, -1, -10, i64::MIN] {
            let mut out = BytesMut::new();
            put_i64(&mut out, value);
            assert_eq!(out, value.to_string().as_bytes());
        }
        let mut out = BytesMut::new();
        put_u64(&mut out, u64::MAX);
        assert_eq!(out, u64::MAX.to_string().as_bytes());
    }
}
