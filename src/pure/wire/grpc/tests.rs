//! gRPC's parts: messages out of pieces, gzip and its bounds, heads, statuses.

use std::time::Duration;

use super::gzip;
use super::head::{Accepted, Encoding, HeadReader, Refused, Resolved, RpcKind};
use super::message::{Assembler, Framed, TooLong, prefix};
use super::status::{self, Code, quote};
use crate::limits::http2::FRAME_BYTES_MAX;
use crate::pure::wire::hpack::FieldSink;
use crate::stdx::prng::Prng;
use crate::stdx::time::Monotonic;

fn framed(message: &[u8]) -> Vec<u8> {
    [&prefix(false, message.len())[..], message].concat()
}

#[test]
fn messages_come_whole_out_of_any_pieces() {
    let messages: Vec<Vec<u8>> = [0, 1, 5, 700, 0, 3_000].iter().map(|n| vec![*n as u8; *n]).collect();
    let bytes: Vec<u8> = messages.iter().flat_map(|m| framed(m)).collect();
    for seed in 0..50 {
        let mut prng = Prng::new(seed);
        let mut assembler = Assembler::default();
        let mut seen = Vec::new();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let cut = if seed == 0 { 1 } else { 1 + prng.below(900) as usize };
            let (mut chunk, tail) = rest.split_at(cut.min(rest.len()));
            rest = tail;
            while !chunk.is_empty() {
                if let Some(Framed { flag: 0, bytes }) = assembler.feed(&mut chunk, 3_000).unwrap() {
                    seen.push(bytes.to_vec());
                }
            }
        }
        assert_eq!(seen, messages);
        assert!(!assembler.is_inside());
    }
}

#[test]
fn a_long_message_is_refused_by_its_prefix_and_costs_nothing() {
    let mut assembler = Assembler::default();
    let bytes = prefix(false, 11);
    assert_eq!(assembler.feed(&mut &bytes[..], 10), Err(TooLong(11)));
    let mut assembler = Assembler::default();
    assert_eq!(assembler.feed(&mut &prefix(false, 1 << 30)[..], 1 << 31), Ok(None));
    assert_eq!(assembler.kept_bytes(), 0);
    assert!(assembler.is_inside());
}

#[test]
fn gzip_is_bounded_and_its_faults_have_go_s_names() {
    let message = vec![b'a'; 100_000];
    let packed = gzip::deflate(&message);
    assert_eq!(gzip::inflate(&packed, 100_000).unwrap(), message);
    let mut flipped = packed.clone();
    let last = flipped.len() - 6;
    flipped[last] ^= 1;
    let cases: Vec<(&[u8], usize, Code, &str)> = vec![
        (
            &packed,
            99_999,
            Code::ResourceExhausted,
            "grpc: received message after decompression larger than max 99999",
        ),
        (b"", 9, Code::Internal, "grpc: failed to decompress the message: EOF"),
        (&packed[..5], 9, Code::Internal, "grpc: failed to decompress the message: unexpected EOF"),
        (
            b"not gzip at all",
            9,
            Code::Internal,
            "grpc: failed to decompress the message: gzip: invalid header",
        ),
        (&packed[..40], 100_000, Code::Internal, "grpc: failed to read decompressed data: unexpected EOF"),
        (&flipped, 100_000, Code::Internal, "grpc: failed to read decompressed data: gzip: invalid checksum"),
    ];
    for (bytes, max, code, text) in cases {
        let status = gzip::inflate(bytes, max).unwrap_err();
        assert_eq!((status.code, &*status.text), (code, text));
    }
}

fn resolve(path: &[u8]) -> Resolved {
    match path {
        b"/a.KV/Put" => Resolved::Rpc { route: 77, kind: RpcKind::Unary },
        b"/a.Watch/Watch" => Resolved::Rpc { route: 65_535, kind: RpcKind::ClientStream },
        _ if path.starts_with(b"/a.KV/") => Resolved::UnknownMethod,
        _ => Resolved::UnknownService,
    }
}

const PUT: [(&str, &str); 5] = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/a.KV/Put"),
    (":authority", "localhost"),
    ("content-type", "application/grpc"),
];

