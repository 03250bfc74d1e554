//! How far something long is scrolled down.

use std::cell::Cell;

/// Lines that are scrolled past. Only who draws knows how many there are, so drawing takes back what was too much: the next
/// key up moves at once.
#[derive(Debug, Default)]
pub struct Scroll(Cell<usize>);

impl Scroll {
    /// Goes down, or up.
    pub fn by(&self, lines: isize) {
        // Half of what there can be, so that no sum of two overflows.
        self.0.set(self.0.get().saturating_add_signed(lines).min(usize::MAX / 2));
    }

    /// Where to begin when `hidden` lines have no room.
    pub fn clipped(&self, hidden: usize) -> usize {
        self.0.set(self.0.get().min(hidden));
        self.0.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_scrolled_too_far_is_not_scrolled_back_first() {
        let scroll = Scroll::default();
        scroll.by(isize::MAX);
        scroll.by(isize::MAX);
        assert_eq!(scroll.clipped(7), 7);
        scroll.by(-1);
        assert_eq!(scroll.clipped(7), 6);
        scroll.by(isize::MIN);
        assert_eq!((scroll.clipped(7), scroll.clipped(0)), (0, 0));
    }
}
