//! A folder that stays open and is listed again from the start.

use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, RawDir, SeekFrom};

use super::parse;

/// Entries of some 1,000 tasks: a folder of the usual size is listed in one system call.
const LISTING: usize = 32 * 1024;

/// Scratch space for listings.
pub(crate) type Entries = Box<[MaybeUninit<u8>]>;

/// Scratch space of the right size.
pub(crate) fn entries() -> Entries {
    vec![MaybeUninit::uninit(); LISTING].into_boxed_slice()
}

/// An open folder whose interesting entries are named by a number: `/proc` or `/proc/pid/task`.
#[derive(Debug)]
pub(crate) struct Folder {
    fd: OwnedFd,
}

impl Folder {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let fd = rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { fd })
    }

    /// Calls `each` with every entry whose name is a number. The folder of a process that is gone is an error.
    pub(crate) fn numbers(&self, entries: &mut Entries, mut each: impl FnMut(u32)) -> io::Result<()> {
        rustix::fs::seek(&self.fd, SeekFrom::Start(0))?;
        let mut listing = RawDir::new(&self.fd, entries);
        while let Some(entry) = listing.next() {
            if let Some((number, [])) = parse::number(entry?.file_name().to_bytes())
                && let Ok(number) = u32::try_from(number)
            {
                each(number);
            }
        }
        Ok(())
    }
}

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// `number/file` as a path, without allocation.
pub(crate) struct NumberedPath {
    text: [u8; 32],
}

impl NumberedPath {
    /// `file` has at most 20 bytes.
    pub(crate) fn new(number: u32, file: &str) -> Self {
        use std::io::Write;
        let mut text = [0; 32];
        write!(&mut text[..31], "{number}/{file}").expect("ten digits, a slash and a short name fit");
        Self { text }
    }

    pub(crate) fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.text).expect("the last byte is never written")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_tasks_are_listed_again_and_again() {
        let folder = Folder::open(Path::new("/proc/self/task")).expect("procfs");
        let mut scratch = entries();
        for _ in 0..2 {
            let mut seen = Vec::new();
            folder.numbers(&mut scratch, |tid| seen.push(tid)).expect("alive");
            assert!(seen.contains(&std::process::id()), "{seen:?}");
        }
        assert_eq!(NumberedPath::new(u32::MAX, "schedstat").as_c_str(), c"4294967295/schedstat");
    }
}
