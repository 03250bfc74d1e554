//! What is known of the entities that the dictionary's series are about.

use std::collections::{BTreeMap, HashMap, HashSet};

use perfwatch_model::{Attr, AttrValue, EntityId, SeriesTable};

/// A row of `entities`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EntityRow {
    /// `kind:id`.
    pub(crate) id: String,
    pub(crate) kind: String,
    /// A JSON object.
    pub(crate) attributes: String,
}

/// All that were written or are to be.
#[derive(Debug, Default)]
pub(crate) struct Entities {
    /// Of this run: attributes as they were when last looked at.
    seen: BTreeMap<EntityId, Vec<Attr>>,
    /// Attributes by `kind:id`.
    known: HashMap<String, String>,
    unwritten: BTreeMap<String, EntityRow>,
    gone: Vec<String>,
    generation: Option<u64>,
}

impl Entities {
    /// One as it was written.
    pub(crate) fn restore(&mut self, row: EntityRow) {
        self.known.insert(row.id, row.attributes);
    }

    /// Takes in what is new in a table, which is the same one each time.
    pub(crate) fn look(&mut self, table: &SeriesTable) {
        if self.generation == Some(table.generation()) {
            return;
        }
        self.generation = Some(table.generation());
        for (handle, entity) in table.entities() {
            if self.seen.get(&handle).is_some_and(|attributes| *attributes == entity.attributes) {
                continue;
            }
            self.seen.insert(handle, entity.attributes.clone());
            let (id, attributes) = (entity.to_string(), object(&entity.attributes));
            if self.known.get(&id).is_some_and(|known| *known == attributes) {
                continue;
            }
            self.known.insert(id.clone(), attributes.clone());
            let kind = entity.kind.name().to_owned();
            self.unwritten.insert(id.clone(), EntityRow { id, kind, attributes });
        }
        self.seen.retain(|handle, _| table.entity_of(*handle).is_some());
    }

    pub(crate) fn unwritten(&self) -> impl Iterator<Item = &EntityRow> {
        self.unwritten.values()
    }

    pub(crate) fn gone(&self) -> &[String] {
        &self.gone
    }

    pub(crate) fn written(&mut self) {
        self.unwritten.clear();
        self.gone.clear();
    }

    /// The journal is a new file: everything that lives is written anew at the next look.
    pub(crate) fn all_unwritten(&mut self) {
        *self = Self::default();
    }

    /// Forgets those that neither live nor are named by a series.
    pub(crate) fn forget(&mut self, named: &HashSet<&str>, table: &SeriesTable) {
        let living: HashSet<String> = table.entities().map(|(_, entity)| entity.to_string()).collect();
        let over = |id: &str| !named.contains(id) && !living.contains(id);
        for (id, _) in self.known.extract_if(|id, _| over(id)) {
            self.unwritten.remove(&id);
            self.gone.push(id);
        }
    }
}

/// Attributes as a JSON object; integers are numbers.
pub(crate) fn object(attributes: &[Attr]) -> String {
    let value = |value: &AttrValue| match value {
        AttrValue::Text(text) => serde_json::Value::from(text.as_ref()),
        AttrValue::Int(number) => serde_json::Value::from(*number),
    };
    let object: serde_json::Map<_, _> =
        attributes.iter().map(|attr| (attr.key.to_owned(), value(&attr.value))).collect();
    serde_json::Value::Object(object).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use perfwatch_model::{Entity, EntityKind};

    #[test]
    fn what_changed_is_written_once_and_what_nobody_names_goes() {
        let mut table = SeriesTable::new();
        let mut entities = Entities::default();
        let shop = |pid: u32| Entity::new(EntityKind::Server, "shop/1").with("process.pid", pid);
        let old = table.entity(shop(7));
        entities.look(&table);
        let rows: Vec<_> = entities.unwritten().cloned().collect();
        assert_eq!((rows.len(), rows[0].attributes.as_str()), (1, r#"{"process.pid":7}"#));
        entities.written();
        entities.look(&table);
        table.entity(Entity::new(EntityKind::Host, "here"));
        entities.look(&table);
        assert_eq!(entities.unwritten().map(|row| row.id.as_str()).collect::<Vec<_>>(), ["host:here"]);
        table.entity(shop(8));
        entities.look(&table);
        assert!(entities.unwritten().any(|row| row.attributes == r#"{"process.pid":8}"#));
        table.retire(old);
        entities.look(&table);
        entities.forget(&HashSet::from(["server:shop/1"]), &table);
        assert!(entities.gone().is_empty(), "a series still names it");
        entities.forget(&HashSet::new(), &table);
        assert_eq!(entities.gone(), ["server:shop/1"]);
    }
}
