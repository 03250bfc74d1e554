use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use perfwatch_model::histogram::layout;
use perfwatch_model::metrics::{host, server};
use perfwatch_model::{Entity, EntityKind, Histogram, Number, SeriesId, SparseHdr, Stamp};
use rusqlite::Connection;

use super::*;
use crate::SeriesTotal;
use crate::outbox::NoShipper;
use crate::totals::Amount;
use noise::Noise;

mod damage;
mod history;
mod noise;

const SECOND: u64 = 1_000_000_000;

/// A run of the agent: a table of its own, and a server that counts from 0.
struct Run {
    journal: Journal,
    table: SeriesTable,
    requests: SeriesId,
    latency: SeriesId,
    kernel: SeriesId,
    count: u64,
    at: u64,
}

fn options(folder: &Path) -> JournalOptions {
    JournalOptions {
        path: folder.join("state/journal.db"),
        cap_bytes: MIN_CAP,
        keep_s: crate::DEFAULT_KEEP_S,
        keep_minutes_s: crate::DEFAULT_KEEP_MINUTES_S,
        boot: "first".to_owned(),
        now_wall_ns: 1_700_000_000 * SECOND,
    }
}

impl Run {
    fn start(options: JournalOptions) -> Self {
        Self::of(Journal::open(options))
    }

    fn of(journal: Journal) -> Self {
        let mut table = SeriesTable::new();
        // Another order than the last run's, so that handles and journal numbers differ.
        let machine = table.entity(Entity::new(EntityKind::Host, "here"));
        let shop = table.entity(Entity::new(EntityKind::Server, "shop/1"));
        let at = journal.next_seq;
        Self {
            kernel: table.series(&host::CPU_TIME, machine, &[]),
            requests: table.series(&server::REQUESTS_STARTED, shop, &[]),
            latency: table.series(&server::REQUEST_DURATION, shop, &[]),
            journal,
            table,
            count: 0,
            at,
        }
    }

    /// One request of 5 ns in flush `seq` of the one session.
    fn serve(&mut self, seq: u64) -> Kept {
        self.count += 1;
        self.at += 1;
        let mut gained = SparseHdr::new();
        gained.record(5);
        let mut tick = Tick {
            end: Stamp { mono_ns: self.at * SECOND, wall_ns: 1_700_000_000 * SECOND + self.at * SECOND },
            dt_ns: SECOND,
            values: vec![(self.kernel, Number::Int(1_000 + self.at)), (self.requests, Number::Int(self.count))],
            histograms: vec![(self.latency, Histogram::Hdr(gained))],
            ..Tick::default()
        };
        tick.seal();
        let sessions = [Progress { session: [7; SESSION_BYTES], seq }];
        self.journal.commit(
            &Commit { tick: &tick, table: &self.table, sessions: &sessions, ledgers: &[], findings: &[], judged: true },
            &mut NoShipper,
        )
    }

    fn requests(&self) -> u128 {
        match self.journal.reader().query(Some(server::REQUESTS_STARTED.name), Some("server:shop/1")).as_slice() {
            [SeriesTotal { amount: Amount::Counter(total), .. }] => *total,
            other => panic!("expected one counter, got {other:?}"),
        }
    }

    /// Count and sum.
    fn latency(&self) -> (u64, u128) {
        match self.journal.reader().query(Some(server::REQUEST_DURATION.name), None).as_slice() {
            [SeriesTotal { amount: Amount::Histogram(all), .. }] => (all.count(), all.hdr.sum()),
            other => panic!("expected one histogram, got {other:?}"),
        }
    }

    fn seq(&self) -> u64 {
        self.journal.sessions().map(|progress| progress.seq).max().unwrap_or(0)
    }

    fn file(&self) -> &File {
        self.journal.disk.as_ref().and_then(|disk| disk.file.as_ref()).expect("on disk")
    }

    fn place(&self) -> Place {
        self.journal.reader().status().place
    }
}

fn beside(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder.join("state"))
        .expect("the folder")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("text"))
        .collect();
    names.sort();
    names
}

