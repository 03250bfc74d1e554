//! Panels, as Grafana's classic JSON has them.

use perfwatch_model::{Level, MetricDef};
use serde_json::{Value, json};

use crate::expr::Expr;
use crate::palette::Colours;

/// Grafana's ids of units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    /// 0 to 1, as a percentage.
    Share,
    Seconds,
    Bytes,
    BytesPerSecond,
    RequestsPerSecond,
    /// Things per second.
    PerSecond,
    /// Things.
    Number,
}

impl Shown {
    const fn id(self) -> &'static str {
        match self {
            Self::Share => "percentunit",
            Self::Seconds => "s",
            Self::Bytes => "bytes",
            Self::BytesPerSecond => "binBps",
            Self::RequestsPerSecond => "reqps",
            Self::PerSecond => "cps",
            Self::Number => "short",
        }
    }
}

/// How values are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Lines over time.
    Lines,
    /// Areas on top of each other.
    Stack,
    /// Areas that fill the panel: shares of a whole.
    Whole,
    /// A native histogram over time.
    Heatmap,
    /// The newest value, large.
    Stat,
    /// Severities of findings over time.
    Findings,
}

/// An expression and what its series are called.
#[derive(Clone, Debug)]
struct Target {
    expr: Expr,
    legend: String,
    exemplar: bool,
}

/// A panel.
#[derive(Clone, Debug)]
pub(crate) struct Panel {
    title: &'static str,
    /// What it answers.
    question: &'static str,
    kind: Kind,
    unit: Shown,
    /// Of 24 columns.
    width: u32,
    targets: Vec<Target>,
    colours: Colours,
    /// Values from which on the panel turns orange and red.
    thresholds: Option<(f64, f64)>,
}

/// Height of a panel, in Grafana's rows of 30 pixels.
pub(crate) const HEIGHT: u32 = 8;
/// Height of a panel of one number.
pub(crate) const STAT_HEIGHT: u32 = 4;

impl Panel {
    pub(crate) fn new(kind: Kind, title: &'static str, question: &'static str, unit: Shown) -> Self {
        let width = if kind == Kind::Stat { 6 } else { 12 };
        let (targets, colours): (_, Colours) = (Vec::new(), &[]);
        Self { title, question, kind, unit, width, targets, colours, thresholds: None }
    }

    /// With one more query; `legend` names its series.
    pub(crate) fn query(mut self, expr: Expr, legend: impl Into<String>) -> Self {
        self.targets.push(Target { expr, legend: legend.into(), exemplar: false });
        self
    }

    /// As [`Panel::query`], with the requests that a backend kept as examples.
    pub(crate) fn query_with_exemplars(mut self, expr: Expr, legend: impl Into<String>) -> Self {
        self.targets.push(Target { expr, legend: legend.into(), exemplar: true });
        self
    }

    pub(crate) fn wide(mut self, columns: u32) -> Self {
        self.width = columns;
        self
    }

    pub(crate) fn colours(mut self, colours: Colours) -> Self {
        self.colours = colours;
        self
    }

    pub(crate) fn thresholds(mut self, warning: f64, critical: f64) -> Self {
        self.thresholds = Some((warning, critical));
        self
    }

    pub(crate) fn width(&self) -> u32 {
        self.width
    }

    pub(crate) fn height(&self) -> u32 {
        if self.kind == Kind::Stat { STAT_HEIGHT } else { HEIGHT }
    }

