//! Whatever bytes of a journal or its log are others than were written: it opens or is set aside, is written again and
//! read, and nothing panics.
//!
//! The input is changes, six bytes each: where (of both files, one behind the other) and to what. Bytes at random would
//! hardly ever pass for a database.

#![no_main]

use std::path::Path;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use perfwatch_model::metrics::{host, server};
use perfwatch_model::{Entity, EntityKind, Histogram, Number, SeriesTable, SparseHdr, Stamp, Tick};
use perfwatch_store::{
    Archive, Commit, DEFAULT_KEEP_MINUTES_S, DEFAULT_KEEP_S, Journal, JournalOptions, NoShipper, Progress,
    SESSION_BYTES,
};

const SECOND: u64 = 1_000_000_000;
/// How long the journal is; three seconds later minutes are made of it.
const LENGTH: u64 = 178;

fn open(path: &Path) -> Journal {
    Journal::open(JournalOptions {
        path: path.to_path_buf(),
        cap_bytes: 64_000_000,
        keep_s: DEFAULT_KEEP_S,
        keep_minutes_s: DEFAULT_KEEP_MINUTES_S,
        boot: String::new(),
        now_wall_ns: SECOND,
    })
}

/// Keeps some more seconds.
fn keep(journal: &mut Journal, seconds: std::ops::Range<u64>) {
    let mut table = SeriesTable::new();
    let here = table.entity(Entity::new(EntityKind::Host, "here"));
    let shop = table.entity(Entity::new(EntityKind::Server, "shop/1").with("service.name", "shop"));
    let (cpu, requests) = (table.series(&host::CPU_TIME, here, &[]), table.series(&server::REQUESTS_STARTED, shop, &[]));
    let latency = table.series(&server::REQUEST_DURATION, shop, &[]);
    for second in seconds {
        let mut gained = SparseHdr::new();
        gained.record(second * 1_000);
        let mut tick = Tick {
            end: Stamp { mono_ns: second * SECOND, wall_ns: second * SECOND },
            dt_ns: SECOND,
            values: vec![(cpu, Number::Int(second * SECOND)), (requests, Number::Int(second))],
            histograms: vec![(latency, Histogram::Hdr(gained))],
            ..Tick::default()
        };
        tick.seal();
        let sessions = [Progress { session: [7; SESSION_BYTES], seq: second }];
        let commit =
            Commit { tick: &tick, table: &table, sessions: &sessions, ledgers: &[], findings: &[], judged: true };
        journal.commit(&commit, &mut NoShipper);
    }
}

/// A journal and its log as a kill leaves them.
fn left() -> &'static [Vec<u8>; 2] {
    static LEFT: OnceLock<[Vec<u8>; 2]> = OnceLock::new();
    LEFT.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal.db");
        {
            let mut journal = open(&path);
            keep(&mut journal, 1..LENGTH - 10);
        }
        let mut journal = open(&path);
        keep(&mut journal, LENGTH - 10..LENGTH + 1);
        ["", "-wal"].map(|suffix| std::fs::read(format!("{}{suffix}", path.display())).expect("it is there"))
    })
}

fn read(path: &Path) {
    let Ok(archive) = Archive::open(path) else { return };
    let _ = archive.span();
    let _ = archive.seek(100 * SECOND);
    let _ = archive.ticks(0, usize::MAX);
    let _ = archive.ledgers(0, u64::MAX >> 1);
    let _ = archive.findings(0, u64::MAX >> 1);
    let _ = archive.each_minute((0, u64::MAX), u64::MAX, |_| ());
    let _ = archive.table();
}

fuzz_target!(|changes: &[u8]| {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("journal.db");
    let [mut journal, mut log] = left().clone();
    for change in changes.as_chunks::<6>().0 {
        let [a, b, c, d, to, _] = *change;
        let at = u32::from_le_bytes([a, b, c, d]) as usize % (journal.len() + log.len());
        match journal.len() {
            len if at < len => journal[at] = to,
            len => log[at - len] = to,
        }
    }
    std::fs::write(&path, journal).expect("written");
    std::fs::write(folder.path().join("journal.db-wal"), log).expect("written");
    read(&path);
    keep(&mut open(&path), LENGTH + 1..LENGTH + 5);
    read(&path);
});
