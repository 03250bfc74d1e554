use std::collections::BTreeMap;
use std::path::Path;

use super::*;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use perfwatch_export::Refused;
use perfwatch_export::receiver::{Answer, Receiver};
use perfwatch_model::metrics::server;
use perfwatch_model::{Entity, EntityKind, Histogram, Number, SeriesId, SparseHdr, Stamp};
use perfwatch_store::{Commit, JournalOptions, Kept};

const SECOND: u64 = 1_000_000_000;
const EPOCH: u64 = 1_800_000_000 * SECOND;

/// A keeping thread that the test steps by hand: a journal, export, and a server with a counter and a histogram.
struct Run {
    journal: Journal,
    ship: Ship,
    table: Arc<SeriesTable>,
    requests: SeriesId,
    latency: SeriesId,
    now: u64,
    count: u64,
}

fn disk(folder: &Path) -> Journal {
    Journal::open(JournalOptions {
        path: folder.join("journal.db"),
        cap_bytes: 512_000_000,
        boot: "first".to_owned(),
        now_wall_ns: EPOCH,
        keep_s: 86_400,
        keep_minutes_s: 7 * 86_400,
    })
}

fn plan(endpoint: &str, interval_s: u64, cap: u64) -> Plan {
    let otlp = OtlpConfig::from_lookup(|name| match name {
        "OTEL_EXPORTER_OTLP_ENDPOINT" => Some(endpoint.to_owned()),
        "OTEL_METRIC_EXPORT_INTERVAL" => Some((interval_s * 1_000).to_string()),
        _ => None,
    });
    let retry = RetryPolicy { first: Duration::from_millis(10), most: Duration::from_millis(50) };
    Plan { otlp: otlp.expect("valid variables"), full: false, cap, retry, runtime: Some(Handle::current()) }
}

impl Run {
    fn start(mut journal: Journal, plan: &Plan, now: u64) -> Self {
        let ship = Ship::start(plan, &mut journal, || {}).expect("nothing is missing");
        let mut table = SeriesTable::new();
        let entity = table.entity(Entity::new(EntityKind::Server, "shop/1"));
        let requests = table.series(&server::REQUESTS_STARTED, entity, &[]);
        let latency = table.series(&server::REQUEST_DURATION, entity, &[]);
        Self { journal, ship, table: Arc::new(table), requests, latency, now, count: 0 }
    }

    fn ticks(&mut self, count: u64) {
        for _ in 0..count {
            self.tick();
        }
    }

    fn tick(&mut self) -> Kept {
        self.now += SECOND;
        self.count += 1;
        let mut gained = SparseHdr::new();
        gained.record(self.count * 1_000);
        let tick = Tick {
            end: Stamp { mono_ns: self.now, wall_ns: EPOCH + self.now },
            dt_ns: SECOND,
            values: vec![(self.requests, Number::Int(self.count))],
            histograms: vec![(self.latency, Histogram::Hdr(gained))],
            ..Tick::default()
        };
        self.ship.expect(Arc::clone(&self.table), Vec::new(), false);
        let commit =
            Commit { tick: &tick, table: &self.table, sessions: &[], ledgers: &[], findings: &[], judged: false };
        let kept = self.journal.commit(&commit, &mut self.ship);
        self.ship.settle(&self.journal);
        kept
    }

    /// Bodies of requests that are in memory.
    fn in_memory(&self) -> usize {
        self.ship.lines.iter().map(Line::in_memory).sum()
    }

    fn shipped(&self) -> Shipped {
        self.ship.status().now()
    }

    /// Lets the lanes work until nothing waits.
    async fn drained(&mut self) {
        for _ in 0..3_000 {
            self.ship.settle(&self.journal);
            if self.shipped().outbox.requests == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{:?}", self.shipped());
    }
}

/// An address at which nobody answers.
const NOWHERE: &str = "http://127.0.0.1:9";

#[tokio::test]
async fn an_hour_without_a_receiver_lengthens_the_outbox_on_disk_and_nothing_in_memory() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut run = Run::start(disk(folder.path()), &plan(NOWHERE, 10, 64_000_000), 0);
    let mut held = Vec::new();
    for second in 0..3_600 {
        assert_eq!(run.tick(), Kept::OnDisk);
        if second % 600 == 599 {
            held.push(run.in_memory());
            tokio::task::yield_now().await;
        }
    }
    let shipped = run.shipped();
    assert_eq!((shipped.outbox.requests, shipped.dropped_now), (360, 0));
    // Those that the lane has in hand, and those that come next.
    assert!(held.iter().all(|requests| *requests <= 9), "{held:?}");
    assert!((3_580.0..3_600.0).contains(&shipped.outbox.oldest_s), "{shipped:?}");
}

