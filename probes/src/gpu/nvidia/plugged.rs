//! Which GPUs the kernel's part of the driver has. NVML looks at them when it is initialised, and never again.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::mem::MaybeUninit;
use std::path::Path;

use perfwatch_model::Stamp;
use rustix::fs::{Mode, OFlags, RawDir};

/// Somebody who plugs a GPU in, or binds one to the driver, takes longer.
const LOOK_EVERY_NS: u64 = 30_000_000_000;
/// A card that comes and goes must not take the others along each time.
const LONGEST_NS: u64 = 600_000_000_000;
/// More than the names of dozens of GPUs take.
const ROOM: usize = 4096;

/// The folder in which the driver has a folder for each GPU, as it was when NVML was initialised.
pub(super) struct Plugged<'a> {
    folder: &'a Path,
    names: Option<u64>,
    due_ns: u64,
    wait_ns: u64,
}

impl<'a> Plugged<'a> {
    pub(super) const fn new(folder: &'a Path) -> Self {
        Self { folder, names: None, due_ns: 0, wait_ns: LOOK_EVERY_NS }
    }

    /// Notes what there is. To be called before NVML looks: a GPU that comes in between is found twice, and not never.
    pub(super) fn note(&mut self) {
        self.names = names(self.folder);
    }

    /// Whether there are other GPUs than were noted. Looked at each 30 s, and after a change ever more seldom until there is none.
    /// A folder that cannot be read says nothing.
    pub(super) fn has_changed(&mut self, at: Stamp) -> bool {
        if at.mono_ns < self.due_ns {
            return false;
        }
        let now = names(self.folder);
        let has_changed = now.is_some() && self.names.is_some() && now != self.names;
        self.wait_ns = if has_changed { (self.wait_ns * 2).min(LONGEST_NS) } else { LOOK_EVERY_NS };
        self.due_ns = at.mono_ns.saturating_add(self.wait_ns);
        has_changed
    }
}

/// The names in a folder as one number, in whatever order they come; without an allocation.
fn names(folder: &Path) -> Option<u64> {
    let folder = rustix::fs::open(folder, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let mut room = [MaybeUninit::uninit(); ROOM];
    let mut entries = RawDir::new(folder, &mut room);
    let mut sum = 0_u64;
    while let Some(entry) = entries.next() {
        let mut hasher = DefaultHasher::new();
        entry.ok()?.file_name().to_bytes().hash(&mut hasher);
        sum = sum.wrapping_add(hasher.finish());
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> Stamp {
        Stamp { mono_ns: second * 1_000_000_000, wall_ns: 0 }
    }

    #[test]
    fn a_gpu_that_comes_or_goes_is_seen_at_the_next_look_and_a_folder_that_is_not_there_says_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let gpus = folder.path().join("gpus");
        let mut none = Plugged::new(&gpus);
        none.note();
        std::fs::create_dir_all(gpus.join("0000:17:00.0")).expect("created");
        assert!(!none.has_changed(at(0)), "there was nothing to compare with");
        let mut plugged = Plugged::new(&gpus);
        plugged.note();
        assert!(!plugged.has_changed(at(0)));
        std::fs::create_dir(gpus.join("0000:18:00.0")).expect("created");
        assert!(!plugged.has_changed(at(29)), "it is not time");
        assert!(plugged.has_changed(at(30)));
        std::fs::remove_dir(gpus.join("0000:18:00.0")).expect("removed");
        assert!(!plugged.has_changed(at(90)), "as before");
        std::fs::rename(gpus.join("0000:17:00.0"), gpus.join("0000:19:00.0")).expect("renamed");
        assert!(plugged.has_changed(at(120)), "another one in its place");
    }

    #[test]
    fn a_card_that_comes_and_goes_is_looked_at_ever_more_seldom() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut plugged = Plugged::new(folder.path());
        let card = folder.path().join("0000:17:00.0");
        plugged.note();
        let mut seen = Vec::new();
        for second in 0..1_000 {
            if card.exists() { std::fs::remove_dir(&card) } else { std::fs::create_dir(&card) }.expect("done");
            if plugged.has_changed(at(second)) {
                seen.push(second);
                plugged.note();
            }
        }
        let gaps: Vec<_> = seen.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(gaps.windows(2).all(|pair| pair[1] >= pair[0]) && seen.len() < 8, "{seen:?}");
    }
}