fn read_with(reader: &mut HeadReader, fields: &[(&str, &str)]) -> Result<Accepted, Refused> {
    reader.begin();
    for (name, value) in fields {
        let tag = reader.classify(name.as_bytes(), value.as_bytes());
        assert!(tag <= 0x00ff_ffff);
        reader.field(tag, name.as_bytes(), value.as_bytes());
    }
    reader.finish(Monotonic(1_000))
}

/// PUT with fields replaced (or left out, when the value is `-`) or added.
fn read(changes: &[(&str, &str)]) -> Result<Accepted, Refused> {
    let changed = |name: &str| changes.iter().any(|(n, _)| *n == name);
    let mut fields: Vec<_> = PUT.iter().copied().filter(|(n, _)| !changed(n)).collect();
    fields.extend(changes.iter().filter(|(_, v)| *v != "-"));
    read_with(&mut HeadReader::new(resolve), &fields)
}

#[test]
fn heads_are_refused_as_grpc_go_does() {
    let long = "x".repeat(9);
    type Changes<'a> = &'a [(&'a str, &'a str)];
    let cases: &[(Changes, u16, Code, &str)] = &[
        (&[("content-type", "-")], 415, Code::InvalidArgument, "invalid gRPC request content-type \"\""),
        (
            &[("content-type", "application/json")],
            415,
            Code::InvalidArgument,
            "invalid gRPC request content-type \"application/json\"",
        ),
        (
            &[("content-type", "application/grpc-web")],
            415,
            Code::InvalidArgument,
            "invalid gRPC request content-type \"application/grpc-web\"",
        ),
        (
            &[(":method", "GET")],
            405,
            Code::Internal,
            "Received a HEADERS frame with :method \"GET\" which should be POST",
        ),
        (
            &[(":method", "GET"), ("content-type", "-")],
            415,
            Code::InvalidArgument,
            "invalid gRPC request content-type \"\"",
        ),
        (&[(":authority", "-")], 400, Code::Internal, "no host or :authority header present"),
        (
            &[("host", "a"), ("host", "b")],
            400,
            Code::Internal,
            "num values of :authority: 1, num values of host: 2, both must only have 1 value as per HTTP/2 spec",
        ),
        (
            &[("grpc-timeout", "5")],
            400,
            Code::Internal,
            "malformed grpc-timeout: transport: timeout string is too short: \"5\"",
        ),
        (
            &[("grpc-timeout", "123456789S")],
            400,
            Code::Internal,
            "malformed grpc-timeout: transport: timeout string is too long: \"123456789S\"",
        ),
        (
            &[("grpc-timeout", "5x")],
            400,
            Code::Internal,
            "malformed grpc-timeout: transport: timeout unit is not recognized: \"5x\"",
        ),
        (
            &[("grpc-timeout", "-5S")],
            400,
            Code::Internal,
            "malformed grpc-timeout: strconv.ParseUint: parsing \"-5\": invalid syntax",
        ),
        (&[("grpc-timeout", "0n")], 200, Code::DeadlineExceeded, "context deadline exceeded"),
        (&[(":path", "/x")], 200, Code::Unimplemented, "malformed method name: \"/x\""),
        (&[(":path", "a.KV/Put/")], 200, Code::Unimplemented, "malformed method name: \"a.KV/Put/\""),
        (&[(":path", "/a.KV/Nope")], 200, Code::Unimplemented, "unknown method Nope for service a.KV"),
        (&[(":path", "/b.c/d/e")], 200, Code::Unimplemented, "unknown service b.c/d"),
        (&[(":path", "/b/e"), ("grpc-encoding", "deflate")], 200, Code::Unimplemented, "unknown service b"),
        (
            &[("grpc-encoding", "deflate")],
            200,
            Code::Unimplemented,
            "grpc: Decompressor is not installed for grpc-encoding \"deflate\"",
        ),
        (
            &[("x-bin", "a")],
            400,
            Code::Internal,
            "malformed binary metadata \"a\" in header \"x-bin\": illegal base64 data at input byte 0",
        ),
    ];
    for (changes, http_status, code, text) in cases {
        let refused = read(changes).expect_err(text);
        assert_eq!(
            (refused.http_status, refused.status.code, &*refused.status.text),
            (*http_status, *code, *text)
        );
    }
    assert!(read(&[("grpc-timeout", &long[..0]), ("grpc-timeout", "1S")]).is_err());
}