#[tokio::test]
async fn what_waited_arrives_in_order_once_the_next_agent_finds_the_receiver() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut run = Run::start(disk(folder.path()), &plan(NOWHERE, 1, 64_000_000), 0);
    run.ticks(50);
    let now = run.now;
    drop(run);
    let receiver = Receiver::start().await.expect("loopback has free ports");
    receiver.script(Signal::Metrics, [Answer::Busy(None), Answer::Lose]);
    let mut run = Run::start(disk(folder.path()), &plan(&receiver.http_endpoint(), 1, 64_000_000), now);
    run.ship.settle(&run.journal);
    run.drained().await;
    let mut times: Vec<u64> = receiver
        .received()
        .metrics
        .iter()
        .map(|request| {
            let metrics = &request.resource_metrics[0].scope_metrics[0].metrics;
            let Some(Data::Sum(sum)) = &metrics
                .iter()
                .find(|metric| metric.name == "perfwatch.server.requests.started")
                .expect("it leaves")
                .data
            else {
                panic!("no sum")
            };
            sum.data_points.last().expect("a point").time_unix_nano
        })
        .collect();
    assert!(times.is_sorted());
    times.dedup();
    assert_eq!(times.len(), 50, "the one whose answer was lost came twice, all others once");
    assert_eq!(run.shipped().sent.iter().map(|(_, items)| items).sum::<u64>(), 50 * 2 + 2, "two zero points");
    // Their rows go with the next transaction.
    run.tick();
    drop(run);
    let mut journal = disk(folder.path());
    let left = journal.take_restored();
    assert!(left.parcels.len() <= 1, "{:?}", left.parcels.len());
    assert_eq!(left.counts["metrics.sent"], 102);
}

#[tokio::test]
async fn a_full_outbox_drops_the_oldest_and_counts_them_exactly() {
    for on_disk in [true, false] {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = if on_disk { disk(folder.path()) } else { Journal::in_memory(EPOCH) };
        let mut run = Run::start(journal, &plan(NOWHERE, 1, 20_000), 0);
        run.ticks(400);
        let shipped = run.shipped();
        assert!(shipped.outbox.bytes <= 20_000 && shipped.outbox.requests > 10, "{shipped:?}");
        let items: u64 = run.ship.lines.iter().map(Line::items).sum();
        assert_eq!(items + shipped.dropped_now, 400 * 2 + 2, "on disk: {on_disk}");
        let by_reason = &shipped.views[0].dropped_by_reason;
        assert_eq!(*by_reason, BTreeMap::from([("export_outbox_full".to_owned(), shipped.dropped_now)]));
        drop(run);
        if on_disk {
            let left = disk(folder.path()).take_restored();
            assert_eq!(left.parcels.len() as u64, shipped.outbox.requests, "the table is as long as the outbox");
            assert_eq!(left.counts["metrics.export_outbox_full"], shipped.dropped_now);
        }
    }
}

#[tokio::test]
async fn a_refused_point_is_kept_as_a_dead_letter_and_counted_by_reason() {
    let folder = tempfile::tempdir().expect("a folder");
    let receiver = Receiver::start().await.expect("loopback has free ports");
    receiver.rule(|attempt| {
        let bytes = b"perfwatch.server.requests.started";
        let has = attempt.message.windows(bytes.len()).any(|window| window == bytes);
        has.then(|| Answer::Refuse("out of order".to_owned()))
    });
    let mut run = Run::start(disk(folder.path()), &plan(&receiver.http_endpoint(), 1, 64_000_000), 0);
    run.tick();
    run.drained().await;
    run.tick();
    let view = run.shipped().views.remove(0);
    assert_eq!(view.dropped_by_reason["export_refused"], 2, "{view:?}");
    assert_eq!(view.sent, 2);
    let path = folder.path().join("journal.db");
    drop(run);
    let journal = std::fs::read(path).expect("the journal is a file");
    assert!(journal.windows(12).any(|window| window == b"out of order"), "the reason is in the table");
}

#[tokio::test]
async fn drops_are_told_once_however_often_the_agent_is_killed() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut run = Run::start(disk(folder.path()), &plan(NOWHERE, 1, 3_000), 0);
    run.ticks(100);
    let told: u64 = run.shipped().dropped.iter().map(|(_, _, items)| items).sum();
    assert!(told > 0);
    let now = run.now;
    // The kill comes before a tick could tell it: the next agent does.
    drop(run);
    let run = Run::start(disk(folder.path()), &plan(NOWHERE, 1, 3_000), now);
    assert_eq!(run.shipped().dropped.iter().map(|(_, _, items)| items).sum::<u64>(), told);
    assert_eq!(run.shipped().dropped_now, 0, "none of them is this agent's");
}