    fn metrics(&self) -> Vec<&'static MetricDef> {
        let mut all: Vec<&'static MetricDef> = Vec::new();
        for metric in self.targets.iter().flat_map(|target| &target.expr.metrics) {
            if !all.iter().any(|known| known.name == metric.name) {
                all.push(metric);
            }
        }
        all
    }

    /// What the panel answers, and from which metrics.
    fn description(&self) -> String {
        let mut text = self.question.to_owned();
        for metric in self.metrics() {
            text.push_str(&format!("\n\n`{}`: {}", metric.name, metric.brief));
            if metric.level == Level::Full {
                text.push_str(" Sent only with `otlp.level = \"full\"`.");
            }
        }
        text
    }

    /// As JSON, at a place.
    pub(crate) fn to_json(&self, id: u32, x: u32, y: u32) -> Value {
        let targets: Vec<Value> = self.targets.iter().enumerate().map(|(at, target)| self.target(at, target)).collect();
        json!({
            "id": id,
            "type": self.grafana_type(),
            "title": self.title,
            "description": self.description(),
            "datasource": datasource(),
            "gridPos": { "h": self.height(), "w": self.width, "x": x, "y": y },
            // What an export interval brings, so that a rate never looks at a range with one sample in it.
            "interval": "10s",
            "targets": targets,
            "fieldConfig": { "defaults": self.defaults(), "overrides": self.overrides() },
            "options": self.options(),
        })
    }

    fn grafana_type(&self) -> &'static str {
        match self.kind {
            Kind::Lines | Kind::Stack | Kind::Whole => "timeseries",
            Kind::Heatmap => "heatmap",
            Kind::Stat => "stat",
            Kind::Findings => "state-timeline",
        }
    }

    fn target(&self, at: usize, target: &Target) -> Value {
        let letter = char::from(b'A' + u8::try_from(at).unwrap_or(25).min(25));
        json!({
            "refId": letter.to_string(),
            "datasource": datasource(),
            "editorMode": "code",
            "expr": target.expr.text,
            "legendFormat": target.legend,
            "format": if self.kind == Kind::Heatmap { "heatmap" } else { "time_series" },
            "range": true,
            "instant": false,
            "exemplar": target.exemplar,
        })
    }

    fn defaults(&self) -> Value {
        let mut defaults = json!({
            "unit": self.unit.id(),
            "color": { "mode": if self.kind == Kind::Stat || self.kind == Kind::Findings { "thresholds" } else { "palette-classic" } },
            "mappings": self.mappings(),
            "thresholds": { "mode": "absolute", "steps": self.steps() },
            "custom": self.custom(),
        });
        if self.kind != Kind::Heatmap {
            defaults["min"] = json!(0);
        }
        if self.kind == Kind::Whole {
            defaults["max"] = json!(1);
        }
        defaults
    }

    fn steps(&self) -> Value {
        let Some((warning, critical)) = self.thresholds else {
            return json!([{ "color": if self.kind == Kind::Stat { "text" } else { "green" }, "value": null }]);
        };
        json!([
            { "color": "green", "value": null },
            { "color": "orange", "value": warning },
            { "color": "red", "value": critical },
        ])
    }

    fn mappings(&self) -> Value {
        match self.kind {
            // Without a request a share or a quantile is 0 / 0.
            Kind::Stat => json!([{
                "type": "special",
                "options": { "match": "null+nan", "result": { "index": 0, "text": "no traffic", "color": "text" } },
            }]),
            Kind::Findings => json!([{
                "type": "value",
                "options": {
                    "0": { "index": 0, "text": "clear", "color": "transparent" },
                    "1": { "index": 1, "text": "note", "color": "blue" },
                    "2": { "index": 2, "text": "warning", "color": "orange" },
                    "3": { "index": 3, "text": "critical", "color": "red" },
                },
            }]),
            Kind::Lines | Kind::Stack | Kind::Whole | Kind::Heatmap => json!([]),
        }
    }

    fn custom(&self) -> Value {
        match self.kind {
            Kind::Lines => lines(0, "none", self.thresholds.is_some()),
            Kind::Stack | Kind::Whole => lines(70, "normal", false),
            Kind::Heatmap => json!({ "hideFrom": { "legend": false, "tooltip": false, "viz": false } }),
            Kind::Stat => json!({}),
            Kind::Findings => json!({ "fillOpacity": 80, "lineWidth": 0 }),
        }
    }

    fn overrides(&self) -> Value {
        let colour = |(name, colour): &(&str, &str)| {
            json!({
                "matcher": { "id": "byName", "options": name },
                "properties": [{ "id": "color", "value": { "mode": "fixed", "fixedColor": colour } }],
            })
        };
        Value::Array(self.colours.iter().map(colour).collect())
    }

    fn options(&self) -> Value {
        let legend = |place: &str| json!({ "calcs": ["mean", "lastNotNull"], "displayMode": "table", "placement": place, "showLegend": true });
        match self.kind {
            Kind::Lines | Kind::Stack | Kind::Whole => json!({
                "legend": legend(if self.width > 12 { "right" } else { "bottom" }),
                "tooltip": { "mode": "multi", "sort": "desc" },
            }),
            Kind::Heatmap => json!({
                "calculate": false,
                "cellGap": 0,
                "cellValues": { "unit": "short" },
                "color": { "exponent": 0.5, "fill": "dark-orange", "mode": "scheme", "reverse": false, "scale": "exponential", "scheme": "Turbo", "steps": 64 },
                "exemplars": { "color": "rgba(255,0,255,0.7)" },
                "filterValues": { "le": 1e-9 },
                "legend": { "show": true },
                "rowsFrame": { "layout": "auto" },
                "showValue": "never",
                "tooltip": { "mode": "single", "showColorScale": true, "yHistogram": true },
                "yAxis": { "axisPlacement": "left", "reverse": false, "unit": self.unit.id() },
            }),
            Kind::Stat => json!({
                "colorMode": "value",
                "graphMode": "area",
                "justifyMode": "auto",
                "orientation": "auto",
                "percentChangeColorMode": "standard",
                "reduceOptions": { "calcs": ["lastNotNull"], "fields": "", "values": false },
                "showPercentChange": false,
                "textMode": "auto",
                "wideLayout": true,
            }),
            Kind::Findings => json!({
                "alignValue": "left",
                "legend": { "calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": false },
                "mergeValues": true,
                "rowHeight": 0.8,
                "showValue": "auto",
                "tooltip": { "mode": "single", "sort": "none" },
            }),
        }
    }
}

fn lines(fill: u32, stacking: &str, thresholds: bool) -> Value {
    json!({
        "drawStyle": "line",
        "lineWidth": u32::from(fill == 0),
        "fillOpacity": fill,
        "showPoints": "never",
        "spanNulls": false,
        "stacking": { "mode": stacking, "group": "A" },
        "thresholdsStyle": { "mode": if thresholds { "dashed" } else { "off" } },
    })
}

/// The data source that the dashboard's variable names.
pub(crate) fn datasource() -> Value {
    json!({ "type": "prometheus", "uid": "${datasource}" })
}
