//! Durations as people write them: `10s`, `5m`, `1h30m`, `250ms`.
//!
//! A number without a unit is refused: every reader would take it for another.

use std::time::Duration;

use serde::{Deserialize as _, Deserializer, de::Error as _};

const EXPECTED: &str = "a duration such as 250ms, 10s, 5m or 1h30m";

pub(super) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse(&text).ok_or_else(|| D::Error::custom(format!("`{text}` is not {EXPECTED}")))
}

/// The same, which may be left out.
pub(super) fn optional<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    deserialize(deserializer).map(Some)
}

/// Reads one; `None` of what is none.
pub fn parse(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, tail) = rest.split_at_checked(digits)?;
        let letters = tail
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at_checked(letters)?;
        let number: u64 = number.parse().ok()?;
        let seconds = |each: u64| number.checked_mul(each).map(Duration::from_secs);
        let part = match unit {
            "ms" => Duration::from_millis(number),
            "s" => seconds(1)?,
            "m" | "min" => seconds(60)?,
            "h" => seconds(60 * 60)?,
            "d" => seconds(24 * 60 * 60)?,
            _ => return None,
        };
        total = total.checked_add(part)?;
        rest = tail.trim_start();
    }
    // Beyond a year a deadline is a mistake, and adding it to a clock can overflow.
    (total <= Duration::from_secs(366 * 24 * 60 * 60)).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_durations() {
        let check = |text: &str, millis: u64| {
            assert_eq!(parse(text), Some(Duration::from_millis(millis)), "{text}");
        };
        check("250ms", 250);
        check("10s", 10_000);
        check("5m", 300_000);
        check("5min", 300_000);
        check("1h30m", 5_400_000);
        check(" 1h 30m ", 5_400_000);
        check("2d", 172_800_000);
        check("0s", 0);
    }

    #[test]
    fn refuses_what_is_none() {
        for text in [
            "",
            " ",
            "10",
            "s",
            "-1s",
            "1.5s",
            "10 s",
            "1x",
            "1s2",
            "99999999999999999999s",
            "18446744073709551615h",
            "367d",
            "1é",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
