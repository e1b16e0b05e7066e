//! Finding a byte that is mostly near: names, numbers and separators of a header are a few bytes
//! long, where starting `memchr` costs more than the search.

#![warn(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::arithmetic_side_effects
)]

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;
/// Words that are looked at before `memchr` is asked: 32 bytes.
const WORDS: usize = 4;

/// Where the first `byte` is.
#[inline]
pub(super) fn find(bytes: &[u8], byte: u8) -> Option<usize> {
    find2(bytes, byte, byte)
}

/// Where the first of `one` and `other` is.
#[inline]
pub(super) fn find2(bytes: &[u8], one: u8, other: u8) -> Option<usize> {
    let (words, tail) = bytes.as_chunks::<8>();
    let (a, b) = (ONES.wrapping_mul(one.into()), ONES.wrapping_mul(other.into()));
    for (index, word) in words.iter().take(WORDS).enumerate() {
        let word = u64::from_le_bytes(*word);
        let hits = zeros(word ^ a) | zeros(word ^ b);
        if hits != 0 {
            return Some(place(index, hits));
        }
    }
    let looked_at = words.len().min(WORDS).saturating_mul(8);
    let found = if words.len() > WORDS {
        memchr::memchr2(one, other, bytes.get(looked_at..)?)
    } else {
        tail.iter().position(|b| *b == one || *b == other)
    };
    Some(looked_at.saturating_add(found?))
}

/// The high bit of each byte that is zero, and perhaps of bytes above the lowest such.
#[inline]
fn zeros(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & HIGHS
}

/// The byte that the lowest bit of `hits` stands for, `index` words from the start.
#[inline]
fn place(index: usize, hits: u64) -> usize {
    let byte = usize::try_from(hits.trailing_zeros() / 8).unwrap_or_default();
    index.saturating_mul(8).saturating_add(byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_finds_what_a_plain_search_finds(
            bytes in prop::collection::vec(prop_oneof![0_u8..4, 126_u8..130, 253_u8..], 0..90),
            (one, other) in (0_u8..4, prop_oneof![1_u8..4, 127_u8..130, 254_u8..]),
        ) {
            prop_assert_eq!(find(&bytes, one), bytes.iter().position(|b| *b == one));
            let either = bytes.iter().position(|b| *b == one || *b == other);
            prop_assert_eq!(find2(&bytes, one, other), either);
        }

        #[test]
        fn a_lone_hit_is_found_wherever_it_is(length in 1_usize..90, at in any::<prop::sample::Index>()) {
            let mut bytes = vec![b'x'; length];
            let at = at.index(length);
            bytes.splice(at..=at, *b"\"");
            prop_assert_eq!(find(&bytes, b'"'), Some(at));
            prop_assert_eq!(find2(&bytes, b'\\', b'"'), Some(at));
        }
    }
}