#[test]
fn the_next_run_goes_on_where_the_last_one_stopped() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut run = Run::start(options(folder.path()));
    for seq in 1..=3 {
        assert_eq!(run.serve(seq), Kept::OnDisk);
    }
    // No farewell: dropping closes files as a killed process does, and nothing was left to write.
    drop(run);
    let mut run = Run::start(options(folder.path()));
    assert_eq!((run.requests(), run.latency(), run.seq()), (3, (3, 15), 3));
    run.serve(4);
    assert_eq!((run.requests(), run.latency(), run.seq()), (4, (4, 20), 4));
    let kernel = run.journal.reader().query(Some(host::CPU_TIME.name), None);
    assert_eq!(kernel[0].amount, Amount::Counter(3), "1001 to 1004: the kernel went on counting");
}

#[test]
fn after_a_reboot_the_kernel_counts_from_zero() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut run = Run::start(options(folder.path()));
    run.serve(1);
    drop(run);
    let mut run = Run::start(JournalOptions { boot: "second".to_owned(), ..options(folder.path()) });
    run.serve(2);
    let kernel = run.journal.reader().query(Some(host::CPU_TIME.name), None);
    assert_eq!(kernel[0].amount, Amount::Counter(1_002), "all that was counted since the machine started");
}

#[test]
fn the_journal_is_for_its_owner_alone_and_readable_with_any_sqlite() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut run = Run::start(options(folder.path()));
    (1..=3).for_each(|seq| _ = run.serve(seq));
    for name in beside(folder.path()) {
        let mode = std::fs::metadata(folder.path().join("state").join(&name)).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let other = Connection::open(&options(folder.path()).path).expect("opens while it is being written");
    let (metric, total): (String, i64) = other
        .query_row(
            "SELECT metric, total FROM series JOIN totals ON series = id WHERE entity LIKE 'server:%' AND total > 0",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .expect("a row");
    assert_eq!((metric.as_str(), total), (server::REQUESTS_STARTED.name, 3));
    let blob: Vec<u8> = other.query_row("SELECT data FROM ticks WHERE seq = 2", [], |row| row.get(0)).expect("a tick");
    let tick = crate::decode(&blob).expect("whole");
    assert_eq!((tick.values.len(), tick.histograms.len()), (2, 1));
}

#[test]
fn a_full_disk_loses_nothing_and_the_journal_comes_back_by_itself() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut run = Run::start(options(folder.path()));
    run.serve(1);
    run.file().allow_no_growth(true);
    let mut seq = 1;
    // The pages at hand have room for some ticks more.
    let full = (0..2_000).any(|_| {
        seq += 1;
        run.serve(seq) == Kept::InMemory
    });
    assert!(full, "the disk never filled");
    let Place::Failing { reason, ticks_at_risk, .. } = run.place() else { panic!("{:?}", run.place()) };
    assert_eq!((reason.as_str(), ticks_at_risk), ("database or disk is full", 1));
    assert_eq!(run.requests(), u128::from(seq), "memory goes on counting");
    for _ in 0..5 {
        seq += 1;
        assert_eq!(run.serve(seq), Kept::InMemory);
    }
    run.file().allow_no_growth(false);
    seq += 1;
    assert_eq!(run.serve(seq), Kept::OnDisk);
    assert!(matches!(run.place(), Place::Disk(_)));
    drop(run);
    let run = Run::start(options(folder.path()));
    let all = u128::from(seq);
    assert_eq!((run.requests(), run.latency(), run.seq()), (all, (seq, all * 5), seq));
    let ticks: i64 =
        run.file().connection().query_row("SELECT count(*) FROM ticks", [], |row| row.get(0)).expect("a number");
    assert_eq!(ticks.cast_unsigned(), seq, "the ticks that waited are there too");
}

#[test]
fn what_only_memory_knew_is_not_claimed_after_a_kill() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut run = Run::start(options(folder.path()));
    run.serve(1);
    run.file().allow_no_growth(true);
    let (mut seq, mut durable) = (1, 1);
    loop {
        seq += 1;
        match run.serve(seq) {
            Kept::OnDisk => durable = seq,
            Kept::InMemory => break,
        }
    }
    drop(run);
    let run = Run::start(options(folder.path()));
    assert_eq!((run.requests(), run.seq()), (u128::from(durable), durable));
}