#[test]
fn accepted_heads_say_what_the_application_needs() {
    let plain = read(&[]).unwrap();
    assert_eq!(
        (plain.route, plain.kind, plain.encoding, &plain.subtype[..]),
        (77, RpcKind::Unary, Encoding::Identity, &b""[..])
    );
    assert_eq!(plain.meta, super::head::Meta::default());
    let watch = read(&[
        (":path", "/a.Watch/Watch"),
        ("content-type", "application/grpc+proto"),
        ("grpc-encoding", "gzip"),
    ])
    .unwrap();
    assert_eq!(
        (watch.route, watch.kind, watch.encoding, &watch.subtype[..]),
        (65_535, RpcKind::ClientStream, Encoding::Gzip, &b"proto"[..])
    );
    let fields = [
        ("hasleader", "true"),
        ("token", "t.1"),
        ("token", "t.2"),
        ("authorization", "Bearer b"),
        ("client-api-version", "3.7"),
        ("grpcgateway-accept", "x"),
        ("x-bin", "aGk="),
        ("y-bin", "aGk"),
    ];
    let meta = read(&fields).unwrap().meta;
    let texts = meta.texts.as_deref().unwrap();
    assert_eq!(texts.token.as_deref(), Some(&b"t.1"[..]));
    assert_eq!(texts.authorization.as_deref(), Some(&b"Bearer b"[..]));
    assert_eq!(meta.client_version(), Some(&b"3.7"[..]));
    assert!(meta.require_leader && meta.via_gateway);
    assert!(!read(&[("hasleader", "false"), ("hasleader", "true")]).unwrap().meta.require_leader);
    for (text, nanos) in [
        ("1H", 3_600_000_000_000),
        ("2M", 120_000_000_000),
        ("3S", 3_000_000_000),
        ("4m", 4_000_000),
        ("5u", 5_000),
        ("99999999n", 99_999_999),
    ] {
        let deadline = read(&[("grpc-timeout", text)]).unwrap().meta.deadline;
        assert_eq!(deadline, Some(Monotonic(1_000) + Duration::from_nanos(nanos)), "{text}");
    }
    assert_eq!(read(&[("grpc-timeout", "99999999H")]).unwrap().meta.deadline, Some(Monotonic(u64::MAX)));
}

#[test]
fn nothing_is_left_of_the_head_before() {
    let mut reader = HeadReader::new(resolve);
    let rich = [
        &PUT[..],
        &[("hasleader", "true"), ("token", "t"), ("grpc-timeout", "1x"), ("host", "h"), ("host", "h")],
    ]
    .concat();
    assert!(read_with(&mut reader, &rich).is_err());
    let plain = read_with(&mut reader, &PUT).unwrap();
    assert_eq!(plain.meta, super::head::Meta::default());
    // Same token, same memory.
    let with_token = [&PUT[..], &[("token", "t")]].concat();
    let [a, b] = [0, 1].map(|_| read_with(&mut reader, &with_token).unwrap().meta.texts.unwrap());
    assert!(std::sync::Arc::ptr_eq(&a, &b));
}

#[test]
fn statuses_are_encoded_and_bounded() {
    let block = |code, text: &str| status::trailers_block(code, text).into_owned();
    assert!(block(Code::Internal, "50% of \u{e9}\n").ends_with(b"50%25 of %C3%A9%0A"));
    assert_eq!(block(Code::Ok, ""), status::TRAILERS_OK);
    let mut built = Vec::new();
    for (name, value) in [("grpc-status", "0"), ("grpc-message", "")] {
        crate::pure::wire::hpack::encoder::field(&mut built, name.as_bytes(), value.as_bytes());
    }
    assert_eq!(built, status::TRAILERS_OK, "the ready-made block is what the encoder makes");
    assert_eq!(status::head_block(b"", false), status::HEAD);
    let mut built = Vec::new();
    for (name, value) in [(":status", "200"), ("content-type", "application/grpc")] {
        crate::pure::wire::hpack::encoder::field(&mut built, name.as_bytes(), value.as_bytes());
    }
    assert_eq!(built, status::HEAD);
    let worst = status::trailers_only_block(200, &[b'x'; 128], Code::Unknown, &"\u{20ac}".repeat(100_000));
    assert!(worst.len() <= FRAME_BYTES_MAX);
    assert_eq!(quote(b"a\"b\\c\n\xff\x01\xc3\xa9"), "\"a\\\"b\\\\c\\n\\xff\\x01\u{e9}\"");
}
