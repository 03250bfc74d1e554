//! Who holds a GPU's memory.

use perfwatch_model::ledger::proportional;
use perfwatch_model::snapshot::GpuProcessView;
use ratatui::text::{Line, Span};

use super::graphs::LABEL;
use super::words;
use crate::gpus::Gpu;
use crate::line::{Row, span, truncate};
use crate::theme::Role;
use crate::units;
use crate::views::Scene;
use crate::widgets::gauge::scarce;
use crate::widgets::table::{Column, Table};

/// Columns of the id of a container or pod: as many as the tools of containers show.
const ID: usize = 12;
/// Longest name of a process or server.
const NAME: usize = 24;

/// A bar in which each process has its letter, and the processes below, at most so many.
pub(super) fn lines(scene: Scene<'_>, gpu: &Gpu<'_>, most: usize, width: usize) -> Vec<Line<'static>> {
    let processes = largest_first(gpu);
    let mut lines = vec![bar(scene, gpu, &processes, width)];
    if most == 0 {
        return lines;
    }
    if processes.is_empty() {
        let text = match (&gpu.view.processes_unknown, gpu.view.memory_used_bytes) {
            (Some(why), _) => format!("processes: n/a ({})", words::besides(scene, gpu, why.clone())),
            (None, Some(0)) => "no process holds any of it".to_owned(),
            (None, Some(_)) if gpu.cut => "no process of its own is seen: its instances may hold it".to_owned(),
            (None, Some(_)) => "no process is seen that holds it".to_owned(),
            (None, None) => return lines,
        };
        lines.push(note(scene, &text, width));
        return lines;
    }
    let all = processes.len() + gpu.view.processes_left_out as usize;
    let shown = if all > most { most.saturating_sub(1).clamp(1, processes.len()) } else { processes.len() };
    let table = table(scene, &processes[..shown], width);
    if most > all {
        lines.push(table.header(scene.theme));
    }
    lines.extend((0..shown).map(|row| table.row(row)));
    if all > shown && most > 1 {
        let more = all - shown;
        let noun = if more == 1 { "process" } else { "processes" };
        let bytes = processes[shown..].iter().filter_map(|process| process.memory_bytes).sum::<u64>();
        // How much those hold that the agent left out is not told, nor always by the driver.
        let told = processes[shown..].iter().all(|process| process.memory_bytes.is_some());
        let known = gpu.view.processes_left_out == 0 && told;
        let held = if known { format!(" with {}", units::bytes(bytes as f64)) } else { String::new() };
        lines.push(note(scene, &format!("and {more} more {noun}{held}"), width));
    }
    lines
}

/// Processes that hold most first; of which it is not known, last.
fn largest_first<'a>(gpu: &Gpu<'a>) -> Vec<&'a GpuProcessView> {
    let mut processes: Vec<_> = gpu.view.processes.iter().collect();
    processes.sort_by_key(|process| std::cmp::Reverse(process.memory_bytes));
    processes
}

