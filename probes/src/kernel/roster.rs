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

    /// A wanted device came or went in this pass.
    pub(crate) const fn changed(&self) -> bool {
        self.changed
    }

    /// The device with this name; one that is new is judged and, unless nobody wants it, made. `Err` when there is no room for
    /// another.
    pub(crate) fn meet<J>(
        &mut self,
        name: &[u8],
        judge: impl FnOnce() -> Option<J>,
        make: impl FnOnce(J) -> T,
    ) -> Result<Option<&mut T>, Full> {
        let guess = self.rows.get(self.next).is_some_and(|row| row.name == name).then_some(self.next);
        let at = match guess.or_else(|| self.rows.iter().position(|row| row.name == name)) {
            Some(at) => {
                let row = &mut self.rows[at];
                self.changed |= row.item.is_some() && row.seen + 1 < self.pass;
                row.seen = self.pass;
                at
            }
            None => match judge() {
                Some(wanted) => self.add(name, || make(wanted))?,
                // Where there is no room it is judged again each time, and takes nobody's place.
                None if self.rows.len() < MOST => {
                    self.rows.push(Row { name: name.to_vec(), seen: self.pass, item: None });
                    self.rows.len() - 1
                }
                None => return Ok(None),
            },
        };
        self.next = at + 1;
        Ok(self.rows[at].item.as_mut())
    }

    fn add(&mut self, name: &[u8], make: impl FnOnce() -> T) -> Result<usize, Full> {
        if self.made == EVER {
            return Err(Full);
        }
        let at = if self.rows.len() < MOST {
            self.rows.len()
        } else {
            // An unwanted one makes room, else the one that is gone for longest. One that the last pass listed may come in
            // this one.
            let places = self.rows.iter().enumerate();
            let gone = places.filter(|(_, row)| row.item.is_none() || row.seen + 1 < self.pass);
            gone.min_by_key(|(_, row)| (row.item.is_some(), row.seen)).map(|(at, _)| at).ok_or(Full)?
        };
        let row = Row { name: name.to_vec(), seen: self.pass, item: Some(make()) };
        if at < self.rows.len() {
            self.rows[at] = row;
        } else {
            self.rows.push(row);
        }
        self.made += 1;
        self.changed = true;
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

    /// Meets one that is wanted.
    fn want<'r, T>(roster: &'r mut Roster<T>, name: &[u8], item: T) -> Result<Option<&'r mut T>, Full> {
        roster.meet(name, || Some(()), |()| item)
    }

    /// Meets one that is not.
    fn pass_by<'r, T>(roster: &'r mut Roster<T>, name: &[u8]) -> Result<Option<&'r mut T>, Full> {
        roster.meet(name, || None, |()| unreachable!("nobody wants it"))
    }

    #[test]
    fn a_device_that_comes_back_is_the_same_and_unwanted_names_take_no_room_for_long() {
        let mut roster = Roster::new();
        for round in 0..2 * MOST {
            roster.begin();
            assert_eq!(want(&mut roster, b"sda", 0).map(|item| item.is_some()), Ok(true));
            assert_eq!(pass_by(&mut roster, format!("veth{round}").as_bytes()), Ok(None));
            roster.end(|_| ());
        }
        roster.begin();
        let mut left = 0;
        roster.end(|_| left += 1);
        *want(&mut roster, b"sda", 0).expect("known").expect("wanted") += 1;
        assert_eq!((left, roster.items_mut().map(|(_, item)| *item).collect::<Vec<_>>()), (1, vec![1]));
    }

    #[test]
    fn a_roster_that_is_full_says_so_and_the_longest_gone_makes_room() {
        let mut roster = Roster::new();
        let fill = |roster: &mut Roster<usize>, from: usize| {
            roster.begin();
            for at in from..MOST {
                assert!(want(roster, &at.to_le_bytes(), at).is_ok());
            }
        };
        fill(&mut roster, 0);
        assert_eq!(want(&mut roster, b"one more", 0), Err(Full));
        roster.end(|_| ());
        // One goes. In the pass that misses it, it might still be listed after the new one.
        fill(&mut roster, 1);
        assert_eq!(want(&mut roster, b"one more", 0), Err(Full));
        roster.end(|_| ());
        fill(&mut roster, 1);
        assert_eq!(want(&mut roster, b"one more", MOST), Ok(Some(&mut MOST.clone())));
        roster.end(|_| ());
        assert!(roster.items_mut().all(|(_, at)| *at > 0));
    }

    #[test]
    fn names_that_nobody_wants_take_no_wanted_ones_place_and_give_theirs() {
        let mut roster = Roster::new();
        let pass = |roster: &mut Roster<&str>, cards: &[&'static str]| {
            roster.begin();
            for round in 0..2 * MOST {
                assert_eq!(pass_by(roster, format!("veth{round}").as_bytes()), Ok(None));
            }
            let met = cards.iter().all(|card| want(roster, card.as_bytes(), *card).is_ok_and(|item| item.is_some()));
            roster.end(|_| ());
            met
        };
        assert!(pass(&mut roster, &["eno1", "eno2"]), "they come after names enough to fill it");
        for _ in 0..3 {
            assert!(pass(&mut roster, &["eno1"]));
        }
        assert!(roster.items_mut().any(|(name, _)| name == b"eno2"), "it is gone and stays known");
        assert!(pass(&mut roster, &["eno1", "eno2", "ens7"]));
    }

    #[test]
    fn names_made_up_without_end_have_an_end() {
        let mut roster = Roster::new();
        let known = (0..2 * EVER).filter(|at| {
            roster.begin();
            let met = want(&mut roster, &at.to_le_bytes(), ()).is_ok();
            roster.end(|()| ());
            met
        });
        assert_eq!(known.count(), EVER);
    }

    #[test]
    fn coming_going_and_coming_back_are_changes_and_staying_is_none() {
        let mut roster = Roster::new();
        let pass = |names: &[&str]| {
            roster.begin();
            for name in names {
                roster.meet(name.as_bytes(), || (*name != "lo").then_some(()), |()| ()).expect("room");
            }
            roster.end(|()| ());
            roster.changed()
        };
        let seen = [&["eth0"][..], &["eth0"], &["eth0", "lo"], &["lo"], &["lo"], &["eth0"], &["eth0"]].map(pass);
        assert_eq!(seen, [true, false, false, true, false, true, false]);
    }
}
