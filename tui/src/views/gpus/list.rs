//! All GPUs, a line each: what is busy, what is used up, what is wrong, and where the time went.

use ratatui::text::{Line, Span};

use super::words;
use crate::gpus::{Gpu, short_name};
use crate::history::both_ways;
use crate::line::{cut, spans_width, truncate};
use crate::parts::device_parts;
use crate::theme::Role;
use crate::units;
use crate::views::Scene;
use crate::widgets::badge;
use crate::widgets::gauge::scarce;
use crate::widgets::ledger_bar;
use crate::widgets::table::{Column, Table};

/// Least columns of a bar that says anything, and that is worth more than a rate.
const LEAST_BAR: [usize; 2] = [8, 16];
/// Titles of the bars, where they are short, and where there is room.
const BARS: [&str; 2] = ["time", "where the time went"];
/// Longest words about a GPU's state on a narrow screen, and on a wide one.
const STATE: [usize; 2] = [13, 24];
/// Longest name.
const NAME: [usize; 2] = [12, 28];
/// From this width on there is room for long words.
const WIDE: usize = 120;

/// Rows that [`lines`] makes of so many GPUs when it has room for all.
pub(super) fn height(gpus: usize) -> usize {
    gpus + 1
}

/// A header and as many GPUs as there are rows for, the selected one among them.
pub(super) fn lines(scene: Scene<'_>, gpus: &[Gpu<'_>], width: usize, rows: usize) -> Vec<Line<'static>> {
    let table = table(scene, gpus, width);
    // Few rows are better spent on GPUs than on titles.
    let titled = rows > gpus.len() || rows > 4;
    let shown = rows.saturating_sub(usize::from(titled)).min(gpus.len());
    let selected = scene.app.gpu_index();
    let first = selected.saturating_sub(shown / 2).min(gpus.len() - shown);
    let mut lines: Vec<_> = titled.then(|| header(scene, &table, gpus.len() - shown, width)).into_iter().collect();
    lines.extend((first..first + shown).map(|row| table.row(row)));
    lines
}

