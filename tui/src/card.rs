//! The answer to "why?" as text that can be pasted into a chat or a ticket: at most 80 columns, no colour.

use std::fmt::Write;

use perfwatch_model::snapshot::{DeviceView, ServerView, Unavailable};
use perfwatch_model::{Finding, Snapshot};
use ratatui::text::Span;

use crate::line::{flow, wrap};
use crate::parts::{self, Part};
use crate::plain::Clean;
use crate::theme::{Theme, ThemeName};
use crate::widgets::badge;
use crate::widgets::ledger_bar::{self, Detail};
use crate::{gpus, units, wording};

/// Columns of a card.
const WIDTH: usize = 80;
/// Columns before a line's text.
const LABEL: usize = 10;
/// GPUs without a server whose time is told.
const OTHERS: usize = 8;
/// Cells of a bar.
const BAR: usize = 40;

/// How a card is written.
#[derive(Clone, Copy, Debug, Default)]
pub struct CardOptions {
    /// Only ASCII.
    pub ascii: bool,
}

/// Whether the card says that nobody can tell: a GPU is broken, which takes some seconds to be confirmed, or cannot be read.
pub fn is_in_doubt(snapshot: &Snapshot) -> bool {
    gpus::in_doubt(snapshot).is_some()
}

/// What is wrong and how we know, of every server: its numbers, where the time of its devices and requests went, then the
/// findings with cost and remedy, and what could not be decided.
pub fn card(snapshot: &Snapshot, options: CardOptions) -> String {
    let snapshot = Clean::from(snapshot);
    let theme = Theme::new(ThemeName::Mono, options.ascii);
    let mut out = String::new();
    let seconds = units::interval(snapshot.window_s);
    let clock = wording::clock(&snapshot.time);
    line(&mut out, "perfwatch", &format!("{}, {clock}, last {seconds}", snapshot.host.name));
    if snapshot.servers.is_empty() {
        line(
            &mut out,
            "servers",
            "none seen; `perfwatch top` shows how to add one, `perfwatch demo` shows one at work",
        );
    }
    let is_told = snapshot.findings.iter().any(|finding| finding.entity.starts_with("host:"));
    let is_news = |none: &gpus::NoGpu<'_>| !is_told && (none.is_expected || snapshot.servers.is_empty());
    if let Some(none) = gpus::no_gpu(&snapshot).filter(is_news) {
        let reason = none.missing.map_or("the agent does not say why", |missing| missing.reason.as_str());
        line(&mut out, "gpus", &format!("none seen: {reason}"));
    }
    for server in &snapshot.servers {
        out.push('\n');
        describe(&mut out, &snapshot, server, theme);
    }
    let others = parts::devices_of_nobody(&snapshot);
    if !others.is_empty() {
        out.push('\n');
        for (label, device) in others.iter().take(OTHERS) {
            ledger(&mut out, label, device.ledger.as_ref().map(parts::device_parts), None, theme);
            unread(&mut out, &snapshot, device);
        }
        if let Some(more @ 1..) = others.len().checked_sub(OTHERS) {
            line(&mut out, "", &format!("and {more} more GPUs without a server"));
        }
    }
    for finding in &snapshot.findings {
        out.push('\n');
        explain(&mut out, &snapshot, finding, theme);
    }
    out.push('\n');
    if snapshot.findings.is_empty() {
        let words = match (snapshot.has_subjects(), snapshot.undecided.is_empty()) {
            (false, _) => "undecided: they are about model servers and GPUs",
            (true, true) => "none",
            (true, false) => "none, as far as can be said yet",
        };
        match gpus::in_doubt(&snapshot) {
            Some(doubt) => line(&mut out, "findings", &format!("none, but {doubt}")),
            None => line(&mut out, "findings", words),
        }
    }
    if !snapshot.undecided.is_empty() {
        line(&mut out, "undecided", &snapshot.undecided.join(", "));
    }
    let kept = out.trim_end().len();
    out.truncate(kept);
    out.push('\n');
    if options.ascii { to_ascii(&out) } else { out }
}

