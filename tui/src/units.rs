//! Numbers as people read them: two or three digits, and always the unit.

/// Seconds, from `12 ns` to `3 h 5 min`.
pub(crate) fn duration(seconds: f64) -> String {
    if !seconds.is_finite() {
        return "n/a".to_owned();
    }
    if seconds == 0.0 {
        return "0 ms".to_owned();
    }
    let (sign, seconds) = if seconds < 0.0 { ("-", -seconds) } else { ("", seconds) };
    for (limit, scale, unit) in [(0.999_5e-6, 1e9, "ns"), (0.999_5e-3, 1e6, "µs"), (0.999_5, 1e3, "ms")] {
        if seconds < limit {
            return format!("{sign}{} {unit}", digits(seconds * scale));
        }
    }
    if seconds < 119.5 {
        return format!("{sign}{} s", digits(seconds));
    }
    let minutes = (seconds / 60.0).round() as u64;
    if minutes < 120 {
        return format!("{sign}{minutes} min");
    }
    format!("{sign}{} h {} min", minutes / 60, minutes % 60)
}

/// One decimal below ten unless it is whole, none above, thousands separated from 10,000 up.
pub(crate) fn digits(value: f64) -> String {
    if !value.is_finite() {
        return "n/a".to_owned();
    }
    if value == 0.0 {
        return "0".to_owned();
    }
    if value.abs() < 0.095 {
        return trim(format!("{value:.3}"));
    }
    if value.abs() < 9.95 {
        // A count stays a count.
        return if value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.1}") };
    }
    grouped(value.round())
}