/// Below the list, why a GPU that could not be opened is not in it.
pub(super) fn unseen(scene: Scene<'_>, width: usize) -> Option<Line<'static>> {
    let why = crate::gpus::unseen(scene.snapshot)?;
    let mark = Span::styled(format!(" {}", mark(scene, Role::Crit)), scene.theme.style(Role::Crit));
    let why = Span::styled(format!(" {why}"), scene.theme.style(Role::Text));
    Some(cut(vec![Span::raw(" "), mark, why], width.saturating_sub(1)))
}

/// The titles, and how many GPUs have no line.
fn header(scene: Scene<'_>, table: &Table, hidden: usize, width: usize) -> Line<'static> {
    let mut line = table.header(scene.theme);
    if hidden > 0 {
        let note = format!("{hidden} more ");
        let before = width.saturating_sub(note.len());
        while line.spans.last().is_some_and(|span| span.content.chars().all(|c| c == ' ')) {
            line.spans.pop();
        }
        line = cut(line.spans, before);
        let fill = before.saturating_sub(spans_width(&line.spans));
        line.push_span(Span::raw(" ".repeat(fill)));
        line.push_span(Span::styled(note, scene.theme.style(Role::Dim)));
    }
    line
}

fn table(scene: Scene<'_>, gpus: &[Gpu<'_>], width: usize) -> Table {
    let theme = scene.theme;
    let wide = usize::from(width >= WIDE);
    let (text, dim) = (theme.style(Role::Text), theme.style(Role::Dim));
    let na = || vec![Span::styled("n/a", dim)];
    // A column that no GPU fills says nothing that the reason below does not say better.
    let column = |title, rank, cell: &dyn Fn(&Gpu<'_>) -> Option<Span<'static>>| {
        let cells: Vec<_> = gpus.iter().map(cell).collect();
        let empty = cells.iter().all(Option::is_none);
        let cells = cells.into_iter().map(|cell| cell.map_or_else(na, |cell| vec![cell])).collect();
        (!empty).then(|| Column::number(title, rank, cells))
    };
    let share = |share: Option<f64>| share.map(|share| Span::styled(units::percent(share), text));
    let rate = |rate: Option<f64>| rate.map(|rate| Span::styled(format!("{}/s", units::bytes(rate)), text));
    let activity = |gpu: &Gpu<'_>| gpu.view.activity.unwrap_or_default();
    let units_known = gpus.iter().any(|gpu| activity(gpu).sm_active.is_some());

    let selected = scene.app.gpu_index();
    let last = |at: usize| gpus.get(at + 1).is_none_or(|next| !next.instance);
    let names = (0..gpus.len()).map(|at| name(scene, &gpus[at], at == selected, last(at), NAME[wide]));
    let mut columns = vec![Column::text("  GPU", 0, names.collect())];
    columns.extend(column("util", if units_known { 9 } else { 2 }, &|gpu| share(gpu.view.utilization)));
    columns.extend(column("SM", 2, &|gpu| share(activity(gpu).sm_active)));
    columns.extend(column("tensor", 7, &|gpu| share(activity(gpu).tensor_active)));
    columns.extend(column("DRAM", 8, &|gpu| share(activity(gpu).dram_active)));
    columns.extend(column("PCIe", 11, &|gpu| {
        rate(gpu.view.pcie.and_then(|pcie| both_ways(pcie.transmit_bytes_per_s, pcie.receive_bytes_per_s)))
    }));
    columns.extend(column("NVLink", 12, &|gpu| {
        rate(gpu.view.nvlink.and_then(|link| both_ways(link.transmit_bytes_per_s, link.receive_bytes_per_s)))
    }));
    columns.extend(column("mem GiB", 3, &|gpu| memory(scene, gpu)));
    columns.extend(column("watts", 5, &|gpu| {
        let limit = gpu.view.power_limit_watts.map(|limit| format!("/{}", units::digits(limit))).unwrap_or_default();
        Some(Span::styled(format!("{}{limit}", units::digits(gpu.view.power_watts?)), text))
    }));
    let degree = theme.pick("°C", "'C");
    columns.extend(column(degree, 4, &|gpu| heat(scene, gpu)));
    columns.extend(column("clock", 10, &|gpu| Some(Span::styled(units::hertz(gpu.view.sm_clock_hertz?), text))));
    // What says nothing of itself has its reason in the place of its numbers, so that it takes no room from the others.
    let numbers = columns.len() > 1;
    let silent: Vec<bool> = gpus.iter().map(|gpu| numbers && gpu.is_unread()).collect();
    let longest = if numbers { STATE[wide] } else { width / 2 };
    let states =
        gpus.iter().zip(&silent).map(|(gpu, silent)| if *silent { Vec::new() } else { state(scene, gpu, longest) });
    columns.push(Column::text("", 1, states.collect()));
    if gpus.iter().any(|gpu| gpu.device.ledger.is_some()) {
        let room = vec![Span::raw(" ".repeat(LEAST_BAR[wide]))];
        columns.push(Column::text(BARS[0], 6, vec![room; gpus.len()]));
    }
    let mut table = Table::fit(columns, width);
    let bar_cells = table.take(BARS[0]);
    for (row, _) in silent.iter().enumerate().filter(|(_, silent)| **silent) {
        table.across(row, reason(scene, &gpus[row]));
    }
    if let Some(cells) = bar_cells {
        let title = BARS[usize::from(cells >= BARS[1].len())];
        table.push(Column::text(title, 0, gpus.iter().map(|gpu| bar(scene, gpu, cells)).collect()));
    }
    table
}

/// Selected or not, the worst finding's shape, number and name; an instance is indented below its device.
fn name(scene: Scene<'_>, gpu: &Gpu<'_>, here: bool, last: bool, longest: usize) -> Vec<Span<'static>> {
    let theme = scene.theme;
    let style = theme.style(if here { Role::Selected } else { Role::Text });
    let about = scene.snapshot.findings.iter().filter(|finding| finding.entity == gpu.device.id);
    let worst = about.map(|finding| finding.severity).max();
    let worst = worst.map_or(Span::raw(" "), |severity| {
        Span::styled(badge::shape(severity, theme), theme.style(badge::role(severity)))
    });
    let branch = match (gpu.instance, last) {
        (false, _) => "",
        (true, false) => theme.pick("├ ", "  "),
        (true, true) => theme.pick("└ ", "  "),
    };
    let name = truncate(&format!("{} {}", gpu.number, short_name(&gpu.device.name)), longest);
    let mark = theme.pick(if here { "▸" } else { " " }, if here { ">" } else { " " });
    vec![
        Span::styled(mark, theme.style(Role::Strong)),
        worst,
        Span::styled(branch, theme.style(Role::Dim)),
        Span::styled(name, style),
    ]
}

fn memory(scene: Scene<'_>, gpu: &Gpu<'_>) -> Option<Span<'static>> {
    let gib = |bytes: u64| bytes as f64 / f64::from(1_u32 << 30);
    let used = gpu.view.memory_used_bytes?;
    let Some(limit) = gpu.view.memory_limit_bytes.filter(|limit| *limit > 0) else {
        return Some(Span::raw(units::digits(gib(used))));
    };
    let role = match scarce(used as f64 / limit as f64) {
        Role::Ok => Role::Text,
        role => role,
    };
    let text = format!("{}/{}", units::digits(gib(used)), units::digits(gib(limit).round()));
    Some(Span::styled(text, scene.theme.style(role)))
}

