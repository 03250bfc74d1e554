//! The servers, one line each, when there are several.

use perfwatch_model::snapshot::ServerView;
use ratatui::text::{Line, Span};

use super::{Plan, rule};
use crate::line::{Row, span, truncate};
use crate::theme::Role;
use crate::units;
use crate::views::Scene;
use crate::widgets::badge;
use crate::widgets::sparkline::sparkline;

/// Columns of the recent past of a server's requests.
const TRAIL: usize = 10;
/// From this width on, there is room for it and for long names.
const WIDE: usize = 100;
/// Longest name on a narrow screen, and on a wide one.
const NAMES: [usize; 2] = [18, 32];

/// As many as the plan has lines for, the selected one among them.
pub(super) fn lines(scene: Scene<'_>, plan: Plan, width: usize) -> Vec<Line<'static>> {
    let servers = &scene.snapshot.servers;
    let selected = scene.app.server_index();
    let mut shown = plan.servers.min(servers.len());
    let partial = shown < servers.len();
    if partial && !plan.titles {
        // A list that is not whole says so; the line comes from its own.
        shown = shown.saturating_sub(1).max(1);
    }
    let hidden = servers.len() - shown;
    let mut lines = Vec::new();
    if partial || (plan.titles && plan.list_title) {
        let keys = scene.theme.pick("←→", "h l");
        let note = if hidden > 0 { format!("{hidden} more with {keys}") } else { String::new() };
        lines.push(rule(scene, &format!("{} model servers", servers.len()), &note, width));
    }
    // The selected one in the middle, so that its neighbours on both sides are seen.
    let first = selected.saturating_sub(shown / 2).min(hidden);
    let longest = NAMES[usize::from(width >= WIDE)];
    let columns = Columns {
        name: servers.iter().map(|server| width_of(&server.name)).max().unwrap_or(0).clamp(8, longest),
        errors: servers.iter().any(|server| server.errors_per_s.is_some_and(|rate| rate > 0.0)),
        trails: plan.trails && width >= WIDE,
    };
    for (index, server) in servers.iter().enumerate().skip(first).take(shown) {
        lines.push(line(scene, server, index == selected, columns, width));
    }
    lines
}

/// What is the same in all lines.
#[derive(Clone, Copy)]
struct Columns {
    name: usize,
    errors: bool,
    trails: bool,
}

fn line(scene: Scene<'_>, server: &ServerView, here: bool, columns: Columns, width: usize) -> Line<'static> {
    let theme = scene.theme;
    let text = theme.style(Role::Text);
    let style = theme.style(if here { Role::Strong } else { Role::Text });
    let name = truncate(&server.name, columns.name);
    let fill = " ".repeat(columns.name.saturating_sub(width_of(&name)));
    let name = vec![
        Span::styled(theme.pick(if here { "▸ " } else { "  " }, if here { "> " } else { "  " }), style),
        worst(scene, server),
        Span::styled(format!(" {name}{fill}"), style),
    ];
    let row = Row::new().left(0, name).right(7, span(server.kind.clone(), theme.style(Role::Dim)));
    if !server.live {
        let silent = theme.pick("○ silent for more than 3 s", "o silent for more than 3 s");
        return row.left(1, span(silent, theme.style(Role::Warn))).line(width);
    }
    if server.kind == "process" {
        let note = span("only its process is watched", theme.style(Role::Dim));
        return row.left(1, note).line(width);
    }
    let requests = server.requests_per_s.map_or("n/a".to_owned(), |rate| format!("{} req/s", units::digits(rate)));
    let p99 = server.latency.as_ref().map_or("n/a".to_owned(), |latency| units::duration(latency.p99_s));
    let inside = server.in_flight.map_or("n/a".to_owned(), units::count);
    let mut row = row.left(1, span(format!("{requests:>12}"), text));
    if columns.trails {
        let graph = scene.app.history().servers.get(&server.id).map(|trails| trails.requests.iter());
        let graph = graph.map(|samples| sparkline(samples, TRAIL, theme)).unwrap_or_default();
        row = row.tight(8, span(format!("{graph:<TRAIL$}"), theme.style(Role::Accent)));
    }
    row = row.left(2, span(format!("p99 {p99:>7}"), text)).left(5, span(format!("{inside:>5} in flight"), text));
    if columns.errors {
        let failing = server.errors_per_s.filter(|rate| *rate > 0.0);
        let errors = failing.map(|rate| format!("{} err/s", units::digits(rate))).unwrap_or_default();
        row = row.left(4, span(format!("{errors:>9}"), theme.style(Role::Crit)));
    }
    row.left(6, span(theme.pick("● live", "* live"), theme.style(Role::Ok))).line(width)
}

/// The shape of the worst finding about a server or its CPUs.
fn worst(scene: Scene<'_>, server: &ServerView) -> Span<'static> {
    let bare = |id: &str| id.split_once(':').map_or_else(|| id.to_owned(), |(_, id)| id.to_owned());
    let about = scene.snapshot.findings.iter().filter(|finding| bare(&finding.entity) == bare(&server.id));
    match about.map(|finding| finding.severity).max() {
        Some(severity) => {
            let style = scene.theme.style(badge::role(severity));
            Span::styled(badge::shape(severity, scene.theme), style)
        }
        None => Span::raw(" "),
    }
}

fn width_of(text: &str) -> usize {
    unicode_width::UnicodeWidthStr::width(text)
}
