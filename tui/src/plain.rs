//! Makes strings from outside safe to show.
//!
//! Process, model and device names come from other programs, and a terminal obeys what is written to it. [`Clean`] is the
//! only form in which the rest of this crate accepts a snapshot, so a view cannot forget.

use std::borrow::Cow;
use std::ops::Deref;

use perfwatch_model::Snapshot;
use perfwatch_model::text::is_printable;
use unicode_width::UnicodeWidthChar;

/// Longer text than this is cut: no screen shows it, and wrapping it would cost a frame.
const MAX_CHARS: usize = 2000;

/// What stands in for a character that must not be shown.
const SUBSTITUTE: char = '\u{FFFD}';

/// Text of which every character is printable ([`is_printable`]) and one or two columns wide. Any other becomes `U+FFFD`, one
/// column, so that hostile text cannot swell a line; a tab or line break becomes a space.
pub fn plain(text: &str) -> Cow<'_, str> {
    if text.len() <= MAX_CHARS && text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return Cow::Borrowed(text);
    }
    text.chars().take(MAX_CHARS).map(safe).collect::<String>().into()
}

fn safe(c: char) -> char {
    match c {
        '\t' | '\n' | '\r' | '\u{2028}' | '\u{2029}' => ' ',
        _ if !is_printable(c) => SUBSTITUTE,
        _ => match c.width() {
            Some(1 | 2) => c,
            _ => SUBSTITUTE,
        },
    }
}

/// A snapshot whose every string is [`plain`], and whose reasons call GPUs as the views do.
#[derive(Clone, Debug, PartialEq)]
pub struct Clean(Snapshot);

impl Deref for Clean {
    type Target = Snapshot;

    fn deref(&self) -> &Snapshot {
        &self.0
    }
}

impl From<Snapshot> for Clean {
    fn from(mut snapshot: Snapshot) -> Self {
        clean(&mut snapshot);
        crate::gpus::name_in_reasons(&mut snapshot);
        Self(snapshot)
    }
}

impl From<&Snapshot> for Clean {
    fn from(snapshot: &Snapshot) -> Self {
        snapshot.clone().into()
    }
}

fn fix(text: &mut String) {
    if let Cow::Owned(cleaned) = plain(text) {
        *text = cleaned;
    }
}

fn fix_cow(text: &mut Cow<'static, str>) {
    if let Cow::Owned(cleaned) = plain(text) {
        *text = Cow::Owned(cleaned);
    }
}

