//! Hours of a week, in a zone's own time.
//!
//! Knows nothing about what happens in them.

use std::fmt;

use jiff::Timestamp;
use jiff::civil::{Time, Weekday};
use jiff::tz::TimeZone;

const DAYS: [(&str, Weekday); 7] = [
    ("mon", Weekday::Monday),
    ("tue", Weekday::Tuesday),
    ("wed", Weekday::Wednesday),
    ("thu", Weekday::Thursday),
    ("fri", Weekday::Friday),
    ("sat", Weekday::Saturday),
    ("sun", Weekday::Sunday),
];

/// From when to when, on which days.
#[derive(Clone, Debug)]
pub struct Hours {
    from: Time,
    to: Time,
    days: Vec<Weekday>,
    zone: TimeZone,
    text: String,
}

impl Hours {
    /// Reads `08:00-18:00`, `mon-fri` or `mon,wed`, and the name of a time zone.
    ///
    /// # Errors
    /// Which of them cannot be read.
    pub fn parse(hours: &str, days: &str, zone: &str) -> Result<Self, String> {
        let wrong = || format!("`{hours}` are not hours such as 08:00-18:00");
        let (from, to) = hours.split_once('-').ok_or_else(wrong)?;
        let time = |text: &str| Time::strptime("%H:%M", text.trim()).map_err(|_| wrong());
        let (from, to) = (time(from)?, time(to)?);
        if from >= to {
            return Err(wrong());
        }
        let own = TimeZone::get(zone).map_err(|_| format!("`{zone}` is no time zone"))?;
        Ok(Self {
            from,
            to,
            days: week(days).ok_or_else(|| format!("`{days}` are not days such as mon-fri"))?,
            zone: own,
            text: format!("{days} {hours} {zone}"),
        })
    }

    /// Whether a record's time is outside them; what is no time is.
    pub fn are_over(&self, time: &str) -> bool {
        let Ok(time) = time.parse::<Timestamp>() else {
            return true;
        };
        let here = self.zone.to_datetime(time);
        let within = (self.from..self.to).contains(&here.time());
        !within || !self.days.contains(&here.weekday())
    }

    /// The day that a record's time is on.
    pub fn day(&self, time: &str) -> String {
        let Ok(time) = time.parse::<Timestamp>() else {
            return String::new();
        };
        let here = self.zone.to_datetime(time);
        let name = DAYS.iter().find(|(_, day)| *day == here.weekday());
        format!("{} {}", name.map_or("", |(name, _)| name), here.date())
    }
}

impl fmt::Display for Hours {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}

fn week(text: &str) -> Option<Vec<Weekday>> {
    let day = |text: &str| DAYS.iter().position(|(name, _)| *name == text.trim());
    let mut days = Vec::new();
    for part in text.split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let all = DAYS.get(day(from)?..=day(to)?)?;
        days.extend(all.iter().map(|(_, day)| *day));
    }
    Some(days)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_are_the_zone_s_own() {
        let hours = Hours::parse("08:00-18:00", "mon-wed,fri", "Europe/Berlin").unwrap();
        for (time, over) in [
            ("2026-11-25T06:59:59Z", true),
            ("2026-11-25T07:00:00Z", false),
            ("2026-11-25T16:59:59.999999Z", false),
            ("2026-11-25T17:00:00Z", true),
            // Summer time.
            ("2026-07-01T06:00:00Z", false),
            // A Thursday.
            ("2026-11-26T10:00:00Z", true),
            ("no time", true),
        ] {
            assert_eq!(hours.are_over(time), over, "{time}");
        }
        for (hours, days, zone) in [
            ("8-18", "mon", "UTC"),
            ("18:00-08:00", "mon", "UTC"),
            ("08:00-18:00", "fri-mon", "UTC"),
            ("08:00-18:00", "day", "UTC"),
            ("08:00-18:00", "mon", "Nowhere/Town"),
        ] {
            Hours::parse(hours, days, zone).unwrap_err();
        }
    }
}
