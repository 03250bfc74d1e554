//! Recorded machines that tests let move on.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::fs;
use std::path::{Path, PathBuf};

use perfwatch_model::{Attr, Entity, EntityId, EntityKind, MetricDef, Number, Sample, SeriesTable, Stamp, Tick};
use perfwatch_probes::{Probe, ProbeContext, host};

/// A recorded machine in a temporary folder, with one probe open on it.
pub(crate) struct Machine {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) table: SeriesTable,
    pub(crate) probe: Box<dyn Probe>,
    pub(crate) tick: Tick,
    second: u64,
}

impl Machine {
    pub(crate) fn start(tree: &str, probe: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(tree), folder.path());
        let mut table = SeriesTable::new();
        let host = table.entity(Entity::new(EntityKind::Host, "here"));
        let context = ProbeContext {
            proc: folder.path().join("proc"),
            cgroup: folder.path().join("cgroup"),
            sys: folder.path().join("sys"),
            host,
        };
        let kind = host::PROBES.iter().find(|kind| kind.name() == probe).expect("listed");
        let probe = kind.open(&context, &mut table).expect("the tree has what it needs");
        Self { folder, table, probe, tick: Tick::default(), second: 0 }
    }

    pub(crate) fn serve(&mut self, pid: u32) -> EntityId {
        let server = self.table.entity(Entity::new(EntityKind::Server, format!("served-{pid}")));
        self.probe.watch(&[(server, vec![pid])]);
        server
    }

    /// Nobody is watched any more.
    pub(crate) fn leave(&mut self) {
        self.probe.watch(&[]);
    }

    /// A folder is removed and made anew with the same files: whoever holds the old ones reads what they were.
    pub(crate) fn make_anew(&self, folder: &str) {
        let path = self.folder.path().join(folder);
        let old = self.folder.path().join("gone");
        fs::rename(&path, &old).expect("writable");
        copy(&old, &path);
        fs::remove_dir_all(old).expect("writable");
    }

    /// A process like another one.
    pub(crate) fn fork(&self, from: u32, to: u32) {
        copy(&self.folder.path().join(format!("proc/{from}")), &self.folder.path().join(format!("proc/{to}")));
    }

    pub(crate) fn write(&self, file: &str, text: &str) {
        let path = self.folder.path().join(file);
        fs::create_dir_all(path.parent().expect("below the folder")).expect("writable");
        fs::write(path, text).expect("writable");
    }

    pub(crate) fn sample(&mut self) {
        self.second += 1;
        self.tick.clear();
        let now = Stamp { mono_ns: self.second * 1_000_000_000, wall_ns: 0 };
        self.probe.sample(now, &mut Sample::new(&mut self.table, &mut self.tick));
        self.tick.seal();
    }

    pub(crate) fn value(&self, metric: &'static MetricDef, entity: EntityId, attrs: &[Attr]) -> Option<Number> {
        self.tick.value(self.table.find(metric, entity, attrs)?)
    }

    pub(crate) fn int(&self, metric: &'static MetricDef, entity: EntityId) -> u64 {
        self.value(metric, entity, &[])
            .and_then(Number::as_int)
            .unwrap_or_else(|| panic!("{} has a value", metric.name))
    }

    pub(crate) fn reason(&self, metric: &MetricDef, entity: EntityId) -> Option<&str> {
        let absence =
            self.tick.absent.iter().find(|absence| absence.metric == metric.name && absence.entity == entity)?;
        Some(&absence.reason.text)
    }

    pub(crate) fn cgroup(&self, name: &str) -> EntityId {
        self.table.find_entity(EntityKind::Cgroup, name).unwrap_or_else(|| panic!("{name} is measured"))
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("writable");
    for entry in fs::read_dir(from).expect("the fixture is here") {
        let path: PathBuf = entry.expect("readable").path();
        let target = to.join(path.file_name().expect("has a name"));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).expect("writable");
        }
    }
}
