//! Values as Go's `flag` package reads them. The forms are part of etcd's interface, so they are kept
//! to the letter: manifests in the field use `0x10`, `1_000`, `1h30m` and `T`.

/// Why a value was refused. The text is what etcd prints behind the flag's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueError(pub String);

impl ValueError {
    fn syntax() -> ValueError {
        ValueError("parse error".to_owned())
    }

    fn range() -> ValueError {
        ValueError("value out of range".to_owned())
    }
}

impl std::fmt::Display for ValueError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Why digits were refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NumberError {
    Syntax,
    Range,
}

impl From<NumberError> for ValueError {
    fn from(error: NumberError) -> ValueError {
        match error {
            NumberError::Syntax => ValueError::syntax(),
            NumberError::Range => ValueError::range(),
        }
    }
}

/// `1 t T TRUE true True` and the like.
pub fn parse_bool(text: &str) -> Result<bool, ValueError> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(ValueError::syntax()),
    }
}

/// An unsigned number: decimal, `0x`, `0o` (or a bare leading zero), `0b`, underscores between digits.
pub fn parse_uint(text: &str) -> Result<u64, ValueError> {
    Ok(digits(text)?)
}

/// A signed number in the same forms.
pub fn parse_int(text: &str) -> Result<i64, ValueError> {
    let (negative, magnitude) = match text.as_bytes().first() {
        Some(b'-') => (true, digits(&text[1..])?),
        Some(b'+') => (false, digits(&text[1..])?),
        _ => (false, digits(text)?),
    };
    let signed = if negative { -i128::from(magnitude) } else { i128::from(magnitude) };
    i64::try_from(signed).map_err(|_| ValueError::range())
}

/// A number of 32 bits. etcd reads this one kind with other words in its errors.
pub fn parse_uint32(text: &str) -> Result<u32, ValueError> {
    digits(text).and_then(|number| u32::try_from(number).map_err(|_| NumberError::Range)).map_err(|error| {
        let reason = match error {
            NumberError::Syntax => "invalid syntax",
            NumberError::Range => "value out of range",
        };
        ValueError(format!("strconv.ParseUint: parsing {text:?}: {reason}"))
    })
}

fn digits(text: &str) -> Result<u64, NumberError> {
    let lower = text.to_ascii_lowercase();
    let (radix, body) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, &lower[..]),
    };
    // An underscore stands between two digits; the prefix counts as one.
    let underscore_first_allowed = body.len() < lower.len();
    if body.ends_with('_') || body.contains("__") || (body.starts_with('_') && !underscore_first_allowed) {
        return Err(NumberError::Syntax);
    }
    let body = body.replace('_', "");
    if body.is_empty() || !body.chars().all(|digit| digit.is_digit(radix)) {
        return Err(NumberError::Syntax);
    }
    u64::from_str_radix(&body, radix).map_err(|_| NumberError::Range)
}

/// Nanoseconds of a duration such as `1h30m` or `-1.5s`. A bare number is an error, except `0`.
pub fn parse_duration(text: &str) -> Result<i64, ValueError> {
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(ValueError::syntax());
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let number_length = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at(number_length);
        let unit_length = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_length);
        total += piece(number, unit).ok_or_else(ValueError::syntax)?;
        if total > i128::from(i64::MAX) {
            return Err(ValueError::syntax());
        }
        rest = tail;
    }
    i64::try_from(if negative { -total } else { total }).map_err(|_| ValueError::syntax())
}

/// One `number unit` of a duration, in nanoseconds.
fn piece(number: &str, unit: &str) -> Option<i128> {
    let scale: i128 = match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let whole: i128 = if whole.is_empty() { 0 } else { i128::from(whole.parse::<u64>().ok()?) };
    // Digits beyond the fifteenth are less than a nanosecond of any unit.
    let kept = &fraction[..fraction.len().min(15)];
    let fraction: i128 = if kept.is_empty() {
        0
    } else {
        i128::from(kept.parse::<u64>().ok()?) * scale / 10_i128.pow(u32::try_from(kept.len()).ok()?)
    };
    Some(whole * scale + fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        let table: &[(&str, Result<u64, &str>)] = &[
            ("0", Ok(0)),
            ("10", Ok(10)),
            ("1_0", Ok(10)),
            ("0x1F", Ok(31)),
            ("0X_1f", Ok(31)),
            ("0o17", Ok(15)),
            ("017", Ok(15)),
            ("0_7", Ok(7)),
            ("0b11", Ok(3)),
            ("18446744073709551615", Ok(u64::MAX)),
            ("18446744073709551616", Err("value out of range")),
            ("", Err("parse error")),
            ("0x", Err("parse error")),
            ("-1", Err("parse error")),
            ("+1", Err("parse error")),
            ("08", Err("parse error")),
            ("_1", Err("parse error")),
            ("1__0", Err("parse error")),
            ("1_", Err("parse error")),
            ("1.5", Err("parse error")),
            (" 1", Err("parse error")),
        ];
        for (text, expected) in table {
            let got = parse_uint(text);
            assert_eq!(got, expected.map_err(|error| ValueError(error.to_owned())), "{text:?}");
        }
    }

    #[test]
    fn signed_numbers() {
        assert_eq!(parse_int("-0x10"), Ok(-16));
        assert_eq!(parse_int("+7"), Ok(7));
        assert_eq!(parse_int("-9223372036854775808"), Ok(i64::MIN));
        assert_eq!(parse_int("9223372036854775808"), Err(ValueError::range()));
        assert_eq!(parse_int("--1"), Err(ValueError::syntax()));
    }

    #[test]
    fn numbers_of_32_bits_have_their_own_words() {
        assert_eq!(parse_uint32("4294967295"), Ok(u32::MAX));
        let error = parse_uint32("4294967296").unwrap_err();
        assert_eq!(error.0, "strconv.ParseUint: parsing \"4294967296\": value out of range");
        let error = parse_uint32("x").unwrap_err();
        assert_eq!(error.0, "strconv.ParseUint: parsing \"x\": invalid syntax");
    }

    #[test]
    fn durations() {
        let second = 1_000_000_000;
        let table: &[(&str, Option<i64>)] = &[
            ("0", Some(0)),
            ("-0", Some(0)),
            ("5s", Some(5 * second)),
            ("1h30m", Some(5400 * second)),
            ("100ms", Some(second / 10)),
            ("1.5h", Some(5400 * second)),
            (".5s", Some(second / 2)),
            ("5.s", Some(5 * second)),
            ("-1m", Some(-60 * second)),
            ("1us", Some(1000)),
            ("1µs", Some(1000)),
            ("", None),
            ("5", None),
            ("5q", None),
            (".s", None),
            ("1.5.h", None),
            ("s", None),
            ("1s2", None),
            ("9223372037s", None),
            ("99999999999999999999h", None),
        ];
        for (text, expected) in table {
            assert_eq!(parse_duration(text).ok(), *expected, "{text:?}");
        }
    }

    #[test]
    fn booleans() {
        for text in ["1", "t", "T", "TRUE", "true", "True"] {
            assert_eq!(parse_bool(text), Ok(true));
        }
        for text in ["0", "f", "F", "FALSE", "false", "False"] {
            assert_eq!(parse_bool(text), Ok(false));
        }
        for text in ["", "yes", "TRue", "on"] {
            assert_eq!(parse_bool(text), Err(ValueError::syntax()));
        }
    }
}
