//! *Overview*: is something wrong, where did the time go, and what do the hosts do?

use perfwatch_model::metrics::{agent, export, host, io, server};

use crate::dashboard::{Dashboard, Row};
use crate::expr::{Expr, Match, Scope};
use crate::label::{
    CGROUP, CPU_MODE, DISK_DIRECTION, FINDING, Label, MEMORY_STATE, NETWORK_DIRECTION, OUTCOME, PRESSURE, REASON,
    RESOURCE, SERVER, SERVER_INSTANCE, SEVERITY,
};
use crate::palette::OUTCOMES;
use crate::panel::{Kind, Panel, Shown};
use crate::shared;

const HOSTS: Scope = Scope::Hosts;

pub(crate) fn dashboard() -> Dashboard {
    Dashboard {
        uid: "perfwatch-overview",
        title: "perfwatch / Overview",
        description: "Every host that runs perfwatch and every model server on it: requests, where device-seconds and \
                      request-seconds went, what was found, and the hosts themselves.",
        about_servers: false,
        rows: vec![requests(), ledgers(), findings(), hosts(), perfwatch()],
    }
}

/// Rate, errors, duration.
fn requests() -> Row {
    let by_outcome = Expr::rate(&server::REQUESTS, HOSTS, &[]).sum_by(&[OUTCOME]);
    let by_server = Expr::rate(&server::REQUESTS, HOSTS, &[]).sum_by(&[SERVER]);
    let durations = || Expr::rate(&server::REQUEST_DURATION, HOSTS, &[]);
    Row {
        title: "Requests",
        panels: vec![
            Panel::new(Kind::Stat, "Rate", "How many requests ended per second?", Shown::RequestsPerSecond)
                .query(Expr::rate(&server::REQUESTS, HOSTS, &[]).sum(), "requests"),
            Panel::new(Kind::Stat, "Errors", "Which share of the requests that ended did not end well?", Shown::Share)
                .query(shared::failing(HOSTS, &[]), "errors")
                .thresholds(0.01, 0.05),
            Panel::new(
                Kind::Stat,
                "Duration, median",
                "How long did half of the requests take at most?",
                Shown::Seconds,
            )
            .query(durations().sum().quantile(0.5), "p50"),
            Panel::new(Kind::Stat, "Duration, p99", "How long did 99 of 100 requests take at most?", Shown::Seconds)
                .query(durations().sum().quantile(0.99), "p99"),
            Panel::new(Kind::Lines, "Rate by server", "Which server answers how much?", Shown::RequestsPerSecond)
                .query(by_server, SERVER.shown())
                .wide(8),
            Panel::new(Kind::Stack, "Rate by outcome", "How did requests end?", Shown::RequestsPerSecond)
                .query(by_outcome, OUTCOME.shown())
                .colours(OUTCOMES)
                .wide(8),
            Panel::new(Kind::Lines, "p99 by server", "Which server is slow?", Shown::Seconds)
                .query_with_exemplars(durations().sum_by(&[SERVER]).quantile(0.99), SERVER.shown())
                .wide(8),
        ],
    }
}

fn ledgers() -> Row {
    let panels = vec![
        shared::gpu_ledger(HOSTS).wide(8),
        shared::cpu_ledger(HOSTS).wide(8),
        shared::request_ledger(HOSTS).wide(8),
    ];
    Row { title: "Where the time went", panels }
}

fn findings() -> Row {
    Row {
        title: "Findings",
        panels: vec![
            shared::findings(HOSTS, &[Label::Instance, SERVER, SERVER_INSTANCE, FINDING]).wide(18),
            Panel::new(
                Kind::Stat,
                "Findings that stand",
                "How many things are wrong now, by severity? `perfwatch why` on the host says what each rests on and what to try.",
                Shown::Number,
            )
            .query(shared::standing(HOSTS, &[]).sum_by(&[SEVERITY]), SEVERITY.shown())
            .colours(crate::palette::SEVERITIES),
        ],
    }
}

fn hosts() -> Row {
    let mut panels = processors();
    panels.extend(memory());
    panels.extend(devices());
    Row { title: "Hosts", panels }
}

/// An expression for each host.
fn by_host(expr: Expr) -> Expr {
    expr.max_by(&[Label::Instance])
}

/// Of hosts alone: control groups and servers have pressure of their own, in which a quota looks like a busy machine.
fn waiting(kind: &str) -> Expr {
    let matches = [Match::is(PRESSURE, kind), Match::is(CGROUP, ""), Match::is(SERVER, "")];
    Expr::rate(&host::PRESSURE_TIME, HOSTS, &matches).max_by(&[RESOURCE])
}

