//! A corpus of many small inputs as one file: each with its length in four bytes before it, all together compressed.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

/// The inputs of a file.
pub fn unpack(packed: &[u8]) -> Vec<Vec<u8>> {
    let mut bytes = Vec::new();
    GzDecoder::new(packed).read_to_end(&mut bytes).expect("the corpus is whole");
    let (mut rest, mut inputs) = (&bytes[..], Vec::new());
    while let Some((length, tail)) = rest.split_first_chunk::<4>() {
        let (input, after) = tail.split_at(u32::from_be_bytes(*length) as usize);
        inputs.push(input.to_vec());
        rest = after;
    }
    assert!(rest.is_empty(), "the corpus is whole");
    inputs
}

/// Each input as a file of its own.
pub fn write_out(folder: &Path, inputs: &[Vec<u8>]) {
    fs::create_dir_all(folder).expect("makes the folder");
    for (nth, input) in inputs.iter().enumerate() {
        fs::write(folder.join(format!("seed-{nth:04}")), input).expect("writes a seed");
    }
}

/// The files of a folder as one file, shortest first, until it is as long as is worth keeping.
pub fn pack(folder: &Path, target: &Path) {
    const BYTES_MAX: usize = 24 * 1024;
    let files = fs::read_dir(folder).expect("lists the inputs").map(|file| file.expect("lists").path());
    let mut inputs: Vec<Vec<u8>> = files.map(|path| fs::read(path).expect("reads an input")).collect();
    inputs.sort_by_key(|input| (input.len(), input.clone()));
    inputs.dedup();
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    for input in inputs {
        let length = u32::try_from(input.len()).expect("inputs are short");
        encoder.write_all(&length.to_be_bytes()).expect("memory has room");
        encoder.write_all(&input).expect("memory has room");
        encoder.flush().expect("memory has room");
        if encoder.get_ref().len() > BYTES_MAX {
            break;
        }
    }
    fs::create_dir_all(target.parent().expect("a file is in a folder")).expect("makes the folder");
    fs::write(target, encoder.finish().expect("memory has room")).expect("writes the corpus");
}
