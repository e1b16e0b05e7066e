//! Attacks 4, 5 and 6: frames and headers.

use super::*;

fn frame(header_mark: u32, header: &[u8]) -> Vec<u8> {
    let total = u32::try_from(header.len() + 4).unwrap();
    [&total.to_be_bytes()[..], &header_mark.to_be_bytes(), header].concat()
}

fn json(header: &[u8]) -> Vec<u8> {
    frame(u32::try_from(header.len()).unwrap(), header)
}

fn binary(header: &[u8]) -> Vec<u8> {
    frame(u32::try_from(header.len()).unwrap() | 1 << 24, header)
}

/// Shouts at a broker: each is closed or answered soon, and leaves no memory behind.
async fn withstands(rows: Vec<(&str, Vec<u8>)>, growth_max: u64) {
    let broker = Target::broker();
    broker.caller.first_send(broker.port, "T").await;
    let before = broker.memory();
    for (what, bytes) in rows {
        let begun = clock::now();
        eprintln!("{what}"); // shown when one fails
        broker.shout(&bytes);
        assert!(begun.elapsed() < SOON, "{what} took {:?}", begun.elapsed());
        assert_eq!(broker.ask(send("T")).await.code, 0, "after {what}");
    }
    let grown = broker.memory().saturating_sub(before);
    assert!(grown < growth_max, "{} KiB more", grown / 1024);
    broker.end();
}

#[tokio::test]
async fn attack_4_lengths_that_lie_close_their_connection_and_allocate_nothing() {
    let lengths = [0, 3, 0x0100_0001, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF_u32];
    let mut rows: Vec<_> = lengths.map(|length| ("a length", length.to_be_bytes().to_vec())).into();
    rows.extend([
        ("a header beyond its frame", frame(0x00FF_FFFF, b"{}")),
        ("an unknown encoding", frame(0x7F00_0002, b"{}")),
    ]);
    // Frames of which hardly anything comes must not cost what they announce.
    let broker = Target::broker();
    broker.caller.first_send(broker.port, "T").await;
    let before = broker.memory();
    let announced: Vec<_> = (0..500)
        .map(|_| {
            let mut stream = TcpStream::connect(loopback(broker.port)).unwrap();
            stream.write_all(&[1, 0, 0, 0, 0, 0, 0, 9, b'{']).unwrap();
            stream
        })
        .collect();
    assert_eq!(broker.ask(send("T")).await.code, 0);
    let each = broker.memory().saturating_sub(before) / announced.len() as u64;
    assert!(each < 32 * 1024, "{each} bytes for each of 16 MiB");
    broker.end();
    withstands(rows, 16 << 20).await;
}

#[tokio::test]
async fn attack_5_json_headers_that_are_bombs_are_answered_or_closed_soon() {
    let fields: Vec<_> = (0..1_000_000).map(|n| format!("\"f{n}\":\"\"")).collect();
    let twice = format!("{{{}\"code\":10}}", "\"code\":10,".repeat(300_000));
    let remark = format!("{{\"remark\":\"{}\"}}", "\\u0041".repeat(500_000));
    let rows = vec![
        ("depth", json(format!("{{\"a\":{}", "[".repeat(1_000_000)).as_bytes())),
        (
            "closed depth",
            json(format!("{{\"a\":{}1{}}}", "[".repeat(9000), "]".repeat(9000)).as_bytes()),
        ),
        ("objects", json("{\"a\":".repeat(1_000_000).as_bytes())),
        ("fields", json(format!("{{\"extFields\":{{{}}}}}", fields.join(",")).as_bytes())),
        ("duplicates", json(twice.as_bytes())),
        ("escapes", json(remark.as_bytes())),
        ("a huge number", json(format!("{{\"code\":{}}}", "9".repeat(1_000_000)).as_bytes())),
        ("an exponent", json(b"{\"code\":1e999999999}")),
        ("no UTF-8", json(b"{\"code\":10,\"remark\":\"\xff\xfe\"}")),
        ("lone surrogates", json(br#"{"code":105,"extFields":{"topic":"\ud800"}}"#)),
        ("half a surrogate pair", json(br#"{"code":105,"extFields":{"topic":"\ud800\u0041"}}"#)),
        ("NUL", json(b"{\"code\":10,\"opaque\":1}\0\0\0")),
        ("nothing", json(b"")),
    ];
    withstands(rows, 64 << 20).await;
}

#[tokio::test]
async fn attack_6_binary_headers_with_lengths_that_lie_close_their_connection() {
    let header = |remark: i32, ext: i32, rest: &[u8]| {
        let start = [0, 10, 0, 1, 1, 0, 0, 0, 1, 0, 0, 0, 0];
        binary(&[&start, &remark.to_be_bytes()[..], &ext.to_be_bytes(), rest].concat())
    };
    let field = |name: u16, value: i32, rest: &[u8]| {
        let ext = [&name.to_be_bytes()[..], rest, &value.to_be_bytes()].concat();
        header(0, i32::try_from(ext.len()).unwrap(), &ext)
    };
    let rows = vec![
        ("a negative remark", header(-1, 0, &[])),
        ("a remark beyond the header", header(0x7FFF_FFFF, 0, &[])),
        ("negative fields", header(0, -1, &[])),
        ("fields beyond the header", header(0, 1000, b"abc")),
        ("a name beyond the fields", field(0xFFFF, 1, b"a")),
        ("a negative value", field(1, -1, b"a")),
        ("a value beyond the fields", field(1, 0x7FFF_FFFF, b"a")),
        ("a name that is no text", field(1, 0, b"\xff")),
        ("a header that is cut", binary(&[0, 10, 0])),
        ("no header", binary(&[])),
    ];
    withstands(rows, 16 << 20).await;
}
