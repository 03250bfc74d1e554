//! A dashboard: rows of panels, laid out from left to right.

use perfwatch_model::metrics::finding;
use serde_json::{Value, json};

use crate::expr::{Expr, Scope};
use crate::label::{FINDING, Label, SERVER, SERVER_INSTANCE, SEVERITY};
use crate::panel::{Panel, datasource};
use crate::variable;

/// Columns of Grafana's grid.
const COLUMNS: u32 = 24;
/// Loads in Grafana 10 to 13; those that have a newer one migrate it when they load it.
const SCHEMA_VERSION: u32 = 41;

/// A row with a heading.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) title: &'static str,
    pub(crate) panels: Vec<Panel>,
}

/// A dashboard.
#[derive(Clone, Debug)]
pub(crate) struct Dashboard {
    pub(crate) uid: &'static str,
    pub(crate) title: &'static str,
    pub(crate) description: &'static str,
    /// Whether servers can be chosen, and not hosts alone.
    pub(crate) about_servers: bool,
    pub(crate) rows: Vec<Row>,
}

impl Dashboard {
    /// As the file that Grafana takes.
    pub(crate) fn to_text(&self) -> String {
        // A `Value` always has text: its keys are strings.
        let text = serde_json::to_string_pretty(&self.to_json()).unwrap_or_default();
        format!("{text}\n")
    }

    fn to_json(&self) -> Value {
        json!({
            "uid": self.uid,
            "title": self.title,
            "description": self.description,
            "tags": ["perfwatch"],
            "schemaVersion": SCHEMA_VERSION,
            "version": 1,
            // It is generated: what is changed by hand belongs into a copy.
            "editable": false,
            "graphTooltip": 1,
            "timezone": "browser",
            "time": { "from": "now-30m", "to": "now" },
            "refresh": "30s",
            "timepicker": {},
            "links": [links()],
            "templating": { "list": variable::list(self.about_servers) },
            "annotations": { "list": [self.findings()] },
            "panels": self.panels(),
        })
    }

    fn panels(&self) -> Value {
        let mut out = Vec::new();
        let (mut id, mut y) = (0, 0);
        let mut next = || {
            id += 1;
            id
        };
        for row in &self.rows {
            out.push(json!({
                "id": next(),
                "type": "row",
                "title": row.title,
                "collapsed": false,
                "gridPos": { "h": 1, "w": COLUMNS, "x": 0, "y": y },
                "panels": [],
            }));
            y += 1;
            let (mut x, mut tallest) = (0, 0);
            for panel in &row.panels {
                if x + panel.width() > COLUMNS {
                    y += tallest;
                    (x, tallest) = (0, 0);
                }
                out.push(panel.to_json(next(), x, y));
                x += panel.width();
                tallest = tallest.max(panel.height());
            }
            y += tallest;
        }
        Value::Array(out)
    }

    /// Where findings stood, as regions over every panel.
    fn findings(&self) -> Value {
        let scope = if self.about_servers { Scope::Servers } else { Scope::Hosts };
        let labels = [Label::Instance, SERVER, SERVER_INSTANCE, FINDING, SEVERITY];
        let standing = Expr::gauge(&finding::ACTIVE, scope, &[]).max_by(&labels).above(0.0);
        json!({
            "name": "Findings",
            "enable": true,
            "hide": false,
            "iconColor": "orange",
            "datasource": datasource(),
            "expr": standing.text,
            "step": "10s",
            "titleFormat": FINDING.shown(),
            "textFormat": format!("{} on {}, {}", SEVERITY.shown(), SERVER.shown(), Label::Instance.shown()),
            "tagKeys": format!("{},{}", SEVERITY.name(), SERVER.name()),
            "useValueForTime": false,
        })
    }
}

/// To perfwatch's other dashboards, with the same time and the same choice.
fn links() -> Value {
    json!({
        "title": "perfwatch",
        "type": "dashboards",
        "tags": ["perfwatch"],
        "icon": "external link",
        "tooltip": "Other dashboards of perfwatch, same time, same choice",
        "asDropdown": false,
        "includeVars": true,
        "keepTime": true,
        "targetBlank": false,
        "url": "",
    })
}
