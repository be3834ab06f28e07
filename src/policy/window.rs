//! Hours of a week in which a grant is in force.
//!
//! Knows nothing about grants. A window is said in a zone's own time, so its length
//! changes with the clocks: a time that a change of clocks leaves out is the one as much
//! later, one that it repeats is the first of the two (RFC 5545, section 3.3.5).

use std::fmt;

use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Day {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

impl Day {
    const ALL: [Self; 7] = [
        Self::Mon,
        Self::Tue,
        Self::Wed,
        Self::Thu,
        Self::Fri,
        Self::Sat,
        Self::Sun,
    ];

    fn is(self, date: Date) -> bool {
        // 1 is Monday (ISO 8601).
        let number = date.weekday().to_monday_one_offset();
        let own = Self::ALL.iter().position(|day| *day == self);
        own.and_then(|own| i8::try_from(own + 1).ok()) == Some(number)
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Mon => "mon",
            Self::Tue => "tue",
            Self::Wed => "wed",
            Self::Thu => "thu",
            Self::Fri => "fri",
            Self::Sat => "sat",
            Self::Sun => "sun",
        }
    }
}

/// Some days' hours, each week. One that ends no later than it begins ends on the next
/// day.
#[derive(Clone)]
pub(super) struct Window {
    days: Vec<Day>,
    from: Time,
    /// `None`: midnight, at the day's end.
    until: Option<Time>,
    zone: TimeZone,
    name: String,
}

impl Window {
    /// From its words; without days, every day.
    pub(super) fn new(days: &[Day], from: &str, until: &str, zone: &str) -> Result<Self, String> {
        let zone_of = match zone {
            "UTC" => Ok(TimeZone::UTC),
            name => TimeZone::get(name),
        };
        let until = match until {
            "24:00" => None,
            time => Some(clock(time)?),
        };
        Ok(Self {
            days: match days {
                [] => Day::ALL.to_vec(),
                some => some.to_vec(),
            },
            from: clock(from)?,
            until,
            zone: zone_of.map_err(|_| format!("this machine knows no time zone `{zone}`"))?,
            name: zone.to_owned(),
        })
    }

    /// Whether it is open, and when that changes next.
    pub(super) fn at(&self, now: Timestamp) -> (bool, Option<Timestamp>) {
        let today = self.zone.to_datetime(now).date();
        let (mut open, mut next) = (false, None);
        // Yesterday's may reach into today, and a week on each day has come once.
        for ahead in -1..=8 {
            let Ok(day) = today.checked_add(Span::new().days(ahead)) else {
                continue;
            };
            let Some((from, until)) = self.on(day) else {
                continue;
            };
            open |= from <= now && now < until;
            let turns = [from, until].into_iter().filter(|turn| *turn > now);
            next = turns.chain(next).min();
        }
        (open, next)
    }

    /// The hours that begin on that day.
    fn on(&self, day: Date) -> Option<(Timestamp, Timestamp)> {
        if !self.days.iter().any(|own| own.is(day)) {
            return None;
        }
        let moment = |day: Date, time: Time| {
            let moment = self.zone.to_ambiguous_timestamp(day.to_datetime(time));
            moment.compatible().ok()
        };
        let last = match self.until {
            Some(until) if until > self.from => day,
            _ => day.tomorrow().ok()?,
        };
        let until = self.until.unwrap_or(Time::midnight());
        Some((moment(day, self.from)?, moment(last, until)?))
    }
}

/// `08:00`
fn clock(text: &str) -> Result<Time, String> {
    let wrong = || format!("`{text}` is no time of day: write 08:30");
    let (hours, minutes) = text.split_once(':').ok_or_else(wrong)?;
    let number = |text: &str| {
        let digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<i8>().ok().filter(|_| digits)
    };
    let (hours, minutes) = number(hours).zip(number(minutes)).ok_or_else(wrong)?;
    Time::new(hours, minutes, 0, 0).map_err(|_| wrong())
}

/// `mon tue 08:00-18:00 Europe/Berlin`
impl fmt::Display for Window {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.days.len() < 7 {
            for day in &self.days {
                write!(out, "{} ", day.as_str())?;
            }
        }
        write!(out, "{}-", self.from.strftime("%H:%M"))?;
        match self.until {
            Some(until) => write!(out, "{}", until.strftime("%H:%M"))?,
            None => out.write_str("24:00")?,
        }
        write!(out, " {}", self.name)
    }
}

