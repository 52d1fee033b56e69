//! C14: the same seed gives the same trace, in any process.

use crate::testing::history::{Trace, Violation};

/// Compares two traces of one seed. With all their marks kept, the first difference is named.
pub fn compare(one: &Trace, other: &Trace) -> Option<Violation> {
    let wrong = |text: String| Some(Violation::new("C14", text));
    for (number, (a, b)) in one.marks().iter().zip(other.marks()).enumerate() {
        let what = match () {
            () if a.at != b.at => "time",
            () if a.what != b.what => "kind",
            () if a.bytes != b.bytes => "length",
            () if a.crc != b.crc => "content",
            () => continue,
        };
        return wrong(format!("mark {number} differs in its {what}: {a:?} and {b:?}"));
    }
    if one.count() != other.count() {
        return wrong(format!("{} marks and {}", one.count(), other.count()));
    }
    if one.hash() != other.hash() {
        return wrong(format!("hashes {:016x} and {:016x}", one.hash(), other.hash()));
    }
    None
}
