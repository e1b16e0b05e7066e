//! The body of SEND_BATCH_MESSAGE: several messages in a row.

#![warn(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::arithmetic_side_effects
)]

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Total size, magic, checksum, flag and two lengths.
const FIXED_BYTES: usize = 22;

/// One message of a batch. Body and properties share the memory of the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The user's flag.
    pub flag: i32,
    /// The user's bytes.
    pub body: Bytes,
    /// Property string, see [`super::properties`].
    pub properties: Bytes,
}

/// The body is not a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// A length points beyond the end, or an item's lengths do not add up to its size.
    #[error("item {item} of the batch has lengths that do not add up")]
    Lengths {
        /// Which item, from 0.
        item: usize,
    },
}

/// The messages of a batch.
pub fn items(body: &Bytes) -> Result<Vec<Item>, BatchError> {
    let (mut rest, mut items) = (body.clone(), Vec::new());
    while !rest.is_empty() {
        let item = take_item(&mut rest).ok_or(BatchError::Lengths { item: items.len() })?;
        items.push(item);
    }
    Ok(items)
}

fn take_item(rest: &mut Bytes) -> Option<Item> {
    let total = usize::try_from(rest.try_get_u32().ok()?).ok()?.checked_sub(4)?;
    let mut item = take(rest, total)?;
    item.try_get_u32().ok()?; // magic: clients send 0
    item.try_get_u32().ok()?; // checksum: clients send 0, the broker computes it
    let flag = item.try_get_i32().ok()?;
    let body_bytes = usize::try_from(item.try_get_u32().ok()?).ok()?;
    let body = take(&mut item, body_bytes)?;
    let properties_bytes = item.try_get_u16().ok()?;
    let properties = take(&mut item, properties_bytes.into())?;
    item.is_empty().then_some(Item { flag, body, properties })
}

fn take(from: &mut Bytes, bytes: usize) -> Option<Bytes> {
    (bytes <= from.len()).then(|| from.split_to(bytes))
}

/// Appends one message, as a client does.
///
/// # Panics
/// When the properties exceed [`super::PROPERTIES_BYTES_MAX`] or the body 4 GiB.
pub fn put_item(out: &mut BytesMut, item: &Item) {
    let total = FIXED_BYTES.saturating_add(item.body.len()).saturating_add(item.properties.len());
    out.put_u32(u32::try_from(total).expect("bodies are below 4 GiB"));
    out.put_u32(0);
    out.put_u32(0);
    out.put_i32(item.flag);
    out.put_u32(u32::try_from(item.body.len()).expect("bodies are below 4 GiB"));
    out.put_slice(&item.body);
    out.put_u16(u16::try_from(item.properties.len()).expect("properties are below 32 KiB"));
    out.put_slice(&item.properties);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn items_come_back(raw in prop::collection::vec(any::<(i32, Vec<u8>, Vec<u8>)>(), 0..6)) {
            let wanted: Vec<_> = raw
                .into_iter()
                .map(|(flag, body, properties)| {
                    Item { flag, body: body.into(), properties: properties.into() }
                })
                .collect();
            let mut out = BytesMut::new();
            wanted.iter().for_each(|item| put_item(&mut out, item));
            let whole = out.freeze();
            prop_assert_eq!(items(&whole), Ok(wanted.clone()));
            for cut in 1..whole.len() {
                let cut = items(&whole.slice(..cut));
                prop_assert!(cut.is_err() || cut.is_ok_and(|items| items.len() < wanted.len()));
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = items(&bytes.into());
        }

        #[test]
        fn arbitrary_lengths_never_panic(words in prop::collection::vec(0_u32..40, 0..20)) {
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
            let _ = items(&bytes.into());
        }
    }
}
