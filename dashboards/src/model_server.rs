//! *Model server*: why is this server slow, and what would make it faster?

use perfwatch_model::MetricDef;
use perfwatch_model::metrics::server;

use crate::dashboard::{Dashboard, Row};
use crate::expr::{Expr, Match, Scope};
use crate::label::{ERROR, FINDING, Label, OUTCOME, SERVER, SERVER_INSTANCE, STAGE, STATE, TOKEN};
use crate::palette::{OUTCOMES, STAGES};
use crate::panel::{Kind, Panel, Shown};
use crate::shared;

const SERVERS: Scope = Scope::Servers;
/// A server among others of its name.
const ONE: &[Label] = &[SERVER, SERVER_INSTANCE];

pub(crate) fn dashboard() -> Dashboard {
    Dashboard {
        uid: "perfwatch-model-server",
        title: "perfwatch / Model server",
        description: "One model server, or several: how long requests take and in which stage, what waits, how batches \
                      form, tokens, errors, and what the server's CPUs do.",
        about_servers: true,
        rows: vec![latency(), stages(), load(), batches(), tokens(), errors(), devices()],
    }
}

fn rate(metric: &'static MetricDef) -> Expr {
    Expr::rate(metric, SERVERS, &[])
}

/// Quantiles of a histogram, all chosen servers together.
fn quantiles(title: &'static str, question: &'static str, metric: &'static MetricDef) -> Panel {
    let panel = Panel::new(Kind::Lines, title, question, Shown::Seconds);
    [(0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99.9")]
        .into_iter()
        .fold(panel, |panel, (quantile, name)| panel.query_with_exemplars(rate(metric).sum().quantile(quantile), name))
}

fn latency() -> Row {
    Row {
        title: "Latency",
        panels: vec![
            Panel::new(
                Kind::Heatmap,
                "Latency",
                "How are the durations of requests spread? Two bands are two kinds of requests, or a cache that hits and misses.",
                Shown::Seconds,
            )
            .query_with_exemplars(Expr::increase(&server::REQUEST_DURATION, SERVERS, &[]).sum(), "duration"),
            quantiles(
                "Latency, quantiles",
                "How long do requests take? From arrival to the last byte sent; exact to 2 %.",
                &server::REQUEST_DURATION,
            ),
        ],
    }
}

fn stages() -> Row {
    let by_stage = rate(&server::STAGE_DURATION).sum_by(&[STAGE]);
    Row {
        title: "Stages",
        panels: vec![
            shared::request_ledger(SERVERS),
            Panel::new(
                Kind::Lines,
                "Time in a stage, p99",
                "Which stage makes the slowest requests slow?",
                Shown::Seconds,
            )
            .query(by_stage.clone().quantile(0.99), STAGE.shown())
            .colours(STAGES),
            Panel::new(
                Kind::Lines,
                "Time in a stage, mean",
                "How long does a request spend in each stage on average?",
                Shown::Seconds,
            )
            .query(by_stage.mean(), STAGE.shown())
            .colours(STAGES),
            Panel::new(
                Kind::Whole,
                "What the server was doing",
                "What is the server as a whole doing? Of all stages that some request is in, the first of: compute, \
                 transfer, batch_wait, data_load, preprocess, queue, postprocess, send. `data_load` means: requests load \
                 data while the model does nothing.",
                Shown::Share,
            )
            .query(rate(&server::STATE_TIME).sum_by(&[STATE]).share_of(STATE, rate(&server::STATE_TIME).sum()), STATE.shown())
            .colours(STAGES),
        ],
    }
}

fn load() -> Row {
    let waiting = Expr::rate(&server::STAGE_TIME, SERVERS, &[Match::like(STAGE, "queue|batch_wait")]);
    Row {
        title: "Load and queue",
        panels: vec![
            Panel::new(
                Kind::Lines,
                "Requests",
                "Does the server keep up? What comes in stays above what goes out while a backlog grows.",
                Shown::RequestsPerSecond,
            )
            .query(rate(&server::REQUESTS_STARTED).sum(), "came")
            .query(rate(&server::REQUESTS).sum(), "went")
            .wide(8),
            Panel::new(
                Kind::Stack,
                "Waiting",
                "How many requests wait, for a worker (`queue`) or for their batch (`batch_wait`)? Mean of the interval.",
                Shown::Number,
            )
            .query(waiting.sum_by(&[STAGE]), STAGE.shown())
            .colours(STAGES)
            .wide(8),
            Panel::new(Kind::Lines, "In flight", "How many requests are inside each server?", Shown::Number)
                .query(Expr::gauge(&server::IN_FLIGHT, SERVERS, &[]).sum_by(ONE), of_server())
                .wide(8),
        ],
    }
}

fn batches() -> Row {
    let dispatched = || rate(&server::BATCH_DISPATCHES).sum_by(ONE);
    Row {
        title: "Batches",
        panels: vec![
            Panel::new(Kind::Heatmap, "Batch size", "How large are the batches that the model computes?", Shown::Number)
                .query(Expr::increase(&server::BATCH_SIZE, SERVERS, &[]).sum(), "requests")
                .wide(8),
            Panel::new(
                Kind::Lines,
                "Batch size, mean and p90",
                "Does batching work? Compare with the largest batch that the server is configured to form.",
                Shown::Number,
            )
            .query(rate(&server::BATCH_SIZE).sum().mean(), "mean")
            .query(rate(&server::BATCH_SIZE).sum().quantile(0.9), "p90")
            .wide(8),
            Panel::new(
                Kind::Lines,
                "Batches formed while two or more requests were ready",
                "Could batches have been larger? Near 100 % with a batch size of 1: batching is off while there is something to batch.",
                Shown::Share,
            )
            .query(rate(&server::BATCH_READY2).sum_by(ONE).divided_by(dispatched()), of_server())
            .wide(8),
        ],
    }
}

fn tokens() -> Row {
    Row {
        title: "Tokens",
        panels: vec![
            Panel::new(Kind::Lines, "Tokens per second", "How much text goes in and comes out?", Shown::PerSecond)
                .query(rate(&server::TOKENS).sum_by(&[TOKEN]), TOKEN.shown())
                .wide(8),
            quantiles("Time to first token", "How long until a stream shows something?", &server::TIME_TO_FIRST_TOKEN)
                .wide(8),
            quantiles("Time between tokens", "How smoothly does a stream go on?", &server::INTER_TOKEN).wide(8),
        ],
    }
}

fn errors() -> Row {
    let by_outcome = rate(&server::REQUESTS).sum_by(&[OUTCOME]);
    let look_ups = |matches: &[Match]| Expr::rate(&server::CACHE_LOOKUPS, SERVERS, matches).sum_by(ONE);
    let hits = look_ups(&[Match::is(OUTCOME, "hit")]);
    Row {
        title: "Errors and caches",
        panels: vec![
            Panel::new(Kind::Stack, "Outcomes", "How do requests end?", Shown::RequestsPerSecond)
                .query(by_outcome, OUTCOME.shown())
                .colours(OUTCOMES)
                .wide(6),
            Panel::new(Kind::Lines, "Errors", "Which share of requests does not end well?", Shown::Share)
                .query(shared::failing(SERVERS, ONE), of_server())
                .thresholds(0.01, 0.05)
                .wide(6),
            Panel::new(Kind::Stack, "Errors by kind", "Why do requests fail?", Shown::RequestsPerSecond)
                .query(rate(&server::ERRORS).sum_by(&[ERROR]), ERROR.shown())
                .wide(6),
            Panel::new(Kind::Lines, "Cache hits", "Which share of look-ups finds its answer in a cache?", Shown::Share)
                .query(hits.or(look_ups(&[]).times(0.0)).in_brackets().divided_by(look_ups(&[])), of_server())
                .wide(6),
        ],
    }
}

fn devices() -> Row {
    let per_second = |metric| rate(metric).sum_by(ONE);
    let capacity = Expr::gauge(&server::CPU_CAPACITY, SERVERS, &[]).sum_by(ONE);
    Row {
        title: "Devices and findings",
        panels: vec![
            shared::cpu_ledger(SERVERS),
            shared::findings(SERVERS, &[SERVER, SERVER_INSTANCE, FINDING]),
            Panel::new(
                Kind::Lines,
                "CPU",
                "How much CPU does the server use, of how much that it may use? In CPUs.",
                Shown::Number,
            )
            .query(per_second(&server::CPU_TIME), format!("used by {}", of_server()))
            .query(capacity, format!("may use: {}", of_server()))
            .wide(8),
            Panel::new(
                Kind::Lines,
                "CPU, in the way",
                "Who else was on each server's CPUs, other servers included, and how long did its threads wait for one? In CPUs.",
                Shown::Number,
            )
            .query(per_second(&server::CPU_OTHERS), format!("other processes, {}", of_server()))
            .query(per_second(&server::CPU_RUN_DELAY), format!("threads that waited, {}", of_server()))
            .query(per_second(&server::CPU_STEAL), format!("hypervisor, {}", of_server()))
            .wide(8),
            Panel::new(
                Kind::Lines,
                "Busiest thread",
                "Is one thread the limit? Near 100 % while the CPU ledger shows room: more CPUs would not help.",
                Shown::Share,
            )
            .query(Expr::gauge(&server::HOTTEST_THREAD, SERVERS, &[]).max_by(ONE), of_server())
            .thresholds(0.9, 0.95)
            .wide(8),
        ],
    }
}

fn of_server() -> String {
    format!("{} {}", SERVER.shown(), SERVER_INSTANCE.shown())
}