#[tokio::test]
async fn in_memory_everything_arrives_as_well_and_what_does_not_is_counted_at_the_end() {
    let receiver = Receiver::start().await.expect("loopback has free ports");
    let mut run = Run::start(Journal::in_memory(EPOCH), &plan(&receiver.http_endpoint(), 1, 64_000_000), 0);
    run.ticks(5);
    run.drained().await;
    assert_eq!(run.shipped().views[0].sent, 5 * 2 + 2);
    let mut run = Run::start(Journal::in_memory(EPOCH), &plan(NOWHERE, 1, 64_000_000), 0);
    run.ticks(5);
    let counted = tokio::task::spawn_blocking(move || {
        run.ship.finish(&mut run.journal, Duration::from_millis(100));
        run.ship.counts.dropped_now(Signal::Metrics)["export_shutdown"]
    });
    assert_eq!(counted.await.expect("it does not panic"), 5 * 2 + 2);
}

#[tokio::test]
async fn a_backlog_that_drains_at_the_stop_ends_in_time_and_what_arrived_is_not_sent_again() {
    const BACKLOG: usize = 2_000;
    // All of it would take 40 s, on an idle machine: a busy one has ten times the limit to come to its end.
    const EACH: Duration = Duration::from_millis(20);
    const WITHIN: Duration = Duration::from_secs(2);
    let folder = tempfile::tempdir().expect("a folder");
    let mut run = Run::start(disk(folder.path()), &plan(NOWHERE, 1, 64_000_000), 0);
    run.ticks(BACKLOG as u64);
    let now = run.now;
    drop(run);
    let receiver = Receiver::start().await.expect("loopback has free ports");
    receiver.rule(|_| Some(Answer::After(EACH, Box::new(Answer::Accept))));
    let mut run = Run::start(disk(folder.path()), &plan(&receiver.http_endpoint(), 1, 64_000_000), now);
    let begin = SystemClock.now().mono_ns;
    let ended = tokio::task::spawn_blocking(move || run.ship.finish(&mut run.journal, WITHIN));
    ended.await.expect("it does not panic");
    let took = SystemClock.now().mono_ns - begin;
    let arrived = receiver.received().metrics.len();
    let left = disk(folder.path()).take_restored();
    assert!((2..BACKLOG * 9 / 10).contains(&arrived), "{arrived}: the limit came first");
    assert!(took < 10 * WITHIN.as_nanos() as u64, "{took}");
    // The one in flight at the end. Those that the lane had in hand beside it stay, however long the journal takes to write.
    let again = left.parcels.len() + arrived - BACKLOG;
    assert!(again <= 1, "{again} of {arrived} would be sent again");
}

#[tokio::test]
async fn requests_without_an_endpoint_wait_a_day_for_one_and_are_counted_when_they_go() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut run = Run::start(disk(folder.path()), &plan(NOWHERE, 1, 64_000_000), 0);
    run.ticks(20);
    let mut now = run.now;
    drop(run);
    for (hours, left) in [(23, 20), (25, 0)] {
        now += hours * 3_600 * SECOND;
        let mut run = Run::start(disk(folder.path()), &Plan::none(), now);
        run.tick();
        drop(run);
        let kept = disk(folder.path()).take_restored();
        assert_eq!(kept.parcels.len(), left, "after {hours} h");
        assert_eq!(kept.counts.get("metrics.export_expired").copied(), (left == 0).then_some(20 * 2 + 2));
    }
}

#[tokio::test]
async fn dead_letters_that_wait_for_a_disk_are_bounded() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut run = Run::start(disk(folder.path()), &plan(NOWHERE, 1, 64_000_000), 0);
    run.ticks(300);
    let first = run.ship.next_id - 300;
    for id in first..run.ship.next_id {
        let request = Encoded { body: vec![1].into(), items: 1 };
        let refused = vec![Refused { request, why: "no".to_owned(), is_poison: true, unanswered: false }];
        run.ship.note(id, Settled { sent: 0, rejected: 0, refused });
    }
    assert_eq!(run.ship.counts.dropped_now(Signal::Metrics)["export_refused"], 300);
    assert_eq!(run.ship.outgoing.dead.len(), MAX_DEAD_WAITING);
}
