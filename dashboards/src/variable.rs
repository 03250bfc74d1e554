//! The variables of a dashboard: each offers what those before it leave.

use perfwatch_model::MetricDef;
use perfwatch_model::metrics::{agent, server};
use perfwatch_model::prometheus::metric_name;
use serde_json::{Value, json};

use crate::label::{Label, SERVER, SERVER_INSTANCE};
use crate::panel::datasource;

/// A variable, what a person reads beside it, where its values come from, and what stands for all of them.
struct Variable {
    name: &'static str,
    label: &'static str,
    description: &'static str,
    metric: &'static MetricDef,
    values_of: Label,
    all: &'static str,
}

/// `job`, then the hosts of it: every agent sends its own lateness.
const HOSTS: &[Variable] = &[
    Variable {
        name: "job",
        label: "Job",
        description: "Name of the agents' service, `perfwatch` unless OTEL_SERVICE_NAME says otherwise.",
        metric: &agent::LATENESS,
        values_of: Label::Job,
        all: ".+",
    },
    Variable {
        name: "instance",
        label: "Instance",
        description: "Host of the agent, or what OTEL_RESOURCE_ATTRIBUTES gives as service.instance.id.",
        metric: &agent::LATENESS,
        values_of: Label::Instance,
        all: ".+",
    },
];

/// The servers on these hosts, then the instances of those. One that was never named is selected by "all".
const SERVERS: &[Variable] = &[
    Variable {
        name: "server",
        label: "Server",
        description: "Name of the model server.",
        metric: &server::REQUESTS_STARTED,
        values_of: SERVER,
        all: ".*",
    },
    Variable {
        name: "server_instance",
        label: "Server instance",
        description: "Which of the servers of that name.",
        metric: &server::REQUESTS_STARTED,
        values_of: SERVER_INSTANCE,
        all: ".*",
    },
];

/// The data source, hosts, and servers if the dashboard is about them.
pub(crate) fn list(with_servers: bool) -> Value {
    let source = json!({
        "name": "datasource",
        "label": "Data source",
        "description": "A Prometheus that perfwatch sends to.",
        "type": "datasource",
        "query": "prometheus",
        "regex": "",
        "current": { "selected": false, "text": "default", "value": "default" },
        "options": [],
        "hide": 0,
        "includeAll": false,
        "multi": false,
        "refresh": 1,
        "skipUrlSync": false,
    });
    let chain = HOSTS.iter().chain(if with_servers { SERVERS } else { &[] });
    let mut chosen = String::new();
    let mut variables = vec![source];
    for variable in chain {
        let values_of = variable.values_of.name();
        let selector = if chosen.is_empty() { String::new() } else { format!("{{{chosen}}}") };
        let query = format!("label_values({}{selector}, {values_of})", metric_name(variable.metric));
        variables.push(json!({
            "name": variable.name,
            "label": variable.label,
            "description": variable.description,
            "type": "query",
            "datasource": datasource(),
            "query": query,
            "regex": "",
            "current": { "selected": true, "text": "All", "value": "$__all" },
            "options": [],
            "hide": 0,
            "includeAll": true,
            "allValue": variable.all,
            "multi": true,
            // On a change of the time range: what came and went in between is offered too.
            "refresh": 2,
            "sort": 1,
            "skipUrlSync": false,
        }));
        let separator = if chosen.is_empty() { "" } else { ", " };
        chosen.push_str(&format!("{separator}{values_of}=~\"${}\"", variable.name));
    }
    Value::Array(variables)
}