/// Degrees, with a mark from where on the device slows itself down.
fn heat(scene: Scene<'_>, gpu: &Gpu<'_>) -> Option<Span<'static>> {
    let degrees = units::digits(gpu.view.temperature_celsius?);
    if gpu.view.temperature_margin_celsius.is_none_or(|margin| margin.round() > 0.0) {
        return Some(Span::styled(degrees, scene.theme.style(Role::Text)));
    }
    let text = format!("{}{degrees}", mark(scene, Role::Warn));
    Some(Span::styled(text, scene.theme.style(Role::Warn)))
}

/// Why nothing is read of a GPU that has no fault of its own.
fn unread(scene: Scene<'_>, gpu: &Gpu<'_>) -> Option<String> {
    words::why(scene, gpu, "hw.gpu.utilization").filter(|_| gpu.is_unread())
}

/// The fault that a GPU has, or what holds its clocks down, whichever is worse, or why nothing is read of it;
/// nothing when all is well.
fn state(scene: Scene<'_>, gpu: &Gpu<'_>, longest: usize) -> Vec<Span<'static>> {
    let theme = scene.theme;
    let held_down = words::worst_reason(gpu.view, theme, longest);
    let fault = words::worst_fault(gpu.view).filter(|fault| match &held_down {
        Some((_, Role::Crit)) => words::fault(fault).2 == Role::Crit,
        // What somebody set gives way to what happens.
        Some((_, Role::Warn)) => !words::is_setting(fault),
        _ => true,
    });
    if let Some(fault) = fault {
        let (short, _, role) = words::fault(fault);
        let text = format!("{} {short}", mark(scene, role));
        return vec![Span::styled(truncate(&text, longest), theme.style(role))];
    }
    let unread = || unread(scene, gpu).map(|why| (truncate(&why, longest), Role::Dim));
    held_down.or_else(unread).map(|(text, role)| Span::styled(text, theme.style(role))).into_iter().collect()
}

/// Of a GPU of which nothing else is known the worst fault in words, else why that is.
fn reason(scene: Scene<'_>, gpu: &Gpu<'_>) -> Vec<Span<'static>> {
    let theme = scene.theme;
    let Some((short, words, role)) = words::worst_fault(gpu.view).map(words::fault) else {
        return unread(scene, gpu).map(|why| Span::styled(why, theme.style(Role::Dim))).into_iter().collect();
    };
    vec![
        Span::styled(mark(scene, role), theme.style(role)),
        Span::styled(format!(" {short}"), theme.style(role)),
        Span::styled(if short == words { String::new() } else { format!(": {words}") }, theme.style(Role::Dim)),
    ]
}

/// The shape of a fault.
fn mark(scene: Scene<'_>, role: Role) -> &'static str {
    if role == Role::Crit { scene.theme.pick("✖", "X") } else { scene.theme.pick("▲", "!") }
}

fn bar(scene: Scene<'_>, gpu: &Gpu<'_>, cells: usize) -> Vec<Span<'static>> {
    let words = if gpu.cut { "by instance" } else { "n/a" };
    match &gpu.device.ledger {
        Some(ledger) => ledger_bar::bar(&device_parts(ledger), cells, scene.theme),
        None => vec![Span::styled(truncate(words, cells), scene.theme.style(Role::Dim))],
    }
}
