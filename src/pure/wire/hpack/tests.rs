//! RFC 7541 appendix C, and what a hostile block may try.

use super::*;
use crate::limits::http2::{HEADER_LIST_BYTES_MAX, HPACK_TABLE_BYTES_MAX};
use crate::stdx::prng::Prng;

/// Keeps the fields as text.
#[derive(Default)]
struct Listed(Vec<(String, String)>);

impl FieldSink for Listed {
    fn classify(&self, name: &[u8], value: &[u8]) -> u32 {
        (name.len() * 1000 + value.len()) as u32
    }

    fn begin(&mut self) {}

    fn field(&mut self, tag: u32, name: &[u8], value: &[u8]) {
        assert_eq!(tag, self.classify(name, value), "the tag belongs to the field");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        self.0.push((text(name), text(value)));
    }
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// Decodes `block` and returns it as lines of `name: value`.
fn lines(decoder: &mut Decoder, block: &str) -> String {
    let mut listed = Listed::default();
    decoder.decode(&hex(block), &mut listed).unwrap();
    listed.0.iter().map(|(n, v)| format!("{n}: {v}\n")).collect()
}

fn refusal(block: &[u8]) -> Option<DecodeError> {
    Decoder::default().decode(block, &mut Listed::default()).err()
}

const FIRST: &str = ":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com\n";
const THIRD: &str = ":method: GET\n:scheme: https\n:path: /index.html\n:authority: www.example.com\ncustom-key: custom-value\n";

#[test]
fn appendix_c2_single_fields() {
    let cases = [
        (
            "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572",
            "custom-key: custom-header\n",
            55,
        ),
        ("040c 2f73 616d 706c 652f 7061 7468", ":path: /sample/path\n", 0),
        ("1008 7061 7373 776f 7264 0673 6563 7265 74", "password: secret\n", 0),
        ("82", ":method: GET\n", 0),
    ];
    for (block, expected, table_bytes) in cases {
        let mut decoder = Decoder::default();
        assert_eq!(lines(&mut decoder, block), expected);
        assert_eq!(decoder.table_bytes(), table_bytes);
    }
}

#[test]
fn appendix_c3_and_c4_requests_with_and_without_huffman() {
    let plain = [
        "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "8286 84be 5808 6e6f 2d63 6163 6865",
        "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
    ];
    let huffman = [
        "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
        "8286 84be 5886 a8eb 1064 9cbf",
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
    ];
    for blocks in [plain, huffman] {
        let mut decoder = Decoder::default();
        assert_eq!(lines(&mut decoder, blocks[0]), FIRST);
        assert_eq!(decoder.table_bytes(), 57);
        assert_eq!(lines(&mut decoder, blocks[1]), format!("{FIRST}cache-control: no-cache\n"));
        assert_eq!(decoder.table_bytes(), 110);
        assert_eq!(lines(&mut decoder, blocks[2]), THIRD);
        assert_eq!(decoder.table_bytes(), 164);
    }
}

#[test]
fn appendix_c6_responses_evict_in_a_table_of_256_bytes() {
    let mut decoder = Decoder::default();
    let mut listed = Listed::default();
    decoder.decode(&[0x3f, 0xe1, 0x01], &mut listed).unwrap();
    let first = "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3";
    let common =
        "cache-control: private\ndate: Mon, 21 Oct 2013 20:13:21 GMT\nlocation: https://www.example.com\n";
    assert_eq!(lines(&mut decoder, first), format!(":status: 302\n{common}"));
    assert_eq!(decoder.table_bytes(), 222);
    assert_eq!(lines(&mut decoder, "4883 640e ffc1 c0bf"), format!(":status: 307\n{common}"));
    assert_eq!(decoder.table_bytes(), 222);
    let third = "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07";
    let expected = ":status: 200\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:22 GMT\nlocation: https://www.example.com\ncontent-encoding: gzip\nset-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1\n";
    assert_eq!(lines(&mut decoder, third), expected);
    assert_eq!(decoder.table_bytes(), 215);
}

#[test]
fn what_is_not_hpack_is_refused() {
    let cases: &[(&str, &[u8])] = &[
        ("index 0", &[0x80]),
        ("index beyond both tables", &[0xbe]),
        ("name index beyond both tables", &[0x7f, 0x00, 0x01, b'x']),
        ("integer cut short", &[0xff]),
        ("integer that overflows", &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]),
        ("string cut short", &[0x40, 0x02, b'a']),
        ("size update above the bound", &[0x3f, 0xe2, 0x1f]),
        ("size update after a field", &[0x82, 0x20]),
        ("three size updates", &[0x20, 0x20, 0x20, 0x82]),
        ("EOS in a string", &[0x40, 0x84, 0xff, 0xff, 0xff, 0xff, 0x00]),
        ("padding of 8 ones", &[0x40, 0x82, 0x1f, 0xff, 0x00]),
        ("padding of zeros", &[0x40, 0x81, 0x18, 0x00]),
    ];
    for (what, block) in cases {
        assert_eq!(refusal(block), Some(DecodeError::Malformed), "{what}");
    }
    assert_eq!(refusal(&[0x20, 0x3f, 0xe1, 0x1f, 0x82]), None, "two size updates, the second to 4096");
}

