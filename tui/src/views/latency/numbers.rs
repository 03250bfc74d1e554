//! The window in numbers, each with its recent past.

use perfwatch_model::snapshot::{LatencyView, ServerView};
use ratatui::text::{Line, Span};

use crate::history::{ServerTrails, Trail};
use crate::line::{Row, span};
use crate::theme::Role;
use crate::units;
use crate::views::Scene;
use crate::widgets::sparkline::sparkline;

/// Columns of a name, and of a value.
const NAME: usize = 9;
const VALUE: usize = 8;

/// One number of the list.
struct Item {
    name: &'static str,
    /// When rows are scarce, the highest leaves first.
    rank: u8,
    value: Option<String>,
    trail: Option<fn(&ServerTrails) -> &Trail>,
    role: Role,
}

fn items(server: &ServerView) -> Vec<Item> {
    let latency = server.latency.as_ref();
    let time = |pick: fn(&LatencyView) -> Option<f64>| latency.and_then(pick).map(units::duration);
    let item = |name, rank, value, trail| Item { name, rank, value, trail, role: Role::Strong };
    let failing = server.errors_per_s.is_some_and(|rate| rate > 0.0);
    let mut items = vec![
        item("p50", 1, time(|latency| Some(latency.p50_s)), Some(|trails| &trails.p50)),
        item("p90", 6, time(|latency| Some(latency.p90_s)), Some(|trails| &trails.p90)),
        item("p99", 0, time(|latency| Some(latency.p99_s)), Some(|trails| &trails.p99)),
        item("p99.9", 5, time(|latency| latency.p999_s), Some(|trails| &trails.p999)),
        item("max", 7, time(|latency| Some(latency.max_s)), None),
        item("req/s", 2, server.requests_per_s.map(units::digits), Some(|trails| &trails.requests)),
        item("in flight", 3, server.in_flight.map(units::count), Some(|trails| &trails.in_flight)),
        Item {
            role: if failing { Role::Crit } else { Role::Strong },
            ..item("err/s", 4, server.errors_per_s.map(units::digits), Some(|trails| &trails.errors))
        },
        item("arrive/s", 8, server.arrivals_per_s.map(units::digits), None),
    ];
    // What arrives and neither ends well nor in an error went away; where nothing does, the row is better spent.
    if server.cancelled_per_s.is_some_and(|rate| rate > 0.0) {
        let cancelled = server.cancelled_per_s.map(units::digits);
        items.insert(8, item("cancel/s", 6, cancelled, Some(|trails| &trails.cancelled)));
        for item in &mut items {
            item.rank += u8::from(item.rank >= 6 && item.name != "cancel/s");
        }
    }
    items
}

/// As many of the numbers as there are rows, each in at most `width` columns: name, value, sparkline.
pub(super) fn list(scene: Scene<'_>, server: &ServerView, rows: usize, width: usize) -> Vec<Vec<Span<'static>>> {
    let theme = scene.theme;
    let trails = scene.app.history().servers.get(&server.id);
    let graph = width.saturating_sub(NAME + VALUE + 1);
    let items = items(server).into_iter().filter(|item| usize::from(item.rank) < rows);
    items
        .map(|item| {
            let value = item.value.unwrap_or_else(|| "n/a".to_owned());
            let mut spans = vec![
                Span::styled(format!("{:<NAME$}", item.name), theme.style(Role::Dim)),
                Span::styled(format!("{value:>VALUE$}"), theme.style(item.role)),
            ];
            if let Some((pick, trails)) = item.trail.zip(trails) {
                let graph = sparkline(pick(trails).iter(), graph, theme);
                spans.push(Span::styled(format!(" {graph}"), theme.style(Role::Accent)));
            }
            spans
        })
        .collect()
}

/// The most important ones in one line.
pub(super) fn line(scene: Scene<'_>, server: &ServerView, width: usize) -> Line<'static> {
    let theme = scene.theme;
    let mut row = Row::new();
    for item in items(server).into_iter().filter(|item| item.rank < 5) {
        let value = item.value.unwrap_or_else(|| "n/a".to_owned());
        let [name, value] = [(item.name, Role::Dim), (value.as_str(), item.role)]
            .map(|(text, role)| Span::styled(text.to_owned(), theme.style(role)));
        // Percentiles have their name before them, rates are read as units.
        let spans = if item.name.starts_with('p') {
            [vec![name], span(" ", theme.style(Role::Text)), vec![value]].concat()
        } else {
            [vec![value], span(" ", theme.style(Role::Text)), vec![name]].concat()
        };
        row = row.left(item.rank, spans);
    }
    row.line(width)
}
