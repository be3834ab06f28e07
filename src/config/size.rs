//! Sizes as people write them: `64kB`, `4MB`, as Postgres's own settings are: in
//! multiples of 1,024.
//!
//! A number without a unit is refused: every reader would take it for another.

use serde::{Deserialize as _, Deserializer, de::Error as _};

const EXPECTED: &str = "a size such as 64kB or 4MB";

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse(&text).ok_or_else(|| D::Error::custom(format!("`{text}` is not {EXPECTED}")))
}

/// The same, which may be left out.
pub(super) fn optional<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<usize>, D::Error> {
    deserialize(deserializer).map(Some)
}

fn parse(text: &str) -> Option<usize> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(digits)?;
    let factor = match unit.trim_start() {
        "kB" => 1 << 10,
        "MB" => 1 << 20,
        "GB" => 1 << 30,
        _ => return None,
    };
    number.parse::<usize>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_sizes() {
        assert_eq!(parse("64kB"), Some(65_536));
        assert_eq!(parse(" 4 MB "), Some(4 << 20));
        assert_eq!(parse("1GB"), Some(1 << 30));
        for bad in [
            "",
            "64",
            "kB",
            "64KB",
            "64kb",
            "-1kB",
            "1.5MB",
            "99999999999999999999kB",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