/// All that it says: what digests are made of.
impl fmt::Debug for Window {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Window({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether it is open then, and its next turn.
    fn check(window: &Window, at: &str, open: bool, next: &str) {
        let (is, turn) = window.at(at.parse().unwrap());
        let shown = turn.map(|turn| turn.to_string()).unwrap_or_default();
        assert_eq!((is, shown.as_str()), (open, next), "{window} at {at}");
    }

    #[test]
    fn hours_of_working_days() {
        let days = [Day::Mon, Day::Tue, Day::Wed, Day::Thu, Day::Fri];
        let window = Window::new(&days, "08:00", "18:00", "UTC").unwrap();
        assert_eq!(window.to_string(), "mon tue wed thu fri 08:00-18:00 UTC");
        // A Friday.
        check(
            &window,
            "2026-05-01T07:59:59Z",
            false,
            "2026-05-01T08:00:00Z",
        );
        check(
            &window,
            "2026-05-01T08:00:00Z",
            true,
            "2026-05-01T18:00:00Z",
        );
        check(
            &window,
            "2026-05-01T18:00:00Z",
            false,
            "2026-05-04T08:00:00Z",
        );
        check(
            &window,
            "2026-05-03T12:00:00Z",
            false,
            "2026-05-04T08:00:00Z",
        );
    }

    #[test]
    fn nights_belong_to_the_day_they_begin_on() {
        let window = Window::new(&[Day::Sun], "22:00", "06:00", "UTC").unwrap();
        check(
            &window,
            "2026-05-03T21:59:00Z",
            false,
            "2026-05-03T22:00:00Z",
        );
        check(
            &window,
            "2026-05-04T05:59:00Z",
            true,
            "2026-05-04T06:00:00Z",
        );
        check(
            &window,
            "2026-05-04T22:30:00Z",
            false,
            "2026-05-10T22:00:00Z",
        );
        // Only once a week: the next turn is the next week's.
        check(
            &window,
            "2026-05-04T06:00:00Z",
            false,
            "2026-05-10T22:00:00Z",
        );
        let whole = Window::new(&[Day::Sat], "00:00", "24:00", "UTC").unwrap();
        check(&whole, "2026-05-02T23:59:59Z", true, "2026-05-03T00:00:00Z");
        check(
            &whole,
            "2026-05-03T00:00:00Z",
            false,
            "2026-05-09T00:00:00Z",
        );
        let always = Window::new(&[], "00:00", "00:00", "UTC").unwrap();
        check(
            &always,
            "2026-05-03T00:00:00Z",
            true,
            "2026-05-04T00:00:00Z",
        );
    }

    #[test]
    fn a_zone_s_own_time_through_changes_of_clocks() {
        let window = Window::new(&[], "02:30", "08:00", "Europe/Berlin").unwrap();
        check(
            &window,
            "2026-03-28T01:30:00Z",
            true,
            "2026-03-28T07:00:00Z",
        );
        // 02:30 does not exist on that day: 03:30.
        check(
            &window,
            "2026-03-29T01:29:00Z",
            false,
            "2026-03-29T01:30:00Z",
        );
        check(
            &window,
            "2026-03-29T01:30:00Z",
            true,
            "2026-03-29T06:00:00Z",
        );
        // It comes twice on that one: the first.
        check(
            &window,
            "2026-10-25T00:29:00Z",
            false,
            "2026-10-25T00:30:00Z",
        );
        check(
            &window,
            "2026-10-25T00:30:00Z",
            true,
            "2026-10-25T07:00:00Z",
        );
    }

    #[test]
    fn what_is_no_window() {
        for (from, until, zone) in [
            ("8:00", "18:00", "UTC"),
            ("08:00", "18", "UTC"),
            ("24:00", "18:00", "UTC"),
            ("08:60", "18:00", "UTC"),
            ("+8:00", "18:00", "UTC"),
            ("08:00", "25:00", "UTC"),
            ("08:00", "18:00", "Europe/Atlantis"),
        ] {
            assert!(
                Window::new(&[], from, until, zone).is_err(),
                "{from} {until} {zone}"
            );
        }
    }
}
