//! Files that stay open and are read again from the start: one system call a read, no allocation in the steady state.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

/// Most files read here are far smaller; larger ones grow the buffer once.
const FIRST_BUFFER: usize = 4096;

/// A kernel file that is kept open.
#[derive(Debug)]
pub(crate) struct HeldFile {
    file: File,
}

impl HeldFile {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::open(path)? })
    }

    /// Opens a file below an open folder.
    pub(crate) fn open_at(folder: impl AsFd, name: impl rustix::path::Arg) -> io::Result<Self> {
        let fd: OwnedFd = rustix::fs::openat(folder, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { file: File::from(fd) })
    }

    /// The whole text as of now. `buffer` is scratch space whose length only grows; a short read is the end, because
    /// every file read this way is a single record to the kernel.
    pub(crate) fn read<'b>(&self, buffer: &'b mut Vec<u8>) -> io::Result<&'b [u8]> {
        if buffer.is_empty() {
            buffer.resize(FIRST_BUFFER, 0);
        }
        loop {
            match self.file.read_at(buffer, 0) {
                Ok(length) if length < buffer.len() => return Ok(&buffer[..length]),
                Ok(_) => buffer.resize(buffer.len() * 2, 0),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The start of the text, as much as fits into `buffer`.
    pub(crate) fn read_start<'b>(&self, buffer: &'b mut [u8]) -> io::Result<&'b [u8]> {
        loop {
            match self.file.read_at(buffer, 0) {
                Ok(length) => return Ok(&buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The whole text of a file that the kernel hands out in several records (`children`, `mountinfo`).
    pub(crate) fn read_records<'b>(&self, buffer: &'b mut Vec<u8>) -> io::Result<&'b [u8]> {
        if buffer.is_empty() {
            buffer.resize(FIRST_BUFFER, 0);
        }
        let mut length = 0;
        loop {
            if length == buffer.len() {
                buffer.resize(buffer.len() * 2, 0);
            }
            match self.file.read_at(&mut buffer[length..], length as u64) {
                Ok(0) => return Ok(&buffer[..length]),
                Ok(more) => length += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}
