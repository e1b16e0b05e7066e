//! What a connection speaks, by its first bytes. Pure.
//!
//! A frame starts with its length, at most 16 MiB, so its first byte is 0 or 1: neither a TLS
//! hello nor an HTTP method can be the start of one.

/// The protocol of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opening {
    /// Too few bytes to tell.
    Undecided,
    /// RocketMQ frames. Whether they are good ones is for the frame decoder to say.
    Remoting,
    /// `GET ` or `HEAD `.
    Http,
    /// A TLS handshake record.
    Tls,
}

/// Says what the first bytes of a connection begin.
pub(super) fn opening(first: &[u8]) -> Opening {
    const TLS_HANDSHAKE: u8 = 0x16;
    let begins = |method: &[u8]| first.iter().zip(method).all(|(a, b)| a == b);
    match first.first() {
        None => Opening::Undecided,
        Some(&TLS_HANDSHAKE) => Opening::Tls,
        Some(_) => {
            for method in [b"GET ".as_slice(), b"HEAD "] {
                if begins(method) {
                    let whole = first.len() >= method.len();
                    return if whole { Opening::Http } else { Opening::Undecided };
                }
            }
            Opening::Remoting
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_tell_the_protocol() {
        let rows: [(&[u8], Opening); 11] = [
            (b"", Opening::Undecided),
            (b"G", Opening::Undecided),
            (b"HEAD", Opening::Undecided),
            (b"GET ", Opening::Http),
            (b"GET /metrics HTTP/1.1\r\n", Opening::Http),
            (b"HEAD /", Opening::Http),
            (b"GEX", Opening::Remoting), // and the frame decoder refuses it
            (b"POST / HTTP/1.1", Opening::Remoting),
            (&[0x16, 3, 1], Opening::Tls),
            (&[0], Opening::Remoting),
            (&[0, 0, 0, 0x60, 0, 0, 0, 0x5c], Opening::Remoting),
        ];
        for (first, want) in rows {
            assert_eq!(opening(first), want, "{first:?}");
            assert!(first.len() < 5 || want != Opening::Undecided, "five bytes always tell");
        }
    }
}
