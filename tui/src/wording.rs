//! Words that more than one view needs for the same thing.

use perfwatch_model::snapshot::{CacheView, ServerView, TokensView};
use perfwatch_model::{Finding, Quality};

use crate::units;

/// What a finding costs: `152 requests/s, p99 +2.4 s`.
pub(crate) fn cost(finding: &Finding) -> Option<String> {
    let cost = finding.cost.as_ref()?;
    let what = units::counted(&cost.unit, 2.0);
    let mut words = format!("{} {what}/s", units::digits(cost.capacity_per_s));
    if let Some(p99) = cost.p99_s {
        words.push_str(", p99 +");
        words.push_str(&units::duration(p99));
    }
    Some(words)
}

/// How a number is known.
pub(crate) fn source(quality: Quality) -> &'static str {
    match quality {
        Quality::Counter => "measured by a counter",
        Quality::Sdk => "counted by the SDK",
        Quality::Scraped => "told by the server",
        Quality::Inferred => "inferred",
        Quality::Modelled => "modelled",
        Quality::Unknown => "unknown",
    }
}

/// `14:02:31 UTC` of an RFC 3339 time; the whole text when it is something else.
pub(crate) fn clock(time: &str) -> String {
    match (time.get(11..19), time.ends_with('Z')) {
        (Some(clock), true) => format!("{clock} UTC"),
        (Some(clock), false) => clock.to_owned(),
        _ => time.to_owned(),
    }
}

/// `14:02:31` of so many seconds before an RFC 3339 time; the text itself when it is something else.
pub(crate) fn clock_before(time: &str, seconds: f64) -> String {
    let Some(now) = crate::history::seconds_of_day(time) else { return time.to_owned() };
    let then = (now - seconds.round() as i64).rem_euclid(86_400);
    format!("{:02}:{:02}:{:02}", then / 3600, then / 60 % 60, then % 60)
}

/// `1.9 of 2 CPUs`.
pub(crate) fn cpus_used(used: f64, capacity: f64) -> String {
    let unit = if (capacity - 1.0).abs() < 0.005 { "CPU" } else { "CPUs" };
    format!("{} of {} {unit}", units::cpus(used), units::cpus(capacity))
}

/// Tokens read and generated per second: `1240/340`.
pub(crate) fn tokens(tokens: &TokensView) -> String {
    format!("{}/{}", units::digits(tokens.input_per_s), units::digits(tokens.output_per_s))
}

/// `83 % of 12/s hit`.
pub(crate) fn cache(cache: &CacheView) -> String {
    match cache.hit_ratio {
        Some(ratio) => format!("{} of {}/s hit", units::percent(ratio), units::digits(cache.lookups_per_s)),
        None => "no look-ups".to_owned(),
    }
}

/// Requests that failed per second, by kind, most frequent first: `http_500 104, timeout 2`; `None` when none did.
pub(crate) fn error_kinds(server: &ServerView) -> Option<String> {
    let kinds = server.errors_by_kind.iter().map(|error| format!("{} {}", error.kind, units::digits(error.per_s)));
    let words = kinds.collect::<Vec<_>>().join(", ");
    (!words.is_empty()).then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_goes_back_over_midnight() {
        assert_eq!(clock_before("2026-03-04T14:02:31Z", 43.0), "14:01:48");
        assert_eq!(clock_before("2026-03-04T00:00:05Z", 6.2), "23:59:59");
        assert_eq!(clock_before("yesterday", 1.0), "yesterday");
    }
}