/// A label and text, wrapped under itself.
fn line(out: &mut String, label: &str, text: &str) {
    for (index, row) in wrap(text, WIDTH - LABEL).into_iter().enumerate() {
        let label = if index == 0 { label } else { "" };
        let _infallible = writeln!(out, "{label:<LABEL$}{row}");
    }
}

fn describe(out: &mut String, snapshot: &Clean, server: &ServerView, theme: Theme) {
    let mut words = vec![server.name.clone()];
    words.extend(server.pid.map(|pid| format!("pid {pid}")));
    words.push(if server.kind == "sdk" { "SDK".to_owned() } else { server.kind.clone() });
    if !server.live {
        words.push("silent".to_owned());
    }
    line(out, "server", &words.join(", "));
    let number = |value: Option<f64>| value.map_or("n/a".to_owned(), units::digits);
    let mut numbers = vec![
        format!("{} req/s", number(server.requests_per_s)),
        format!("{} in flight", server.in_flight.map_or("n/a".to_owned(), units::count)),
        match wording::error_kinds(server) {
            Some(kinds) => format!("{} err/s ({kinds})", number(server.errors_per_s)),
            None => format!("{} err/s", number(server.errors_per_s)),
        },
    ];
    if let Some(batch) = &server.batch {
        let most = batch.max_size.map(|max| format!(" of {max}")).unwrap_or_default();
        numbers.push(format!("batch {}{most}", units::digits(batch.mean_size)));
    }
    line(out, "requests", &numbers.join(", "));
    match &server.latency {
        Some(latency) => {
            let [p50, p90, p99, max] =
                [latency.p50_s, latency.p90_s, latency.p99_s, latency.max_s].map(units::duration);
            line(out, "latency", &format!("p50 {p50}, p90 {p90}, p99 {p99}, max {max}"));
        }
        None => line(out, "latency", "n/a: no request ended in the window"),
    }
    tell(out, server);
    for (label, device) in parts::devices_of(snapshot, server) {
        ledger(out, &label, device.ledger.as_ref().map(parts::device_parts), used(device).as_deref(), theme);
        unread(out, snapshot, device);
    }
    ledger(out, "req time", server.ledger.as_ref().map(parts::request_parts), None, theme);
}

/// Tokens and caches, of a server that tells of them.
fn tell(out: &mut String, server: &ServerView) {
    let rates = server.tokens.as_ref().map(|tokens| format!("in/out {} tok/s", wording::tokens(tokens)));
    let times = [("first", &server.time_to_first_token), ("between", &server.inter_token)];
    let times = times.into_iter().filter_map(|(name, latency)| {
        let [p50, p99] = [latency.as_ref()?.p50_s, latency.as_ref()?.p99_s].map(units::duration);
        Some(format!("{name} p50 {p50} p99 {p99}"))
    });
    let words: Vec<String> = rates.into_iter().chain(times).collect();
    if !words.is_empty() {
        line(out, "tokens", &words.join(", "));
    }
    if let Some(cache) = &server.cache {
        line(out, "cache", &wording::cache(cache));
    }
}

/// Why nothing is read of a GPU: another that hangs may be in the way, and no finding is about one that waits.
fn unread(out: &mut String, snapshot: &Clean, device: &DeviceView) {
    let is_unread = gpus::gpus(snapshot).iter().any(|gpu| gpu.device.id == device.id && gpu.is_unread());
    let is_why = |missing: &&Unavailable| missing.entity == device.id && missing.metric == "hw.gpu.utilization";
    if let Some(missing) = snapshot.unavailable.iter().find(is_why).filter(|_| is_unread) {
        line(out, "", &format!("not read now: {}", missing.reason));
    }
}

/// `1.9 of 2 CPUs`.
fn used(device: &DeviceView) -> Option<String> {
    let cpu = device.cpu.as_ref()?;
    Some(wording::cpus_used(cpu.used_cpus?, cpu.capacity_cpus?))
}