/// A whole number with commas between thousands from 10,000 up; a magnitude beyond that.
fn grouped(value: f64) -> String {
    if value.abs() >= 1e7 {
        for (limit, scale, unit) in [(1e9, 1e6, "M"), (1e12, 1e9, "G"), (1e15, 1e12, "T")] {
            if value.abs() < limit {
                return format!("{:.0}{unit}", value / scale);
            }
        }
        return format!("{value:.0e}");
    }
    let plain = format!("{:.0}", value.abs());
    if plain.len() < 5 {
        return format!("{value:.0}");
    }
    let mut out = String::with_capacity(plain.len() + 2);
    if value < 0.0 {
        out.push('-');
    }
    for (index, digit) in plain.chars().enumerate() {
        if index > 0 && (plain.len() - index) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn trim(text: String) -> String {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// A number of things, which has no decimals.
pub(crate) fn count(count: u64) -> String {
    grouped(count as f64)
}

/// Seconds that somebody chose: `1 s`, `0.5 s`, `10 s`.
pub(crate) fn interval(seconds: f64) -> String {
    if seconds < 119.5 { format!("{} s", trim(format!("{seconds:.1}"))) } else { duration(seconds) }
}

/// A share of 1 as a percentage: `42 %`, `0.4 %`, `<0.1 %`.
pub(crate) fn percent(share: f64) -> String {
    if !share.is_finite() {
        return "n/a".to_owned();
    }
    let percent = share * 100.0;
    if percent > 0.0 && percent < 0.05 {
        return "<0.1 %".to_owned();
    }
    if percent > 0.0 && percent < 0.95 {
        return format!("{percent:.1} %");
    }
    format!("{percent:.0} %")
}

/// Bytes in powers of 1024: `9.8 GiB`.
pub(crate) fn bytes(bytes: f64) -> String {
    let mut value = bytes;
    for unit in ["B", "KiB", "MiB", "GiB", "TiB"] {
        if value.abs() < 999.5 {
            return format!("{} {unit}", digits(value));
        }
        value /= 1024.0;
    }
    format!("{} PiB", digits(value))
}

/// Hertz: `1.41 GHz`.
pub(crate) fn hertz(hertz: f64) -> String {
    if hertz >= 1e9 { format!("{:.2} GHz", hertz / 1e9) } else { format!("{} MHz", digits(hertz / 1e6)) }
}

/// A CPU count: `2`, `1.9`, `0.35`.
pub(crate) fn cpus(count: f64) -> String {
    if (count - count.round()).abs() < 0.005 {
        return format!("{count:.0}");
    }
    if count < 0.95 { format!("{count:.2}") } else { format!("{count:.1}") }
}

/// A value in a UCUM unit, as found in a finding's evidence.
pub(crate) fn with_unit(value: f64, ucum: &str) -> String {
    match ucum {
        "1" | "" => percent(value),
        "s" => duration(value),
        "By" => bytes(value),
        "Hz" => hertz(value),
        "W" => format!("{} W", digits(value)),
        "J" => format!("{} J", digits(value)),
        "Cel" => format!("{} °C", digits(value)),
        "%" => format!("{} %", digits(value)),
        other => {
            let words = counted(other, value);
            if words.is_empty() { digits(value) } else { format!("{} {words}", digits(value)) }
        }
    }
}

/// `{request}` → `requests`, `{request}/s` → `requests/s`; the singular for exactly one.
pub(crate) fn counted(ucum: &str, value: f64) -> String {
    let Some((inside, rest)) = ucum.strip_prefix('{').and_then(|text| text.split_once('}')) else {
        return ucum.to_owned();
    };
    let inside = inside.replace('_', " ");
    let plural = match inside.as_str() {
        _ if (value - 1.0).abs() < f64::EPSILON => inside,
        "cpu" => "CPUs".to_owned(),
        word if word.ends_with('s') || word.ends_with("ch") || word.ends_with('x') => format!("{word}es"),
        word if word.ends_with('y') => format!("{}ies", word.trim_end_matches('y')),
        word => format!("{word}s"),
    };
    format!("{plural}{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_keep_two_or_three_digits_and_change_unit_before_they_overflow() {
        for (seconds, text) in [
            (0.0, "0 ms"),
            (12e-9, "12 ns"),
            (870e-6, "870 µs"),
            (0.999_6e-3, "1.0 ms"),
            (8.34e-3, "8.3 ms"),
            (9.96e-3, "10 ms"),
            (0.401, "401 ms"),
            (0.999_7, "1.0 s"),
            (1.35, "1.4 s"),
            (75.0, "75 s"),
            (180.0, "3 min"),
            (11_100.0, "3 h 5 min"),
            (-0.012, "-12 ms"),
            (f64::NAN, "n/a"),
        ] {
            assert_eq!(duration(seconds), text);
        }
    }

    #[test]
    fn counts_percentages_and_bytes_read_well() {
        assert_eq!(digits(12_600.0), "12,600");
        assert_eq!(digits(9_999.0), "9999");
        assert_eq!(digits(0.04), "0.04");
        assert_eq!(digits(25_000_000.0), "25M");
        assert_eq!(percent(0.424), "42 %");
        assert_eq!(percent(0.0004), "<0.1 %");
        assert_eq!(percent(0.004), "0.4 %");
        assert_eq!(percent(0.0), "0 %");
        assert_eq!(bytes(80.0 * 1024.0 * 1024.0 * 1024.0), "80 GiB");
        assert_eq!(bytes(1023.0), "1.0 KiB");
        assert_eq!((count(3), count(1_412), count(14_120)), ("3".to_owned(), "1412".to_owned(), "14,120".to_owned()));
        assert_eq!((interval(1.0), interval(0.5), interval(180.0)), ("1 s".into(), "0.5 s".into(), "3 min".into()));
        assert_eq!(cpus(2.0), "2");
        assert_eq!(cpus(1.94), "1.9");
        assert_eq!(cpus(0.351), "0.35");
    }

    #[test]
    fn units_of_evidence_are_spelt_out() {
        assert_eq!(with_unit(0.985, "1"), "98 %");
        assert_eq!(with_unit(12.0, "{request}"), "12 requests");
        assert_eq!(with_unit(1.0, "{request}"), "1 request");
        assert_eq!(with_unit(3.2, "{batch}/s"), "3.2 batches/s");
        assert_eq!(with_unit(1.9, "{cpu}"), "1.9 CPUs");
        assert_eq!(with_unit(64.0, "Cel"), "64 °C");
    }
}