fn processors() -> Vec<Panel> {
    let most = |metric| Expr::gauge(metric, HOSTS, &[]).max();
    vec![
        Panel::new(Kind::Lines, "CPU in use", "How busy are the CPUs of each host?", Shown::Share)
            .query(by_host(Expr::gauge(&host::CPU_UTILIZATION, HOSTS, &[])), Label::Instance.shown())
            .thresholds(0.8, 0.95)
            .wide(8),
        Panel::new(Kind::Stack, "CPU by mode", "What do the CPUs do? In CPUs, all hosts together.", Shown::Number)
            .query(Expr::rate(&host::CPU_TIME, HOSTS, &[]).sum_by(&[CPU_MODE]), CPU_MODE.shown())
            .wide(8),
        Panel::new(
            Kind::Lines,
            "Threads",
            "Do threads wait for a CPU (more runnable than CPUs) or for a disk (blocked)? The host that has most.",
            Shown::Number,
        )
        .query(most(&host::THREADS_RUNNABLE), "runnable")
        .query(most(&host::THREADS_BLOCKED), "blocked")
        .query(most(&host::LOAD_1M), "load, 1 min")
        .query(most(&host::CPU_COUNT), "CPUs")
        .wide(8),
    ]
}

fn memory() -> Vec<Panel> {
    vec![
        Panel::new(Kind::Stack, "Memory by state", "What is memory used for? All hosts together.", Shown::Bytes)
            .query(Expr::gauge(&host::MEMORY_USAGE, HOSTS, &[]).sum_by(&[MEMORY_STATE]), MEMORY_STATE.shown())
            .wide(8),
        Panel::new(Kind::Lines, "Memory available", "Which share could new programs have without swapping?", Shown::Share)
            .query(
                by_host(Expr::gauge(&host::MEMORY_AVAILABLE, HOSTS, &[]))
                    .divided_by(by_host(Expr::gauge(&host::MEMORY_LIMIT, HOSTS, &[]))),
                Label::Instance.shown(),
            )
            .wide(8),
        Panel::new(
            Kind::Lines,
            "Pressure",
            "Which share of the time did tasks wait for a resource: some of them, or all, so that nothing ran? The host that \
             waits most.",
            Shown::Share,
        )
        .query(waiting("some"), format!("{}, some", RESOURCE.shown()))
        .query(waiting("full"), format!("{}, all", RESOURCE.shown()))
        .thresholds(0.1, 0.4)
        .wide(8),
    ]
}

fn devices() -> Vec<Panel> {
    let disks = |metric| Expr::rate(metric, HOSTS, &[]).sum_by(&[DISK_DIRECTION]);
    vec![
        Panel::new(Kind::Lines, "Disks", "How much is read and written? All hosts together.", Shown::BytesPerSecond)
            .query(disks(&io::DISKS_IO), DISK_DIRECTION.shown())
            .wide(8),
        Panel::new(
            Kind::Lines,
            "Disk latency",
            "How long does a read or a write take on average? All hosts together.",
            Shown::Seconds,
        )
        .query(disks(&io::DISKS_OPERATION_TIME).divided_by(disks(&io::DISKS_OPERATIONS)), DISK_DIRECTION.shown())
        .wide(8),
        Panel::new(
            Kind::Lines,
            "Network",
            "How much comes and goes over interfaces to other machines? All hosts together.",
            Shown::BytesPerSecond,
        )
        .query(Expr::rate(&io::NETWORK_TOTAL, HOSTS, &[]).sum_by(&[NETWORK_DIRECTION]), NETWORK_DIRECTION.shown())
        .wide(8),
    ]
}

fn perfwatch() -> Row {
    let by_host = |expr: Expr| expr.sum_by(&[Label::Instance]);
    let dropped = |metric| Expr::rate(metric, HOSTS, &[]).sum_by(&[REASON]);
    Row {
        title: "perfwatch itself",
        panels: vec![
            Panel::new(Kind::Lines, "CPU", "What does perfwatch cost? In CPUs.", Shown::Number)
                .query(by_host(Expr::rate(&agent::CPU_TIME, HOSTS, &[])), Label::Instance.shown())
                .wide(6),
            Panel::new(Kind::Lines, "Memory", "How much memory does it hold?", Shown::Bytes)
                .query(by_host(Expr::gauge(&agent::MEMORY_USAGE, HOSTS, &[])), Label::Instance.shown())
                .wide(6),
            Panel::new(
                Kind::Lines,
                "Lost",
                "Did perfwatch have to drop something or miss a second? What it shows is whole where this is 0.",
                Shown::PerSecond,
            )
            .query(dropped(&agent::DROPPED).or(dropped(&export::DROPPED)), REASON.shown())
            .query(Expr::rate(&agent::TICKS_MISSED, HOSTS, &[]).sum(), "ticks missed")
            .wide(6),
            Panel::new(
                Kind::Lines,
                "Waits for export",
                "How old is the oldest data that has not arrived yet? What an outage holds back arrives after it, at most so much \
                 later.",
                Shown::Seconds,
            )
            .query(by_host(Expr::gauge(&export::OUTBOX_AGE, HOSTS, &[])), Label::Instance.shown())
            .wide(6),
        ],
    }
}