#[test]
fn a_short_block_does_not_unfold_into_a_long_list() {
    // One entry of 4 000 bytes, then its index over and over.
    let mut block = vec![0x40, 0x01, b'a', 0x7f, 0xa1, 0x1e];
    block.extend(std::iter::repeat_n(b'v', 127 + 0x21 + (0x1e << 7)));
    assert_eq!(refusal(&block), None);
    block.extend(std::iter::repeat_n(0xbe, HEADER_LIST_BYTES_MAX / 4_000 + 1));
    assert_eq!(refusal(&block), Some(DecodeError::ListTooLarge));
    // Empty fields cost 32 each.
    let mut empty = Vec::new();
    for _ in 0..=HEADER_LIST_BYTES_MAX / 32 {
        empty.extend([0x00, 0x00, 0x00]);
    }
    assert_eq!(refusal(&empty), Some(DecodeError::ListTooLarge));
}

#[test]
fn an_entry_larger_than_the_table_empties_it() {
    let mut decoder = Decoder::default();
    let mut listed = Listed::default();
    decoder.decode(&[0x40, 1, b'a', 1, b'b'], &mut listed).unwrap();
    assert_eq!(decoder.table_bytes(), 34);
    let mut block = vec![0x40, 0x01, b'a', 0x7f, 0x81, 0x1f];
    block.extend(std::iter::repeat_n(b'v', 127 + 1 + (0x1f << 7)));
    decoder.decode(&block, &mut listed).unwrap();
    assert_eq!(decoder.table_bytes(), 0);
}

#[test]
fn the_encoder_is_understood_by_the_decoder() {
    let long = "x".repeat(700);
    let fields = [
        (":status", "200"),
        (":status", "415"),
        ("content-type", "application/grpc"),
        ("grpc-message", ""),
        ("grpc-status", "12"),
        ("long", &long),
    ];
    let mut block = vec![encoder::TABLE_SIZE_ZERO];
    for (name, value) in fields {
        encoder::field(&mut block, name.as_bytes(), value.as_bytes());
    }
    let mut decoder = Decoder::default();
    let mut listed = Listed::default();
    decoder.decode(&block, &mut listed).unwrap();
    let seen: Vec<(&str, &str)> = listed.0.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    assert_eq!(seen, fields);
    assert_eq!(decoder.table_bytes(), 0);
}

#[test]
fn random_blocks_never_panic_and_keep_the_table_bounded() {
    for seed in 0..300 {
        let mut prng = Prng::new(seed);
        let mut decoder = Decoder::default();
        for _ in 0..20 {
            let block: Vec<u8> = (0..prng.below(200)).map(|_| prng.next_u64() as u8).collect();
            let refused = decoder.decode(&block, &mut Listed::default()).is_err();
            assert!(decoder.table_bytes() <= HPACK_TABLE_BYTES_MAX);
            if refused {
                break;
            }
        }
    }
}
