//! The dictionary of an archive as a [`SeriesTable`].

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use perfwatch_model::{Attr, AttrValue, Entity, EntityId, EntityKind, SeriesId, SeriesTable, Stamp, Tick, metrics};
use rusqlite::Connection;
use serde_json::{Map, Value};

use crate::codec::StoredTick;
use crate::totals::JournalId;

/// Names of attributes that a process keeps for good at most; a file that has more loses the attribute.
const MAX_NAMES: usize = 4_096;
/// Bytes of such a name.
const MAX_NAME: usize = 256;

/// What comes and goes with an agent's knowledge of it, so that it must be told who lives.
const PASSING: [EntityKind; 2] = [EntityKind::Server, EntityKind::Gpu];

/// What the numbers and names in an archive stand for.
#[derive(Debug, Default)]
pub(super) struct Dictionary {
    table: SeriesTable,
    /// A copy of the table to give away, as of its generation.
    given: Option<Arc<SeriesTable>>,
    /// `None` for a metric or an entity that this version does not know.
    series: HashMap<JournalId, Option<SeriesId>>,
    /// Above all that were read.
    next: JournalId,
    /// Series that were not met in a tick yet are passed over: for a replay, in which what comes later must not be known.
    as_met: bool,
    /// Above all that were met in ticks.
    met: JournalId,
    /// The servers and devices that live, as `kind:id`; `None` when that was not told: all that were ever met.
    living: Option<HashSet<String>>,
}

impl Dictionary {
    /// Reads what is new.
    pub(super) fn read(&mut self, connection: &Connection, version: i32) -> rusqlite::Result<()> {
        if version >= 2 {
            let mut known = connection.prepare_cached("SELECT id, attributes FROM entities")?;
            let mut rows = known.query([])?;
            while let Some(row) = rows.next()? {
                let (id, attributes): (String, String) = (row.get(0)?, row.get(1)?);
                if !self.is_gone(&id) {
                    self.entity(&id, attributes_of(&attributes, &[]));
                }
            }
        }
        let integers = if version >= 2 { "integers" } else { "'[\"cpu.logical_number\"]'" };
        let query = format!("SELECT id, metric, entity, attributes, {integers} FROM series ORDER BY id");
        let mut known = connection.prepare_cached(&query)?;
        let mut rows = known.query([])?;
        while let Some(row) = rows.next()? {
            let id: JournalId = row.get(0)?;
            if self.as_met && id >= self.met {
                // They are numbered as they come.
                break;
            }
            if self.series.contains_key(&id) {
                continue;
            }
            let (metric, entity): (String, String) = (row.get(1)?, row.get(2)?);
            if self.is_gone(&entity) {
                continue;
            }
            let (attributes, integers): (String, String) = (row.get(3)?, row.get(4)?);
            let integers: Vec<String> = serde_json::from_str(&integers).unwrap_or_default();
            let series = metrics::find(&metric).zip(self.entity(&entity, Vec::new()));
            let series = series
                .map(|(metric, entity)| self.table.series(metric, entity, &attributes_of(&attributes, &integers)));
            self.series.insert(id, series);
            self.next = self.next.max(id.saturating_add(1));
        }
        Ok(())
    }

    fn entity(&mut self, id: &str, attributes: Vec<Attr>) -> Option<EntityId> {
        let (kind, id) = id.split_once(':')?;
        let kind = EntityKind::ALL.into_iter().find(|known| known.name() == kind)?;
        Some(self.table.entity(Entity { kind, id: id.to_owned(), attributes }))
    }

    /// Whether this is a server or a device that was told not to live.
    fn is_gone(&self, entity: &str) -> bool {
        let passes = entity.split_once(':').is_some_and(|(kind, _)| PASSING.iter().any(|one| one.name() == kind));
        passes && self.living.as_ref().is_some_and(|living| !living.contains(entity))
    }

    /// Begins a new table in which these live, in this order; everything else is to be read anew, as it is met.
    pub(super) fn begin_anew(&mut self, living: Option<&[&str]>) {
        *self = Self { as_met: true, ..Self::default() };
        if let Some(living) = living {
            self.living(living);
        }
    }