fn note(scene: Scene<'_>, text: &str, width: usize) -> Line<'static> {
    Row::new().left(0, span(format!("{:LABEL$}{text}", ""), scene.theme.style(Role::Dim))).line(width)
}

/// The letter of a process, by its place.
fn letter(place: usize) -> char {
    u8::try_from(place).ok().filter(|place| *place < 26).map_or('+', |place| char::from(b'a' + place))
}

fn bar(scene: Scene<'_>, gpu: &Gpu<'_>, processes: &[&GpuProcessView], width: usize) -> Line<'static> {
    let theme = scene.theme;
    let label = span(format!("{:<LABEL$}", "memory"), theme.style(Role::Text));
    let dim = theme.style(Role::Dim);
    let Some(limit) = gpu.view.memory_limit_bytes.filter(|limit| *limit > 0) else {
        let why = words::why_besides(scene, gpu, "hw.gpu.memory.limit").unwrap_or_else(|| "not reported".to_owned());
        return Row::new().left(0, [label, span(format!("n/a  {why}"), dim)].concat()).line(width);
    };
    let of = units::bytes(limit as f64);
    let Some(used) = gpu.view.memory_used_bytes else {
        let why = words::why_besides(scene, gpu, "hw.gpu.memory.usage").unwrap_or_else(|| "not reported".to_owned());
        return Row::new().left(0, [label, span(format!("n/a of {of}  {why}"), dim)].concat()).line(width);
    };
    let share = used as f64 / limit as f64;
    let role = scarce(share);
    let words = format!("{} of {of}", units::bytes(used as f64));
    let numbers = [
        span(format!("{:>5}", units::percent(share)), theme.style(if role == Role::Ok { Role::Strong } else { role })),
        span(format!("  {words}"), theme.style(Role::Text)),
    ]
    .concat();
    let room = width.saturating_sub(LABEL + crate::line::spans_width(&numbers) + 4);
    // What no process that is seen holds, and what is free.
    let held: Vec<u64> = processes.iter().map(|process| process.memory_bytes.unwrap_or(0)).collect();
    let unseen = used.saturating_sub(held.iter().sum());
    let free = limit.saturating_sub(used);
    let parts: Vec<u64> = held.iter().copied().chain([unseen, free]).collect();
    let mut spans = label;
    let cells = proportional(room as u64, parts.iter().copied()).unwrap_or_default();
    for (place, cells) in cells.into_iter().enumerate() {
        let (glyph, style) = match place.checked_sub(held.len()) {
            None => (letter(place), theme.fill(if place % 2 == 0 { Role::Ok } else { Role::Accent })),
            Some(0) => (theme.pick('░', ':'), theme.style(role)),
            Some(_) => (theme.pick('·', '.'), dim),
        };
        spans.extend(span(glyph.to_string().repeat(cells as usize), style));
    }
    Row::new().left(0, spans).right(0, numbers).line(width)
}

fn table(scene: Scene<'_>, processes: &[&GpuProcessView], width: usize) -> Table {
    let theme = scene.theme;
    let dim = theme.style(Role::Dim);
    let or_na = |text: Option<String>| match text {
        Some(text) => vec![Span::raw(text)],
        None => vec![Span::styled("n/a", dim)],
    };
    let all = |cell: &dyn Fn(&GpuProcessView) -> Vec<Span<'static>>| processes.iter().map(|one| cell(one)).collect();
    let letters = (0..processes.len()).map(|place| {
        let style = theme.fill(if place % 2 == 0 { Role::Ok } else { Role::Accent });
        vec![Span::raw(" ".repeat(LABEL)), Span::styled(letter(place).to_string(), style)]
    });
    let server = |process: &GpuProcessView| {
        let id = process.server.as_ref()?;
        let known = scene.snapshot.servers.iter().find(|server| server.id == *id);
        Some(truncate(known.map_or(id.as_str(), |server| server.name.as_str()), NAME))
    };
    let mut columns = vec![
        Column::text("", 0, letters.collect()),
        Column::number("pid", 2, all(&|process| vec![Span::raw(process.pid.to_string())])),
        Column::text("process", 0, all(&|process| or_na(process.name.as_deref().map(|name| truncate(name, NAME))))),
    ];
    if processes.iter().any(|process| process.server.is_some()) {
        columns.push(Column::text(
            "server",
            1,
            all(&|process| match server(process) {
                Some(name) => vec![Span::styled(name, theme.style(Role::Accent))],
                None => vec![Span::styled("none", dim)],
            }),
        ));
    }
    columns.push(Column::number(
        "memory",
        1,
        all(&|process| or_na(process.memory_bytes.map(|bytes| units::bytes(bytes as f64)))),
    ));
    if processes.iter().any(|process| process.sm_share.is_some()) {
        columns.push(Column::number("SM", 3, all(&|process| or_na(process.sm_share.map(units::percent)))));
    }
    let mut add = |title, rank, cell: &dyn Fn(&GpuProcessView) -> Option<String>| {
        let cells: Vec<_> = processes.iter().map(|process| cell(process)).collect();
        if cells.iter().any(Option::is_some) {
            let cells = cells.into_iter().map(|cell| span(cell.unwrap_or_default(), dim)).collect();
            columns.push(Column::text(title, rank, cells));
        }
    };
    let short = |id: &String| id.chars().take(ID).collect::<String>();
    // Whose a process is that no server answers for.
    let foreign =
        |process: &GpuProcessView, id: &Option<String>| id.as_ref().filter(|_| process.server.is_none()).map(short);
    add("pod", 4, &|process| foreign(process, &process.pod));
    add("container", 5, &|process| foreign(process, &process.container));
    add("pid inside", 6, &|process| process.container_pid.map(|pid| pid.to_string()));
    Table::fit(columns, width)
}
