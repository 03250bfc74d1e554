//! `kill -9` at the places that an agent passes only now and then: taking over an older journal, and making a minute.

use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use perfwatch_store::failpoint::{POINTS, Point};
use perfwatch_tests::wait_for;
use rusqlite::Connection;

use super::mortal::Mortal;
use super::recorder::Load;

/// Minutes are made at ticks whose number this divides.
const EVERY: i64 = 60;

/// Makes a journal what version 1 would have left some minutes ago: the ticks, totals and sessions, and nothing beside them.
/// All but the newest tick are from minutes that are over, and the one that follows is one at which minutes are made.
fn as_version_1(journal: &Path) {
    let old = Connection::open(journal).expect("opens");
    let added = "'entities', 'lines', 'ledger', 'findings', 'ticks_1m', 'ledger_1m', 'cursors', 'accumulators', 'outbox', \
                 'dead_letter', 'ledgers', 'ticks_by_time'";
    let drops = format!("SELECT 'DROP ' || type || ' ' || name FROM sqlite_schema WHERE name IN ({added})");
    let drops: Vec<String> = {
        let mut drops = old.prepare(&drops).expect("a query");
        let drops = drops.query_map([], |row| row.get(0)).expect("rows");
        drops.collect::<Result<_, _>>().expect("texts")
    };
    assert_eq!(drops.len(), 12, "{drops:?}");
    for drop in drops {
        old.execute_batch(&drop).expect("dropped");
    }
    old.execute_batch("ALTER TABLE series DROP COLUMN integers").expect("dropped");
    let back = "UPDATE ticks SET wall_ns = wall_ns - 180000000000 WHERE seq < (SELECT max(seq) FROM ticks)";
    old.execute_batch(back).expect("moved");
    old.execute_batch("UPDATE ticks SET seq = seq - 1000000").expect("moved");
    let newest = 10 * EVERY - 1;
    let on = format!("UPDATE ticks SET seq = seq + (SELECT {newest} - max(seq) FROM ticks)");
    old.execute_batch(&on).expect("moved");
    old.pragma_update(None, "user_version", 1).expect("written");
}

fn number(journal: &Path, query: &str) -> i64 {
    Connection::open(journal).and_then(|file| file.query_row(query, [], |row| row.get(0))).expect(query)
}

#[test]
fn kill_9_while_an_older_journal_is_taken_over_and_while_minutes_are_made_of_it_loses_nothing() {
    let mut agent = Mortal::new();
    let server = agent.server("mortal");
    agent.start();
    agent.ready();
    let load = Load::on(&server, 1..3);
    sleep(Duration::from_secs(3));
    let recorded = load.stop();
    wait_for("the last receipt", || server.flush_now().then_some(()));
    server.close();
    agent.kill();
    let journal = agent.state.join("perfwatch/journal.db");
    let ticks = number(&journal, "SELECT count(*) FROM ticks");
    as_version_1(&journal);

    for point in [Point::Migrated, Point::MinuteWritten].into_iter().filter(|_| cfg!(debug_assertions)) {
        assert!(point.is_rare());
        let name = POINTS.iter().find_map(|(known, name)| (*known == point).then_some(*name)).expect("it has a name");
        agent.start_to_die_at(name, 1);
        agent.killed_itself(&format!("the failpoint {name}"));
    }
    agent.start();
    agent.ready();
    agent.assert_exact("mortal", &recorded);
    let in_minutes = || number(&journal, "SELECT coalesce(sum(ticks), 0) FROM ticks_1m");
    wait_for("the old minutes", || (in_minutes() >= ticks - 1).then_some(()));
    // Read in one go: the agent writes meanwhile.
    let apart = "SELECT sum(ticks) - (SELECT count(*) FROM ticks WHERE seq <= (SELECT max(last_seq) FROM ticks_1m)) FROM ticks_1m";
    assert_eq!(number(&journal, apart), 0, "no tick is in two minutes, and none is left out");
    assert_eq!(number(&journal, "PRAGMA user_version"), 2);
    agent.kill();
    agent.start();
    agent.ready();
    let told = wait_for("a snapshot", || agent.json("/v1/snapshot"))["agent"].clone();
    assert!(told["seconds_since"].is_string() && told["minutes_since"].is_string(), "{told}");
}