fn ledger(out: &mut String, label: &str, parts: Option<Vec<Part>>, note: Option<&str>, theme: Theme) {
    let Some(parts) = parts else { return line(out, label, "n/a: nothing can be said yet") };
    let bar = text(&ledger_bar::bar(&parts, BAR, theme));
    let note = note.map(|note| format!("  {note}")).unwrap_or_default();
    let _infallible = writeln!(out, "{label:<LABEL$}{bar}{note}");
    // An item is not broken over two lines.
    for row in flow(ledger_bar::legend(&parts, Detail::Words, theme, 0), LABEL, WIDTH + 1) {
        let _infallible = writeln!(out, "{}", text(&row.spans));
    }
}

fn text(spans: &[Span<'_>]) -> String {
    spans.iter().map(|span| span.content.as_ref()).collect()
}

/// The finding in one paragraph: what, numbers, cost, what to try.
fn explain(out: &mut String, snapshot: &Clean, finding: &Finding, theme: Theme) {
    let shape = badge::shape(finding.severity, theme);
    let about = gpus::about(snapshot, &finding.entity);
    let head = format!("{shape} {}. ({}, {about})", finding.summary.trim_end_matches('.'), finding.id);
    for row in wrap(&head, WIDTH) {
        let _infallible = writeln!(out, "{row}");
    }
    let mut paragraph = |label: &str, text: &str| {
        let label = if label.is_empty() { String::new() } else { format!("{label} ") };
        for row in wrap(&format!("{label}{text}"), WIDTH - 2) {
            let _infallible = writeln!(out, "  {row}");
        }
    };
    paragraph("", &finding.detail);
    if let Some(cost) = wording::cost(finding) {
        paragraph("Costs", &format!("{cost}."));
    }
    for remedy in &finding.remedies {
        paragraph("Try:", &remedy.action);
    }
}

fn to_ascii(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_ascii() { c.to_string() } else { crate::screen::ascii_twin(&c.to_string()).to_owned() })
        .collect()
}

#[cfg(test)]
mod tests {
    use unicode_width::UnicodeWidthStr;

    use super::*;
    use crate::fixtures;

    #[test]
    fn a_card_names_numbers_ledgers_findings_and_what_is_undecided() {
        insta::assert_snapshot!("overload", card(&fixtures::overload(), CardOptions::default()));
        insta::assert_snapshot!("healthy", card(&fixtures::healthy(), CardOptions::default()));
        insta::assert_snapshot!("bimodal", card(&fixtures::bimodal(), CardOptions::default()));
        insta::assert_snapshot!("two_gpus", card(&fixtures::two_gpus(), CardOptions::default()));
        insta::assert_snapshot!("two_findings_ascii", card(&fixtures::two_findings(), CardOptions { ascii: true }));
        let gpus_alone = Snapshot { servers: Vec::new(), ..fixtures::eight_gpus() };
        insta::assert_snapshot!("gpus_alone", card(&gpus_alone, CardOptions::default()));
        insta::assert_snapshot!("hung", card(&fixtures::hung(), CardOptions::default()));
        insta::assert_snapshot!("silent_driver", card(&fixtures::silent_driver(), CardOptions::default()));
        insta::assert_snapshot!("no_server", card(&fixtures::no_server(), CardOptions::default()));
    }

    #[test]
    fn a_gpu_that_waits_for_one_that_hangs_says_so() {
        let card = card(&fixtures::hung(), CardOptions::default());
        let words = card.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            words.contains("not read now: waits for GPU 0 H100: `nvmlDeviceGetPowerUsage` has not returned"),
            "{card}"
        );
        assert!(words.contains("not read now: driver unresponsive since 14:01:20 UTC"), "{card}");
    }

    #[test]
    fn a_card_fits_eighty_columns_and_ascii_is_ascii() {
        let snapshot = fixtures::everything();
        for row in card(&snapshot, CardOptions::default()).lines() {
            assert!(row.width() <= WIDTH, "{row}");
        }
        assert!(card(&snapshot, CardOptions { ascii: true }).is_ascii());
    }
}