#[test]
fn a_measured_counter_goes_on_after_a_kill() {
    let folder = tempfile::tempdir().expect("a folder");
    // What has no fraction comes back as an integer from a column of integers.
    for (values, expected) in [([0.25, 1.5], 1.5), ([0.5, 2.0], 3.5), ([3.0, 3.25], 6.75)] {
        let mut run = Run::start(options(folder.path()));
        for value in values {
            let tick = Tick { values: vec![(run.requests, Number::Float(value))], ..Tick::default() };
            let kept = run.journal.commit(
                &Commit { tick: &tick, table: &run.table, sessions: &[], ledgers: &[], findings: &[], judged: true },
                &mut NoShipper,
            );
            assert_eq!(kept, Kept::OnDisk);
        }
        drop(run);
        let run = Run::start(options(folder.path()));
        let all = run.journal.reader().query(Some(server::REQUESTS_STARTED.name), None);
        assert_eq!(all[0].amount, Amount::Measured(expected));
    }
}

#[test]
fn names_without_end_and_wide_distributions_never_fill_the_journal_for_good() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut run = Run::start(options(folder.path()));
    let (mut refused, mut at) = (0, 0_u64);
    for seq in 1..=40_u64 {
        let mut histograms = Vec::new();
        for _ in 0..25 {
            at += 1;
            let entity = run.table.entity(Entity::new(EntityKind::Server, format!("flood/{at}")));
            let series = run.table.series(&server::REQUEST_DURATION, entity, &[]);
            // Counts of nine bytes: as large on disk as they get.
            let count = |bucket: u16| (1 << 62) + (at << 20) + u64::from(bucket) * 77;
            let buckets = (0..layout::BUCKETS as u16).map(|bucket| (bucket, count(bucket))).collect();
            histograms.push((series, Histogram::Hdr(SparseHdr::from_buckets(buckets, 1).expect("valid"))));
        }
        let mut tick = Tick { histograms, values: vec![(run.requests, Number::Int(seq))], ..Tick::default() };
        tick.seal();
        let kept = run.journal.commit(
            &Commit { tick: &tick, table: &run.table, sessions: &[], ledgers: &[], findings: &[], judged: true },
            &mut NoShipper,
        );
        refused += u32::from(kept == Kept::InMemory);
    }
    assert_eq!(refused, 0, "{:?}", run.place());
    let status = run.journal.reader().status();
    assert!(status.series_forgotten > 800, "what has no room is counted: {status:?}");
    assert!(status.bytes < MIN_CAP, "{status:?}");
    assert_eq!(run.requests(), 40, "who is heard stays");
}

/// Damage of a journal with a few hundred ticks, done by `spoil` to its bytes.
fn damaged(spoil: impl FnOnce(&mut Vec<u8>)) -> (tempfile::TempDir, Run) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut run = Run::start(options(folder.path()));
    (1..=300).for_each(|seq| _ = run.serve(seq));
    drop(run); // The last connection folds the log into the database.
    let path = options(folder.path()).path;
    let mut bytes = std::fs::read(&path).expect("readable");
    spoil(&mut bytes);
    std::fs::write(&path, bytes).expect("writable");
    let run = Run::start(options(folder.path()));
    (folder, run)
}

#[test]
fn a_file_of_noise_is_set_aside() {
    let (folder, mut run) = damaged(|bytes| bytes.fill(0xa5));
    assert_eq!(run.serve(1), Kept::OnDisk);
    assert_eq!(run.requests(), 1, "it begins anew");
    assert!(
        beside(folder.path()).contains(&"journal.db.corrupt-1700000000-1".to_owned()),
        "{:?}",
        beside(folder.path())
    );
}

#[test]
fn a_journal_cut_anywhere_opens_or_is_set_aside_and_is_written_again() {
    for share in [0.01, 0.2, 0.5, 0.8, 0.99] {
        let (folder, mut run) = damaged(|bytes| bytes.truncate((bytes.len() as f64 * share) as usize));
        let kept: Vec<_> = (301..400).map(|seq| run.serve(seq)).collect();
        assert!(kept.iter().all(|kept| *kept == Kept::OnDisk), "{share}: {kept:?} {:?}", beside(folder.path()));
    }
}