    /// Tells which servers and devices live, in the order in which they came: the others retire, and series of those that
    /// came back are to be read anew.
    pub(super) fn living(&mut self, living: &[&str]) {
        let gone = |entity: &Entity| PASSING.contains(&entity.kind) && !living.contains(&entity.to_string().as_str());
        let gone: Vec<_> = self.table.entities().filter(|(_, entity)| gone(entity)).map(|(at, _)| at).collect();
        if !gone.is_empty() {
            for entity in gone {
                self.table.retire(entity);
            }
            let table = &self.table;
            self.series.retain(|_, series| series.is_none_or(|series| table.series_of(series).is_some()));
        }
        if living.iter().any(|name| self.is_gone(name)) {
            // What is about one that came back was passed over.
            self.next = 0;
        }
        for name in living {
            self.entity(name, Vec::new());
        }
        self.living = Some(living.iter().map(|name| (*name).to_owned()).collect());
    }

    /// Takes in which series a tick names; false when one was not read yet.
    pub(super) fn meet(&mut self, stored: &StoredTick) -> bool {
        let ids = || stored.values.iter().map(|(id, _)| *id).chain(stored.histograms.iter().map(|(id, _)| *id));
        self.met = ids().map(|id| id.saturating_add(1)).fold(self.met, JournalId::max);
        self.knows_all(ids())
    }

    /// False when one of these was not read yet. One that the journal forgot never will be.
    pub(super) fn knows_all(&self, mut ids: impl Iterator<Item = JournalId>) -> bool {
        ids.all(|id| self.series.contains_key(&id) || id < self.next)
    }

    /// By our handles, without what cannot be named.
    pub(super) fn named<T>(&self, by_number: impl IntoIterator<Item = (JournalId, T)>) -> Vec<(SeriesId, T)> {
        let mut named: Vec<_> = by_number
            .into_iter()
            .filter_map(|(id, value)| Some((self.series.get(&id).copied().flatten()?, value)))
            .collect();
        named.sort_by_key(|(series, _)| *series);
        named
    }

    /// A stored tick in terms of the table. What this version does not know is left out.
    pub(super) fn tick(&mut self, stored: StoredTick, end: Stamp, dt_ns: u64) -> Tick {
        let StoredTick { entities, values, histograms, mut absent, mut servers, mut gpus, scene, .. } = stored;
        let mut named = |id: &String| if self.is_gone(id) { None } else { self.entity(id, Vec::new()) };
        let entities: Vec<_> = entities.iter().map(&mut named).collect();
        let at = |place: EntityId| entities.get(place.0 as usize).copied().flatten();
        absent.retain_mut(|absence| at(absence.entity).map(|entity| absence.entity = entity).is_some());
        servers.retain_mut(|server| at(server.entity).map(|entity| server.entity = entity).is_some());
        gpus.retain_mut(|gpu| {
            gpu.servers = gpu.servers.iter().filter_map(|server| at(*server)).collect();
            at(gpu.entity).map(|entity| gpu.entity = entity).is_some()
        });
        let of = |id: JournalId| self.series.get(&id).copied().flatten();
        let values = values.into_iter().filter_map(|(id, number)| Some((of(id)?, number))).collect();
        let histograms = histograms.into_iter().filter_map(|(id, gained)| Some((of(id)?, gained))).collect();
        let mut tick = Tick { end, dt_ns, values, histograms, absent, servers, gpus, scene };
        tick.seal();
        tick
    }

    pub(super) fn table(&mut self) -> Arc<SeriesTable> {
        let generation = self.table.generation();
        if let Some(given) = self.given.as_ref().filter(|given| given.generation() == generation) {
            return Arc::clone(given);
        }
        Arc::clone(self.given.insert(Arc::new(self.table.clone())))
    }
}

/// The attributes of a JSON object; texts of the names in `integers` are numbers.
fn attributes_of(object: &str, integers: &[String]) -> Vec<Attr> {
    let Ok(object) = serde_json::from_str::<Map<String, Value>>(object) else { return Vec::new() };
    let attribute = |(name, value): (String, Value)| {
        let value = match value {
            Value::Number(number) => AttrValue::Int(number.as_i64()?),
            Value::String(text) if integers.contains(&name) => AttrValue::Int(text.parse().ok()?),
            Value::String(text) => AttrValue::from(text),
            _ => return None,
        };
        Some(Attr { key: lasting(&name)?, value })
    };
    object.into_iter().filter_map(attribute).collect()
}

/// The name for as long as the process lives: names of attributes are constants everywhere else.
fn lasting(name: &str) -> Option<&'static str> {
    static NAMES: LazyLock<Mutex<BTreeSet<&'static str>>> = LazyLock::new(Mutex::default);
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = names.get(name) {
        return Some(known);
    }
    if names.len() >= MAX_NAMES || name.len() > MAX_NAME {
        return None;
    }
    let lasting: &'static str = Box::leak(name.to_owned().into_boxed_str());
    names.insert(lasting);
    Some(lasting)
}
