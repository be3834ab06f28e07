//! DER (X.690), as far as certificates are looked into here.
//!
//! Knows nothing about what the elements mean. Whether a certificate is one is for
//! rustls to say; this reads those that it takes. Invariant: never past the end.

/// `SEQUENCE`, constructed.
pub(crate) const SEQUENCE: u8 = 0x30;
/// `SET`, constructed.
pub(crate) const SET: u8 = 0x31;
/// `BOOLEAN`.
pub(crate) const BOOLEAN: u8 = 0x01;
/// `INTEGER`.
pub(crate) const INTEGER: u8 = 0x02;
/// `BIT STRING`.
pub(crate) const BIT_STRING: u8 = 0x03;
/// `OCTET STRING`.
pub(crate) const OCTET_STRING: u8 = 0x04;
/// `OBJECT IDENTIFIER`.
pub(crate) const OID: u8 = 0x06;
/// `UTCTime`.
pub(crate) const UTC_TIME: u8 = 0x17;
/// `GeneralizedTime`.
pub(crate) const GENERALIZED_TIME: u8 = 0x18;

/// An element of that tag: its content and what follows it.
pub(crate) fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = any(der)?;
    (found == tag).then_some((content, rest))
}

/// The first element: its tag, its content and what follows it.
pub(crate) fn any(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            let length = bytes
                .iter()
                .fold(0usize, |length, &byte| (length << 8) | usize::from(byte));
            (length, rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// A `UTCTime` or `GeneralizedTime` as RFC 5280 (section 4.1.2.5) has it: to the second,
/// in UTC. Also what follows it.
pub(crate) fn time(der: &[u8]) -> Option<(jiff::Timestamp, &[u8])> {
    let (tag, text, rest) = any(der)?;
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let year = match (tag, text.len()) {
        (UTC_TIME, 12) => {
            let year: i16 = text.get(..2)?.parse().ok()?;
            if year < 50 { 2000 + year } else { 1900 + year }
        }
        (GENERALIZED_TIME, 14) => text.get(..4)?.parse().ok()?,
        _ => return None,
    };
    let from_end = |end: usize| -> Option<i8> {
        let at = text.len().checked_sub(end)?;
        text.get(at..at + 2)?.parse().ok()
    };
    let moment = jiff::civil::DateTime::new(
        year,
        from_end(10)?,
        from_end(8)?,
        from_end(6)?,
        from_end(4)?,
        from_end(2)?,
        0,
    );
    let moment = jiff::tz::TimeZone::UTC.to_timestamp(moment.ok()?);
    // 9999-12-31 means no end, and is a day beyond what a `Timestamp` holds.
    let moment = moment
        .ok()
        .or((year == 9999).then_some(jiff::Timestamp::MAX))?;
    Some((moment, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_times_of_both_forms() {
        let check = |tag: u8, text: &str, expected: Option<&str>| {
            let mut der = vec![tag, u8::try_from(text.len()).unwrap()];
            der.extend(text.bytes());
            let read = time(&der).map(|(time, _)| time.to_string());
            assert_eq!(read.as_deref(), expected, "{text}");
        };
        check(UTC_TIME, "491231235959Z", Some("2049-12-31T23:59:59Z"));
        check(UTC_TIME, "500101000000Z", Some("1950-01-01T00:00:00Z"));
        check(
            GENERALIZED_TIME,
            "20600229120000Z",
            Some("2060-02-29T12:00:00Z"),
        );
        check(GENERALIZED_TIME, "20610229120000Z", None);
        check(GENERALIZED_TIME, "20600229120000.5Z", None);
        check(UTC_TIME, "20600229120000Z", None);
        check(UTC_TIME, "4912312359Z", None);
        check(UTC_TIME, "49123123595+Z", None);
        check(UTC_TIME, "491231235959", None);
        let never = jiff::Timestamp::MAX.to_string();
        check(GENERALIZED_TIME, "99991231235959Z", Some(&never));
    }
}