fn clean(snapshot: &mut Snapshot) {
    let Snapshot {
        schema_version: _,
        time,
        window_s: _,
        host,
        devices,
        servers,
        findings,
        undecided,
        unavailable,
        agent,
    } = snapshot;
    fix(time);
    fix(&mut host.name);
    for device in devices {
        fix(&mut device.id);
        fix(&mut device.kind);
        fix(&mut device.name);
        device.ledger.iter_mut().flat_map(|ledger| &mut ledger.entries).for_each(|entry| fix(&mut entry.cause));
        if let Some(gpu) = &mut device.gpu {
            gpu.throttle_reasons.iter_mut().for_each(fix);
            gpu.throttled.iter_mut().for_each(|throttled| fix(&mut throttled.reason));
            gpu.faults.iter_mut().chain(&mut gpu.parent).chain(&mut gpu.sharing).for_each(fix);
            gpu.processes_unknown.iter_mut().chain(&mut gpu.pci_bus_id).for_each(fix);
            for process in &mut gpu.processes {
                let place = process.container.iter_mut().chain(&mut process.pod);
                process.name.iter_mut().chain(&mut process.server).chain(place).for_each(fix);
            }
        }
    }
    for server in servers {
        fix(&mut server.id);
        fix(&mut server.kind);
        fix(&mut server.name);
        server.ledger.iter_mut().flat_map(|ledger| &mut ledger.entries).for_each(|entry| fix(&mut entry.stage));
        server.stages.iter_mut().for_each(|stage| fix(&mut stage.stage));
        server.errors_by_kind.iter_mut().for_each(|error| fix(&mut error.kind));
        for slow in &mut server.slowest {
            slow.stages.iter_mut().for_each(|part| fix(&mut part.stage));
            slow.trace_id.iter_mut().chain(&mut slow.error).for_each(fix);
        }
    }
    for finding in findings {
        fix_cow(&mut finding.id);
        fix(&mut finding.entity);
        fix_cow(&mut finding.summary);
        fix(&mut finding.detail);
        for evidence in &mut finding.evidence {
            fix_cow(&mut evidence.metric);
            fix_cow(&mut evidence.unit);
        }
        if let Some(cost) = &mut finding.cost {
            fix_cow(&mut cost.unit);
        }
        for remedy in &mut finding.remedies {
            fix_cow(&mut remedy.action);
            fix_cow(&mut remedy.why);
        }
    }
    undecided.iter_mut().for_each(fix);
    for missing in unavailable {
        fix(&mut missing.metric);
        fix(&mut missing.entity);
        fix(&mut missing.reason);
        fix(&mut missing.cure);
    }
    fix(&mut agent.version);
    fix(&mut agent.store);
    [&mut agent.seconds_since, &mut agent.minutes_since].into_iter().flatten().for_each(fix);
    agent.probes.iter_mut().for_each(|probe| fix(&mut probe.name));
    for export in &mut agent.exports {
        fix(&mut export.endpoint);
        fix(&mut export.signal);
        fix(&mut export.state);
        let reasons = std::mem::take(&mut export.dropped_by_reason);
        export.dropped_by_reason = reasons.into_iter().map(|(reason, items)| (plain(&reason).into(), items)).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_names_stay_as_they_are() {
        for name in ["llama-70b", "模型服务", "modèle", "µ-service"] {
            assert_eq!(plain(name), name);
        }
    }

    #[test]
    fn what_a_terminal_would_obey_is_replaced() {
        assert_eq!(plain("a\x1b[2Jb"), "a\u{FFFD}[2Jb");
        assert_eq!(plain("a\u{9b}2Jb"), "a\u{FFFD}2Jb", "C1 control sequence introducer");
        assert_eq!(plain("exe\u{202E}fdp"), "exe\u{FFFD}fdp");
        assert_eq!(plain("two\nlines\tand a tab"), "two lines and a tab");
        assert_eq!(plain("z\u{301}\u{302}"), "z\u{FFFD}\u{FFFD}", "no stacking of marks");
        assert_eq!(plain(&"x".repeat(9000)).len(), MAX_CHARS);
    }

    #[test]
    fn no_string_of_a_snapshot_escapes_cleaning() {
        // Every string value in the JSON form is replaced by a hostile one, so a field added later is covered too.
        let mut json = serde_json::to_value(crate::fixtures::everything()).expect("a snapshot is JSON");
        poison(&mut json);
        let hostile: Snapshot = serde_json::from_value(json).expect("still a snapshot");
        let cleaned = serde_json::to_string(&*Clean::from(hostile)).expect("a snapshot is JSON");
        assert!(!cleaned.contains("\\u001b") && !cleaned.contains('\u{202E}'), "{cleaned}");
    }

    fn poison(value: &mut serde_json::Value) {
        match value {
            serde_json::Value::String(text) if !is_enum(text) => *text = "\x1b]0;x\x07\u{202E}".to_owned(),
            serde_json::Value::Array(items) => items.iter_mut().for_each(poison),
            serde_json::Value::Object(fields) => fields.values_mut().for_each(poison),
            _ => {}
        }
    }

    /// Severities, qualities and kinds of absences are enums, which serde already refuses to fill with anything else.
    fn is_enum(text: &str) -> bool {
        let qualities = ["counter", "sdk", "scraped", "inferred", "modelled", "unknown"];
        let others = ["note", "warning", "critical", "normal", "chosen", "failed"];
        qualities.into_iter().chain(others).any(|name| name == text)
    }
}
