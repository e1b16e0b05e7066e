//! Bodies of quickstart messages: text that says run and sequence number, padded.

/// Shortest body that holds both numbers.
pub(super) const BODY_BYTES_MIN: usize = 64;

const START: &str = "rmq-quickstart ";

/// The body of message `seq` of `run`.
pub(super) fn body(run: u64, seq: u64, bytes: usize) -> Vec<u8> {
    let mut body = format!("{START}{run:016x} {seq} ").into_bytes();
    if body.len() < bytes {
        body.resize(bytes, b'.');
    }
    body
}

/// The id that a client gives a message: the same at each try, so that a broker can tell.
pub(super) fn unique_key(run: u64, seq: u64) -> String {
    format!("{run:016X}{seq:016X}")
}

/// Run and sequence number of a body; `None` if it is not one of ours.
pub(super) fn parse(body: &[u8]) -> Option<(u64, u64)> {
    let head = body.get(..body.len().min(BODY_BYTES_MIN))?;
    let end = head.iter().rposition(|b| *b == b' ')?;
    let text = std::str::from_utf8(head.get(..end)?).ok()?;
    let (run, seq) = text.strip_prefix(START)?.split_once(' ')?;
    Some((u64::from_str_radix(run, 16).ok()?, seq.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_says_what_it_was_made_from() {
        for (run, seq, bytes) in [(0, 0, 0), (7, 42, 64), (u64::MAX, u64::MAX, 1024)] {
            let body = body(run, seq, bytes);
            assert_eq!(parse(&body), Some((run, seq)));
            assert!(body.len() >= bytes);
        }
    }

    #[test]
    fn other_bodies_are_not_ours() {
        let bodies: [&[u8]; 5] = [
            b"",
            b"Hello RocketMQ 7",
            b"rmq-quickstart ",
            b"rmq-quickstart x 1 ",
            b"\xff\xff \x00",
        ];
        for body in bodies {
            assert_eq!(parse(body), None, "{body:?}");
        }
    }
}
