//! Instants and durations as people write them.

use std::str::FromStr;
use std::time::Duration;

const SECOND: u64 = 1_000_000_000;
const DAY: u64 = 86_400;

/// An instant of a recording, as it was written on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Instant {
    /// Nanoseconds since 1970.
    Wall(u64),
    /// Seconds since midnight, UTC.
    Clock(u64),
    /// Before the end.
    BeforeEnd(Duration),
}

impl FromStr for Instant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refused = || {
            format!(
                "`{text}` is no time; write 14:02:31, 2026-03-04T14:02:31Z, seconds since 1970, or -90s, -5m before the end"
            )
        };
        if let Some(back) = text.strip_prefix('-') {
            return duration(back).map(Self::BeforeEnd).map_err(|_| refused());
        }
        if let Ok(seconds) = text.parse::<f64>() {
            let possible = (0.0..1e10).contains(&seconds);
            return if possible { Ok(Self::Wall((seconds * 1e9) as u64)) } else { Err(refused()) };
        }
        if let Some((date, time)) = text.split_once(['T', ' ']) {
            let time = clock(time.strip_suffix('Z').unwrap_or(time)).ok_or_else(refused)?;
            let day = day(date).ok_or_else(refused)?;
            return Ok(Self::Wall((day * DAY + time) * SECOND));
        }
        clock(text).map(Self::Clock).ok_or_else(refused)
    }
}

impl Instant {
    /// The instant in a recording that goes from `first` to `last`, in nanoseconds since 1970; an error when it is not in it.
    pub(crate) fn resolve(self, first: u64, last: u64) -> anyhow::Result<u64> {
        let wall = match self {
            Self::Wall(wall) => wall,
            Self::BeforeEnd(back) => last.saturating_sub(u64::try_from(back.as_nanos()).unwrap_or(u64::MAX)),
            Self::Clock(seconds) => {
                let midnight = first / SECOND / DAY * DAY;
                let of_day = |midnight: u64| (midnight + seconds) * SECOND;
                // A recording over midnight has it on the next day.
                if of_day(midnight) + SECOND <= first { of_day(midnight + DAY) } else { of_day(midnight) }
            }
        };
        // Ticks end within seconds.
        if (first.saturating_sub(SECOND)..=last.saturating_add(SECOND)).contains(&wall) {
            Ok(wall)
        } else {
            let time = perfwatch_agent::rfc3339;
            Err(anyhow::anyhow!("the recording goes from {} to {}; --at is not in it", time(first), time(last)))
        }
    }
}

/// Seconds since midnight of `14:02` or `14:02:31`.
fn clock(text: &str) -> Option<u64> {
    let mut parts = text.split(':');
    let mut part = |below: u64| -> Option<u64> {
        let part: f64 = parts.next()?.parse().ok()?;
        (part >= 0.0 && part < below as f64).then_some(part as u64)
    };
    let (hour, minute) = (part(24)?, part(60)?);
    let second = if text.matches(':').count() == 2 { part(60)? } else { 0 };
    parts.next().is_none().then_some(hour * 3600 + minute * 60 + second)
}

/// Days since 1970 of `2026-03-04`.
fn day(text: &str) -> Option<u64> {
    let mut parts = text.split('-').map(|part| part.parse::<u64>().ok());
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    let valid = (1970..=2500).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !valid || parts.next().is_some() {
        return None;
    }
    // Years are counted from March, so that the leap day comes last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    Some(year * 365 + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468)
}

/// A duration as 20, 90s, 2m or 24h.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.chars().last() {
        Some('h') => (&text[..text.len() - 1], 3600.0),
        Some('m') => (&text[..text.len() - 1], 60.0),
        Some('s') => (&text[..text.len() - 1], 1.0),
        _ => (text, 1.0),
    };
    let seconds = number.parse::<f64>().ok().map(|number| number * unit);
    match seconds {
        Some(seconds) if (1.0..=604_800.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("takes 1 s to 7 days, as 20, 90s or 2m; h are hours".to_owned()),
    }
}

/// The same for what may last a day at most.
pub(crate) fn at_most_a_day(text: &str) -> Result<Duration, String> {
    let possible = duration(text).ok().filter(|duration| *duration <= Duration::from_secs(DAY));
    possible.ok_or_else(|| "takes 1 s to 24 h, as 90 or 90s, 15m or 2h".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_understood_as_people_write_them() {
        let parse = |text: &str| text.parse::<Instant>();
        assert_eq!(parse("1970-01-02T00:00:05Z"), Ok(Instant::Wall((86_400 + 5) * SECOND)));
        assert_eq!(parse("2026-03-04T14:02:31.250Z"), Ok(Instant::Wall(1_772_632_951 * SECOND)));
        assert_eq!(parse("1772632951"), Ok(Instant::Wall(1_772_632_951 * SECOND)));
        assert_eq!(parse("14:02"), Ok(Instant::Clock(50_520)));
        assert_eq!(parse("-5m"), Ok(Instant::BeforeEnd(Duration::from_mins(5))));
        for wrong in
            ["", "25:00", "14:61", "14:02:31:00", "2026-13-01T00:00:00Z", "-", "-0s", "yesterday", "-1e99", "NaN"]
        {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_time_that_may_last_a_day_lasts_from_a_second_to_a_day() {
        for (text, seconds) in [("1s", 1), ("90", 90), ("15m", 900), ("24h", DAY)] {
            assert_eq!(at_most_a_day(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for wrong in ["", "0", "-5m", "0.5s", "25h", "86401", "ten", "NaN", "1e99h", "5d"] {
            assert!(at_most_a_day(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_clock_time_is_looked_for_in_the_recording_over_midnight_too() {
        let (first, last) = ((DAY - 60) * SECOND, (DAY + 60) * SECOND);
        assert_eq!(Instant::Clock(30).resolve(first, last).ok(), Some((DAY + 30) * SECOND));
        assert_eq!(Instant::Clock(DAY - 30).resolve(first, last).ok(), Some((DAY - 30) * SECOND));
        assert_eq!(Instant::BeforeEnd(Duration::from_secs(20)).resolve(first, last).ok(), Some((DAY + 40) * SECOND));
        assert!(Instant::Clock(7200).resolve(first, last).is_err());
        assert!(Instant::Wall(5).resolve(first, last).is_err());
    }
}
