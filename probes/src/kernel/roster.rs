//! Devices by name, as a kernel file lists them: they appear, disappear and come back.

/// Devices that are remembered, wanted or not. Names may be made up without end (a pair of interfaces per container).
const MOST: usize = 256;

struct Row<T> {
    name: Vec<u8>,
    listed: bool,
    item: Option<T>,
}

/// What is known about each device of a file. `T` is what a wanted one needs; of others only the name is kept.
pub(crate) struct Roster<T> {
    rows: Vec<Row<T>>,
    /// Where the next device is looked for first: a file keeps its order.
    next: usize,
}

impl<T> Roster<T> {
    pub(crate) const fn new() -> Self {
        Self { rows: Vec::new(), next: 0 }
    }

    /// Begins a pass over the file.
    pub(crate) fn begin(&mut self) {
        self.next = 0;
        for row in &mut self.rows {
            row.listed = false;
        }
    }

    /// The device with this name; one that is new is made by `make`, which says `None` for one that nobody wants. `Err`
    /// when there is no room for another.
    pub(crate) fn meet(&mut self, name: &[u8], make: impl FnOnce() -> Option<T>) -> Result<Option<&mut T>, Full> {
        let guess = self.rows.get(self.next).is_some_and(|row| row.name == name).then_some(self.next);
        let at = match guess.or_else(|| self.rows.iter().position(|row| row.name == name)) {
            Some(at) => at,
            None if self.rows.len() == MOST => return Err(Full),
            None => {
                self.rows.push(Row { name: name.to_vec(), listed: true, item: make() });
                self.rows.len() - 1
            }
        };
        self.next = at + 1;
        self.rows[at].listed = true;
        Ok(self.rows[at].item.as_mut())
    }

    /// Ends a pass: calls `gone` for every wanted device that is not listed any more. It stays known, because its name may
    /// come back and its totals go on.
    pub(crate) fn end(&mut self, mut gone: impl FnMut(&mut T)) {
        self.rows.retain_mut(|row| match &mut row.item {
            Some(item) if !row.listed => {
                gone(item);
                true
            }
            Some(_) => true,
            None => row.listed,
        });
    }

    /// Every wanted device that was ever met.
    pub(crate) fn items_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.rows.iter_mut().filter_map(|row| row.item.as_mut())
    }
}

/// There is no room for another device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_comes_back_is_the_same_and_unwanted_names_take_no_room_for_long() {
        let mut roster = Roster::new();
        for round in 0..2 * MOST {
            roster.begin();
            assert_eq!(roster.meet(b"sda", || Some(0)).map(|item| item.is_some()), Ok(true));
            let name = format!("veth{round}");
            assert_eq!(roster.meet(name.as_bytes(), || None), Ok(None));
            roster.end(|_| ());
        }
        roster.begin();
        let mut left = 0;
        roster.end(|_| left += 1);
        *roster.meet(b"sda", || None).expect("known").expect("wanted") += 1;
        assert_eq!((left, roster.items_mut().map(|item| *item).collect::<Vec<_>>()), (1, vec![1]));
    }

    #[test]
    fn a_roster_that_is_full_says_so() {
        let mut roster = Roster::new();
        for at in 0..MOST {
            assert!(roster.meet(&at.to_le_bytes(), || Some(())).is_ok());
        }
        assert_eq!(roster.meet(b"one more", || Some(())), Err(Full));
    }
}
