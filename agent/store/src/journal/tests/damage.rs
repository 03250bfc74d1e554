//! Files that are cut, flipped, left with half a log or removed: opened or set aside, written again, and never a panic.

use std::path::PathBuf;

use proptest::prelude::*;

use super::*;
use crate::Archive;
use crate::journal::file::PAGE;

/// Bytes of a journal, and of its log, as a kill left them.
struct Left {
    journal: Vec<u8>,
    log: Vec<u8>,
}

/// What a killed agent leaves: most is in the database, the last seconds are in the log alone.
fn left() -> Left {
    let folder = tempfile::tempdir().expect("a folder");
    let mut run = Run::start(options(folder.path()));
    (1..=130).for_each(|seq| _ = run.serve(seq));
    run.file().connection().execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").expect("done");
    (131..=140).for_each(|seq| _ = run.serve(seq));
    let path = options(folder.path()).path;
    let read = |suffix: &str| {
        let mut name = path.clone().into_os_string();
        name.push(suffix);
        std::fs::read(name).expect("readable")
    };
    Left { journal: read(""), log: read("-wal") }
}

/// Puts the files there and does everything that can be done with them.
fn survive(journal: &[u8], log: &[u8]) -> Result<(), String> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = options(folder.path()).path;
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    std::fs::write(&path, journal).expect("written");
    let mut name = path.clone().into_os_string();
    name.push("-wal");
    if !log.is_empty() {
        std::fs::write(PathBuf::from(name), log).expect("written");
    }
    read_all(&path);
    let mut run = Run::start(options(folder.path()));
    let mut kept = Kept::InMemory;
    // Two minutes, so that minutes are made and old ones are looked at.
    (1..=125).for_each(|seq| kept = run.serve(seq));
    let refused = matches!(run.place(), Place::Refused { .. });
    drop(run);
    read_all(&path);
    match kept {
        Kept::OnDisk => Ok(()),
        // A header that says that it is another program's: that one is left alone.
        Kept::InMemory if refused => Ok(()),
        Kept::InMemory => Err(format!("not written again: {:?}", beside(folder.path()))),
    }
}

fn read_all(path: &Path) {
    let Ok(archive) = Archive::open(path) else { return };
    let _ = archive.span();
    let _ = archive.seek(1_700_000_050 * SECOND);
    let _ = archive.ticks(0, usize::MAX);
    let _ = archive.ledgers(0, u64::MAX >> 1);
    let _ = archive.findings(0, u64::MAX >> 1);
    let _ = archive.each_minute((0, u64::MAX), u64::MAX, |_| ());
    let _ = archive.table();
    let mut copy = path.as_os_str().to_owned();
    copy.push(".copy");
    let _ = archive.copy(0, 50, PathBuf::from(copy));
}

#[test]
fn a_journal_cut_at_any_page_opens_or_is_set_aside_and_is_written_again() {
    let left = left();
    let pages = left.journal.len() as u64 / PAGE;
    assert!(pages > 15, "{pages}");
    for page in 0..pages {
        let cut = &left.journal[..(page * PAGE) as usize];
        for log in [left.log.as_slice(), &[]] {
            survive(cut, log)
                .unwrap_or_else(|said| panic!("{page} of {pages} pages, {} bytes of log: {said}", log.len()));
        }
    }
}

#[test]
fn a_log_cut_at_any_frame_costs_the_seconds_in_it_and_no_more() {
    let left = left();
    let frame = PAGE as usize + 24;
    let frames = (left.log.len() - 32) / frame;
    assert!(frames > 10, "{frames}");
    for at in 0..=frames {
        for more in [0, 17] {
            let cut = (32 + at * frame + more).min(left.log.len());
            survive(&left.journal, &left.log[..cut]).unwrap_or_else(|said| panic!("{at} of {frames} frames: {said}"));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_journal_with_flipped_bits_opens_or_is_set_aside(flips in prop::collection::vec((any::<u32>(), 0u8..8), 1..4)) {
        static LEFT: std::sync::LazyLock<Left> = std::sync::LazyLock::new(left);
        let mut journal = LEFT.journal.clone();
        for (at, bit) in &flips {
            let at = *at as usize % journal.len();
            journal[at] ^= 1 << bit;
        }
        prop_assert_eq!(survive(&journal, &LEFT.log), Ok(()));
    }
}

#[test]
fn a_journal_that_is_removed_under_the_agent_costs_the_history_and_not_the_totals() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut run = Run::start(options(folder.path()));
    (1..=3).for_each(|seq| _ = run.serve(seq));
    std::fs::remove_file(options(folder.path()).path).expect("removed");
    (4..=3 + RETRY_EVERY).for_each(|seq| assert_eq!(run.serve(seq), Kept::OnDisk));
    assert!(options(folder.path()).path.exists(), "it is made anew");
    let last = 4 + RETRY_EVERY;
    run.serve(last);
    drop(run);
    let run = Run::start(options(folder.path()));
    assert_eq!((run.requests(), run.seq()), (last.into(), last));
}
