use super::*;
use crate::stdx::prng::Prng;

fn fields(bytes: &[u8]) -> Result<Vec<(u32, Value<'_>)>, DecodeError> {
    let mut reader = Reader::new(bytes);
    let mut fields = Vec::new();
    while let Some(field) = reader.next()? {
        fields.push((field.number, field.value));
    }
    Ok(fields)
}

#[test]
fn every_wire_type_is_read() {
    let bytes = b"\x08\x96\x01\x11\x01\0\0\0\0\0\0\0\x1a\x02hi\x25\x02\0\0\0";
    let expected = vec![
        (1, Value::Varint(150)),
        (2, Value::Fixed64(1)),
        (3, Value::Bytes(b"hi")),
        (4, Value::Fixed32(2)),
    ];
    assert_eq!(fields(bytes), Ok(expected));
}

/// Groups are obsolete, but Go's runtime skips them in unknown fields.
#[test]
fn groups_are_skipped_whole() {
    // group 1 { 2: 5, group 3 {}, 4: "x", 5: fixed32, 6: fixed64 }, then 7: 1
    let bytes = b"\x0b\x10\x05\x1b\x1c\x22\x01x\x2d\0\0\0\0\x31\0\0\0\0\0\0\0\0\x0c\x38\x01";
    assert_eq!(fields(bytes), Ok(vec![(1, Value::Group), (7, Value::Varint(1))]));
    for (bad, what) in [
        (&b"\x0b"[..], "not ended"),
        (b"\x0b\x14", "ended by another number"),
        (b"\x0c", "ended but never begun"),
        (b"\x0b\x10", "cut inside"),
    ] {
        assert_eq!(fields(bad), Err(DecodeError::Malformed), "{what}");
    }
    let deep = |levels: usize| [vec![0x0b; levels], vec![0x0c; levels]].concat();
    assert_eq!(fields(&deep(PROTOBUF_DEPTH_MAX)), Ok(vec![(1, Value::Group)]));
    assert_eq!(fields(&deep(PROTOBUF_DEPTH_MAX + 1)), Err(DecodeError::TooDeep));
    assert_eq!(fields(&vec![0x0b; 1 << 20]), Err(DecodeError::TooDeep));
}

#[test]
fn malformed_bytes_are_errors() {
    for (bad, what) in [
        (&b"\x08"[..], "no value"),
        (b"\x80", "cut key"),
        (b"\x00\x01", "field number 0"),
        (b"\x80\x80\x80\x80\x10\x01", "field number 2^29"),
        (b"\x0e", "wire type 6"),
        (b"\x0f", "wire type 7"),
        (b"\x0a\x02x", "cut bytes"),
        (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "length of 2^64 - 1"),
        (b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", "varint above 64 bits"),
        (b"\x08\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", "varint of eleven bytes"),
        (b"\x09\0\0\0\0\0\0\0", "cut fixed64"),
        (b"\x0d\0\0\0", "cut fixed32"),
    ] {
        assert_eq!(fields(bad), Err(DecodeError::Malformed), "{what}");
    }
}

/// A varint with needless zero bytes is accepted, also in a key, as everywhere in protobuf.
#[test]
fn long_varints_are_accepted() {
    assert_eq!(fields(b"\x88\x00\x81\x80\x00"), Ok(vec![(1, Value::Varint(1))]));
    let most = b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01";
    assert_eq!(fields(most), Ok(vec![(1, Value::Varint(u64::MAX))]));
    assert_eq!(fields(b"\xf8\xff\xff\xff\x0f\x01"), Ok(vec![((1 << 29) - 1, Value::Varint(1))]));
}

#[test]
fn packed_numbers() {
    let mut seen = Vec::new();
    assert_eq!(packed_varints(b"\x01\x96\x01\x00", |v| seen.push(v)), Ok(()));
    assert_eq!(seen, [1, 150, 0]);
    assert_eq!(packed_varints(b"\x01\x96", drop), Err(DecodeError::Malformed));
}

#[test]
fn lengths_are_those_of_what_is_written() {
    let mut prng = Prng::new(1);
    for shift in (0..64).chain(0..64) {
        for value in [1 << shift, (1 << shift) - 1, prng.next_u64() >> shift] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!(out.len(), varint_len(value), "{value:#x}");
            assert_eq!(Reader::new(&out).varint(), Ok(value));
            let number = 1 + (value as u32) % ((1 << 29) - 1);
            out.clear();
            put_int_field(&mut out, number, value.cast_signed());
            assert_eq!(out.len(), int_field_len(number, value.cast_signed()));
            let expected = if value == 0 { vec![] } else { vec![(number, Value::Varint(value))] };
            assert_eq!(fields(&out), Ok(expected));
            out.clear();
            let bytes = vec![7; (value % 300) as usize];
            put_bytes_field(&mut out, number, &bytes);
            assert_eq!(out.len(), bytes_field_len(number, bytes.len()));
            let expected = if bytes.is_empty() { vec![] } else { vec![(number, Value::Bytes(&bytes))] };
            assert_eq!(fields(&out), Ok(expected));
        }
    }
}

#[test]
fn depth_counts_the_outermost_message() {
    let mut depth = Depth(3);
    depth = depth.inside().expect("2nd level");
    depth = depth.inside().expect("3rd level");
    assert_eq!(depth.inside().map(|_| ()), Err(DecodeError::TooDeep));
}

/// Any bytes give fields or an error, and an end.
#[test]
fn noise_never_panics() {
    let mut prng = Prng::new(3);
    for _ in 0..20_000 {
        let length = prng.below(24) as usize;
        // Few distinct bytes: more of them are valid keys and lengths.
        let bytes: Vec<u8> = (0..length)
            .map(|_| if prng.chance(1, 2) { prng.below(48) as u8 } else { prng.next_u64() as u8 })
            .collect();
        if let Ok(fields) = fields(&bytes) {
            assert!(fields.len() <= bytes.len());
        }
    }
}
