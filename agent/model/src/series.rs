//! Series and entities, interned once: ticks carry only handles, so that the hot path touches no string.

use std::collections::{BTreeMap, HashMap};

use crate::{Attr, Entity, EntityId, EntityKind, MetricDef};

/// Handle of a series, local to one [`SeriesTable`]. Never reused: it retires with its entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesId(pub u32);

/// One metric of one entity with one set of attributes.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// What is measured.
    pub metric: &'static MetricDef,
    /// About what.
    pub entity: EntityId,
    /// What tells this series from the metric's others of the same entity.
    pub attrs: Vec<Attr>,
}

type Key = (&'static str, EntityId, Vec<Attr>);

/// All series and entities that an agent knows. What retired is forgotten: the table is as large as what lives.
#[derive(Clone, Debug, Default)]
pub struct SeriesTable {
    entities: BTreeMap<EntityId, (Entity, Vec<SeriesId>)>,
    entity_ids: HashMap<(EntityKind, String), EntityId>,
    series: BTreeMap<SeriesId, Series>,
    series_ids: HashMap<Key, SeriesId>,
    next_entity: u32,
    next_series: u32,
    generation: u64,
}

impl SeriesTable {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// The handle of an entity, new or known. A known entity takes over the attributes given now, unless there are none.
    pub fn entity(&mut self, entity: Entity) -> EntityId {
        if let Some(&id) = self.entity_ids.get(&(entity.kind, entity.id.clone())) {
            let (known, _) = self.entities.get_mut(&id).expect("an entity with a key is in the list");
            if !entity.attributes.is_empty() && known.attributes != entity.attributes {
                known.attributes = entity.attributes;
                self.generation += 1;
            }
            return id;
        }
        let id = EntityId(self.next_entity);
        self.next_entity = self.next_entity.checked_add(1).expect("fewer than 2^32 entities");
        self.entity_ids.insert((entity.kind, entity.id.clone()), id);
        self.entities.insert(id, (entity, Vec::new()));
        self.generation += 1;
        id
    }

    /// The entity behind a handle; `None` once it retired.
    pub fn entity_of(&self, id: EntityId) -> Option<&Entity> {
        self.entities.get(&id).map(|(entity, _)| entity)
    }

    /// The handle of a known entity.
    pub fn find_entity(&self, kind: EntityKind, id: &str) -> Option<EntityId> {
        self.entity_ids.get(&(kind, id.to_owned())).copied()
    }

    /// All living entities, in the order in which they came.
    pub fn entities(&self) -> impl Iterator<Item = (EntityId, &Entity)> {
        self.entities.iter().map(|(id, (entity, _))| (*id, entity))
    }

    /// The handle of a series, new or known. For an entity that retired it is a handle that names nothing.
    pub fn series(&mut self, metric: &'static MetricDef, entity: EntityId, attrs: &[Attr]) -> SeriesId {
        let key = (metric.name, entity, attrs.to_vec());
        if let Some(&id) = self.series_ids.get(&key) {
            return id;
        }
        let Some((_, owned)) = self.entities.get_mut(&entity) else { return SeriesId(u32::MAX) };
        let id = SeriesId(self.next_series);
        self.next_series = self.next_series.checked_add(1).expect("fewer than 2^32 series");
        owned.push(id);
        self.series.insert(id, Series { metric, entity, attrs: attrs.to_vec() });
        self.series_ids.insert(key, id);
        self.generation += 1;
        id
    }

    /// The handle of a known series.
    pub fn find(&self, metric: &MetricDef, entity: EntityId, attrs: &[Attr]) -> Option<SeriesId> {
        self.series_ids.get(&(metric.name, entity, attrs.to_vec())).copied()
    }

    /// The series behind a handle; `None` once it retired.
    pub fn series_of(&self, id: SeriesId) -> Option<&Series> {
        self.series.get(&id)
    }

    /// All living series, in the order in which they came.
    pub fn iter(&self) -> impl Iterator<Item = (SeriesId, &Series)> {
        self.series.iter().map(|(id, series)| (*id, series))
    }

    /// How many series live.
    pub fn len(&self) -> usize {
        self.series_ids.len()
    }

    /// True when no series lives.
    pub fn is_empty(&self) -> bool {
        self.series_ids.is_empty()
    }

    /// Changes whenever a series or entity comes, goes or is described anew. Readers that cache handles compare it.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Forgets an entity and its series. Their handles are not given out again.
    pub fn retire(&mut self, entity: EntityId) {
        let Some((gone, owned)) = self.entities.remove(&entity) else { return };
        self.entity_ids.remove(&(gone.kind, gone.id));
        for id in owned {
            if let Some(series) = self.series.remove(&id) {
                self.series_ids.remove(&(series.metric.name, entity, series.attrs));
            }
        }
        self.generation += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::host;

    #[test]
    fn a_series_is_interned_once() {
        let mut table = SeriesTable::new();
        let host = table.entity(Entity::new(EntityKind::Host, "here"));
        let user = table.series(&host::CPU_TIME, host, &[Attr::fixed("cpu.mode", "user")]);
        let system = table.series(&host::CPU_TIME, host, &[Attr::fixed("cpu.mode", "system")]);
        assert_ne!(user, system);
        assert_eq!(table.series(&host::CPU_TIME, host, &[Attr::fixed("cpu.mode", "user")]), user);
        assert_eq!(table.len(), 2);
    }

    #[test]
    fn a_retired_entity_takes_its_series_along_and_its_handles_stay_unused() {
        let mut table = SeriesTable::new();
        let old = table.entity(Entity::new(EntityKind::Process, "7:1"));
        let series = table.series(&host::CPU_TIME, old, &[]);
        table.retire(old);
        assert!(table.series_of(series).is_none() && table.entity_of(old).is_none() && table.is_empty());
        let new = table.entity(Entity::new(EntityKind::Process, "7:1"));
        assert_ne!(new, old);
        assert_ne!(table.series(&host::CPU_TIME, new, &[]), series);
    }

    #[test]
    fn a_table_through_which_many_pass_stays_as_small_as_what_lives() {
        let mut table = SeriesTable::new();
        for number in 0..100_000 {
            let passing = table.entity(Entity::new(EntityKind::Process, number.to_string()));
            table.series(&host::CPU_TIME, passing, &[]);
            table.retire(passing);
        }
        assert_eq!((table.entities.len(), table.series.len(), table.len()), (0, 0, 0));
        assert!(table.entity_ids.is_empty(), "nothing is left to clone");
    }
}