#[test]
fn a_journal_with_a_flipped_bit_opens_or_is_set_aside_and_is_written_again() {
    for place in 0..40 {
        let (folder, mut run) = damaged(|bytes| {
            // The first hundred bytes are the header; the rest is spread over every kind of page.
            let at = if place < 20 { place * 5 } else { bytes.len() / 20 * (place - 20) + 17 * place };
            bytes[at] ^= 1 << (place % 8);
        });
        let refused = matches!(run.place(), Place::Refused { .. });
        let kept = (301..420).map(|seq| run.serve(seq)).last();
        assert!(kept == Some(Kept::OnDisk) || refused, "{place}: {:?} {:?}", run.place(), beside(folder.path()));
        assert!(!refused || place < 20, "{place}: {:?}", run.place());
    }
}

#[test]
fn damage_that_shows_while_the_agent_runs_costs_the_history_and_not_the_totals() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut run = Run::start(options(folder.path()));
    (1..=3).for_each(|seq| _ = run.serve(seq));
    run.file().connection().execute_batch("DROP TABLE ticks").expect("ours to drop");
    assert_eq!(run.serve(4), Kept::OnDisk);
    assert!(beside(folder.path()).iter().any(|name| name.starts_with("journal.db.corrupt-")));
    drop(run);
    let run = Run::start(options(folder.path()));
    assert_eq!((run.requests(), run.latency(), run.seq()), (4, (4, 20), 4));
}

#[test]
fn a_journal_of_a_newer_agent_is_set_aside_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    drop(Run::start(options(folder.path())));
    let path = options(folder.path()).path;
    Connection::open(&path).expect("opens").pragma_update(None, "user_version", 99).expect("written");
    let mut run = Run::start(options(folder.path()));
    assert_eq!(run.serve(1), Kept::OnDisk);
    let aside = folder.path().join("state/journal.db.newer-1700000000-1");
    let version: i64 = Connection::open(aside)
        .and_then(|old| old.query_row("PRAGMA user_version", [], |row| row.get(0)))
        .expect("the old one is whole");
    assert_eq!(version, 99);
}

#[test]
fn the_database_of_another_program_is_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = options(folder.path()).path;
    std::fs::create_dir(folder.path().join("state")).expect("a folder");
    Connection::open(&path).and_then(|other| other.execute_batch("CREATE TABLE bookmarks (url)")).expect("made");
    let mut run = Run::start(options(folder.path()));
    assert_eq!(run.serve(1), Kept::InMemory);
    let words = run.place().to_string();
    assert_eq!(words, format!("memory ({}: it is the database of another program)", path.display()));
}

#[test]
fn a_file_that_is_no_database_is_left_as_it_is_and_a_header_of_zeros_is_not_taken_for_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = options(folder.path()).path;
    std::fs::create_dir(folder.path().join("state")).expect("a folder");
    std::fs::write(&path, "my notes").expect("written");
    let mut run = Run::start(options(folder.path()));
    assert_eq!(run.serve(1), Kept::InMemory);
    assert!(run.place().to_string().ends_with("it is a file of something else)"), "{}", run.place());
    assert_eq!(beside(folder.path()), ["journal.db"], "and nothing was written");
    assert_eq!(std::fs::read(&path).expect("there"), b"my notes");
    std::fs::write(&path, vec![0; 9_000]).expect("written");
    assert_eq!(Run::start(options(folder.path())).serve(1), Kept::OnDisk);
}

#[test]
fn two_agents_do_not_write_one_journal() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = Run::start(options(folder.path()));
    let mut second = Run::start(options(folder.path()));
    assert_eq!(second.serve(1), Kept::InMemory);
    assert!(second.place().to_string().ends_with("another agent writes this journal)"), "{}", second.place());
    drop(first);
    assert_eq!(Run::start(options(folder.path())).serve(1), Kept::OnDisk);
}

