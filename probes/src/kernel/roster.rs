//! Devices by name, as a kernel file lists them: they appear, disappear and come back.

/// Devices that are remembered, wanted or not.
const MOST: usize = 256;
/// Wanted devices that are ever made room for: each has series, and names may be made up without end.
const EVER: usize = 4 * MOST;

struct Row<T> {
    name: Vec<u8>,
    /// The pass that listed it last.
    seen: u64,
    item: Option<T>,
}

/// What is known about each device of a file. `T` is what a wanted one needs; of others only the name is kept.
pub(crate) struct Roster<T> {
    rows: Vec<Row<T>>,
    /// Where the next device is looked for first: a file keeps its order.
    next: usize,
    pass: u64,
    made: usize,
    changed: bool,
}

impl<T> Roster<T> {
    pub(crate) const fn new() -> Self {
        Self { rows: Vec::new(), next: 0, pass: 0, made: 0, changed: false }
    }

    /// Begins a pass over the file.
    pub(crate) const fn begin(&mut self) {
        self.next = 0;
        self.pass += 1;
        self.changed = false;
    }

    /// What is there now was there when counting began.
    pub(crate) const fn is_first_pass(&self) -> bool {
        self.pass == 1
    }

    /// A wanted device came or went in this pass.
    pub(crate) const fn changed(&self) -> bool {
        self.changed
    }

    /// The device with this name; one that is new is made by `make`, which says `None` for one that nobody wants. `Err`
    /// when there is no room for another.
    pub(crate) fn meet(&mut self, name: &[u8], make: impl FnOnce() -> Option<T>) -> Result<Option<&mut T>, Full> {
        let guess = self.rows.get(self.next).is_some_and(|row| row.name == name).then_some(self.next);
        let at = match guess.or_else(|| self.rows.iter().position(|row| row.name == name)) {
            Some(at) => {
                let row = &mut self.rows[at];
                self.changed |= row.item.is_some() && row.seen + 1 < self.pass;
                row.seen = self.pass;
                at
            }
            None => self.add(name, make)?,
        };
        self.next = at + 1;
        Ok(self.rows[at].item.as_mut())
    }

    fn add(&mut self, name: &[u8], make: impl FnOnce() -> Option<T>) -> Result<usize, Full> {
        if self.made == EVER {
            return Err(Full);
        }
        let row = |item| Row { name: name.to_vec(), seen: self.pass, item };
        let at = if self.rows.len() < MOST {
            self.rows.push(row(make()));
            self.rows.len() - 1
        } else {
            // The one that is gone for longest makes room; one that the last pass listed may come in this one.
            let oldest = (0..self.rows.len()).min_by_key(|at| self.rows[*at].seen).ok_or(Full)?;
            if self.rows[oldest].seen + 1 >= self.pass {
                return Err(Full);
            }
            self.rows[oldest] = row(make());
            oldest
        };
        let wanted = self.rows[at].item.is_some();
        self.made += usize::from(wanted);
        self.changed |= wanted;
        Ok(at)
    }

    /// Ends a pass: calls `gone` for every wanted device that is not listed any more. It stays known while there is room,
    /// because its name may come back and its totals go on.
    pub(crate) fn end(&mut self, mut gone: impl FnMut(&mut T)) {
        let Self { rows, pass, changed, .. } = self;
        rows.retain_mut(|row| {
            let listed = row.seen == *pass;
            match &mut row.item {
                Some(item) if !listed => {
                    *changed |= row.seen + 1 == *pass;
                    gone(item);
                    true
                }
                Some(_) => true,
                None => listed,
            }
        });
    }

    /// Every wanted device that is known, with its name.
    pub(crate) fn items_mut(&mut self) -> impl Iterator<Item = (&[u8], &mut T)> {
        self.rows.iter_mut().filter_map(|row| Some((row.name.as_slice(), row.item.as_mut()?)))
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
        assert_eq!((left, roster.items_mut().map(|(_, item)| *item).collect::<Vec<_>>()), (1, vec![1]));
    }

    #[test]
    fn a_roster_that_is_full_says_so_and_the_longest_gone_makes_room() {
        let mut roster = Roster::new();
        let fill = |roster: &mut Roster<usize>, from: usize| {
            roster.begin();
            for at in from..MOST {
                assert!(roster.meet(&at.to_le_bytes(), || Some(at)).is_ok());
            }
        };
        fill(&mut roster, 0);
        assert_eq!(roster.meet(b"one more", || Some(0)), Err(Full));
        roster.end(|_| ());
        // One goes. In the pass that misses it, it might still be listed after the new one.
        fill(&mut roster, 1);
        assert_eq!(roster.meet(b"one more", || Some(0)), Err(Full));
        roster.end(|_| ());
        fill(&mut roster, 1);
        assert_eq!(roster.meet(b"one more", || Some(MOST)), Ok(Some(&mut MOST.clone())));
        roster.end(|_| ());
        assert!(roster.items_mut().all(|(_, at)| *at > 0));
    }

    #[test]
    fn names_made_up_without_end_have_an_end() {
        let mut roster = Roster::new();
        let known = (0..2 * EVER).filter(|at| {
            roster.begin();
            let met = roster.meet(&at.to_le_bytes(), || Some(())).is_ok();
            roster.end(|()| ());
            met
        });
        assert_eq!(known.count(), EVER);
    }

    #[test]
    fn coming_going_and_coming_back_are_changes_and_staying_is_none() {
        let mut roster = Roster::new();
        let mut pass = |names: &[&str]| {
            roster.begin();
            for name in names {
                roster.meet(name.as_bytes(), || (*name != "lo").then_some(())).expect("room");
            }
            roster.end(|()| ());
            (roster.is_first_pass(), roster.changed())
        };
        let seen = [&["eth0"][..], &["eth0"], &["eth0", "lo"], &["lo"], &["lo"], &["eth0"], &["eth0"]].map(&mut pass);
        let changed = [true, false, false, true, false, true, false];
        assert_eq!(seen.map(|(_, changed)| changed), changed);
        assert_eq!(seen.map(|(first, _)| first), [true, false, false, false, false, false, false]);
    }
}
