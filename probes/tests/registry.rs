//! The list of host probes is whole, and each probe emits what it declares and nothing else.

use std::collections::BTreeSet;
use std::path::Path;

use perfwatch_model::{Entity, EntityKind, Sample, SeriesTable, Stamp, Tick};
use perfwatch_probes::{ProbeContext, ProbeKind, host};

#[test]
fn every_file_in_the_folder_is_a_listed_probe() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/host");
    let files: BTreeSet<String> = std::fs::read_dir(folder)
        .expect("the sources are here")
        .map(|entry| entry.expect("readable").file_name().into_string().expect("UTF-8"))
        .filter(|name| name != "mod.rs")
        .map(|name| name.trim_end_matches(".rs").to_owned())
        .collect();
    let listed: BTreeSet<String> = host::PROBES.iter().map(|kind| kind.name().to_owned()).collect();
    assert_eq!(files, listed, "add the probe to PROBES in probes/src/host/mod.rs, under the name of its file");
    assert_eq!(listed.len(), host::PROBES.len(), "two probes share a name");
}

/// Names of the metrics that a probe filled or called unavailable, sampled until it has named all it declares. The clock
/// of `/proc/stat` moves a hundred times a second; a recorded one does not move at all.
fn emitted(kind: &dyn ProbeKind, context: &ProbeContext, table: &mut SeriesTable, pid: u32) -> BTreeSet<&'static str> {
    let Ok(mut probe) = kind.open(context, table) else { return BTreeSet::new() };
    let server = table.entity(Entity::new(EntityKind::Server, "served"));
    probe.watch(&[(server, vec![pid])]);
    let mut names = BTreeSet::new();
    for second in 1..=if context.pids_are_ours() { 500 } else { 3 } {
        let mut tick = Tick::default();
        let now = Stamp { mono_ns: second * 1_000_000_000, wall_ns: 0 };
        probe.sample(now, &mut Sample::new(table, &mut tick));
        names.extend(tick.values.iter().map(|(id, _)| table.series_of(*id).expect("living").metric.name));
        names.extend(tick.absent.iter().map(|absence| absence.metric));
        if names.len() >= kind.metrics().len() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    names
}

#[test]
fn a_probe_emits_every_metric_it_declares_and_no_other() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    for kind in host::PROBES {
        let declared: BTreeSet<&str> = kind.metrics().iter().map(|metric| metric.name).collect();
        let mut seen = BTreeSet::new();
        for (tree, pid) in
            [("live", std::process::id()), ("v2-pod", 4021), ("v1-docker", 31), ("two-nodes", 0), ("linux-3.10", 0)]
        {
            let mut table = SeriesTable::new();
            let host = table.entity(Entity::new(EntityKind::Host, "here"));
            let mut context = ProbeContext::live(host);
            if tree != "live" {
                context.proc = fixtures.join(tree).join("proc");
                context.cgroup = fixtures.join(tree).join("cgroup");
                context.sys = fixtures.join(tree).join("sys");
            }
            let emitted = emitted(*kind, &context, &mut table, pid);
            assert!(emitted.is_subset(&declared), "{} on {tree}: {emitted:?}", kind.name());
            seen.extend(emitted);
        }
        assert_eq!(seen, declared, "{}", kind.name());
    }
}

#[test]
fn a_probe_that_cannot_be_opened_says_why_and_what_would_help() {
    let empty = tempfile::tempdir().expect("a temporary folder");
    let mut table = SeriesTable::new();
    let host = table.entity(Entity::new(EntityKind::Host, "here"));
    let at = |name| empty.path().join(name);
    let context = ProbeContext { proc: at("proc"), cgroup: at("cgroup"), sys: at("sys"), host };
    let (open, closed) = host::open_all(&context, &mut table);
    assert!(open.is_empty());
    assert_eq!(closed.len(), host::PROBES.len());
    for (name, reason) in closed {
        assert!(!reason.text.is_empty() && !reason.cure.is_empty(), "{name}: {reason:?}");
        assert!(
            !reason.text.ends_with('.') && reason.text.starts_with(|c: char| !c.is_uppercase()),
            "{name}: {reason:?}"
        );
    }
}