#[test]
fn a_place_where_nothing_can_be_made_means_memory_and_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("state"), "a file where the folder should be").expect("writable");
    let mut run = Run::start(options(folder.path()));
    assert_eq!(run.serve(1), Kept::InMemory);
    assert!(matches!(run.place(), Place::Refused { .. }), "{:?}", run.place());
    assert_eq!((run.requests(), run.latency()), (1, (1, 5)));
}

#[test]
fn the_oldest_ticks_go_before_the_cap_is_reached_and_totals_stay() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut run = Run::start(options(folder.path()));
    // Ticks that do not compress: 32 KiB of noise in each, more than the cap in all.
    let mut noise = Noise::of(&mut run, 4_000);
    for seq in 1..=600 {
        run.count += 1;
        let mut values = noise.values();
        values.push((run.requests, Number::Int(run.count)));
        let tick = Tick { values, dt_ns: SECOND, ..Tick::default() };
        let sessions = [Progress { session: [7; SESSION_BYTES], seq }];
        let kept = run.journal.commit(
            &Commit { tick: &tick, table: &run.table, sessions: &sessions, ledgers: &[], findings: &[], judged: true },
            &mut NoShipper,
        );
        assert_eq!(kept, Kept::OnDisk, "tick {seq}: {:?}", run.place());
    }
    let size: u64 = std::fs::read_dir(folder.path().join("state"))
        .expect("the folder")
        .map(|entry| entry.expect("an entry").metadata().expect("there").len())
        .sum();
    assert!(size <= MIN_CAP, "{size} bytes");
    assert_eq!((run.requests(), run.seq()), (600, 600));
}

#[test]
fn what_waited_through_an_outage_makes_its_own_room_under_the_cap() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut run = Run::start(options(folder.path()));
    let mut noise = Noise::of(&mut run, 1_000);
    let mut keep = |run: &mut Run, seq: u64| {
        run.count += 1;
        let mut values = noise.values();
        values.push((run.requests, Number::Int(run.count)));
        let tick = Tick { values, dt_ns: SECOND, ..Tick::default() };
        let sessions = [Progress { session: [7; SESSION_BYTES], seq }];
        run.journal.commit(
            &Commit { tick: &tick, table: &run.table, sessions: &sessions, ledgers: &[], findings: &[], judged: true },
            &mut NoShipper,
        )
    };
    // Until the oldest have to go, so that the journal is as full as its cap allows.
    let mut seq = 0;
    while oldest(&run).is_none_or(|oldest| oldest == 0) {
        seq += 1;
        assert_eq!(keep(&mut run, seq), Kept::OnDisk);
        assert!(seq < 10_000, "the cap is never met");
    }
    run.file().allow_no_growth(true);
    for _ in 0..300 {
        seq += 1;
        keep(&mut run, seq);
    }
    run.file().allow_no_growth(false);
    seq += 1;
    assert_eq!(keep(&mut run, seq), Kept::OnDisk, "{:?}", run.place());
    assert_eq!((run.requests(), run.seq()), (u128::from(seq), seq));
}

fn oldest(run: &Run) -> Option<i64> {
    run.file().connection().query_row("SELECT min(seq) FROM ticks", [], |row| row.get(0)).expect("one row")
}

#[test]
fn a_journal_can_be_read_without_writing_and_is_opened_later_if_nobody_else_wrote_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = options(folder.path());
    let mut run = Run::start(options.clone());
    (1..=7).for_each(|seq| _ = run.serve(seq));
    drop(run);
    let peeked = File::peek(&JournalOptions { boot: "second".to_owned(), ..options.clone() });
    let loaded = peeked.expect("it can be read").expect("it is there");
    assert_eq!((loaded.next_seq, loaded.sessions.by_age().map(|known| known.seq).max()), (7, Some(7)));
    assert_eq!(beside(folder.path()), ["journal.db", "journal.db.lock"], "and nothing was written");
    assert!(matches!(File::reopen(&options, 6), Err(Failure::Damaged(_))), "somebody else wrote into it");
    assert!(File::reopen(&options, 7).is_ok());
}

#[test]
fn a_path_becomes_an_address_whatever_is_in_it() {
    assert_eq!(place::escaped(Path::new("/var/lib/a b?c%/j.db")), "/var/lib/a%20b%3Fc%25/j.db");
}
