//! The data-loading step: one row of features per request, read from a file.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::net::FEATURES;
use crate::rng::Rng;

/// Rows in the file (4 MiB in all).
pub(super) const ROWS: u64 = 4_096;
const ROW_BYTES: usize = FEATURES * size_of::<f32>();

/// A feature store on disk.
#[derive(Debug)]
pub(super) struct Store {
    file: File,
    latency: Duration,
}

impl Store {
    /// Writes the file of `seed` to `path`, opens it and removes its name; each read then takes `latency` longer, as from
    /// a store behind a network or on a slow disk.
    pub(super) fn create(path: &Path, seed: u64, latency: Duration) -> io::Result<Self> {
        let mut rng = Rng::new(seed ^ 0x726f_7773);
        let mut out = BufWriter::new(File::create(path)?);
        for _ in 0..ROWS * FEATURES as u64 {
            out.write_all(&rng.signed().to_le_bytes())?;
        }
        out.flush()?;
        let file = File::open(path)?;
        // The open file stays readable, and nothing is left behind however the server ends.
        std::fs::remove_file(path)?;
        Ok(Self { file, latency })
    }

    /// The features of `user`; every number has a row.
    pub(super) fn read(&self, user: u64) -> io::Result<Vec<f32>> {
        if !self.latency.is_zero() {
            // The one thing here that is not computed but waited for: where the bytes would be on their way.
            thread::sleep(self.latency);
        }
        let mut row = [0_u8; ROW_BYTES];
        self.file.read_exact_at(&mut row, user % ROWS * ROW_BYTES as u64)?;
        Ok(row.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_user_has_a_row_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::create(&folder.path().join("features"), 1, Duration::ZERO).unwrap();
        let first = store.read(0).unwrap();
        assert_eq!(first.len(), FEATURES);
        assert_ne!(first, store.read(ROWS - 1).unwrap());
        assert_eq!(first, store.read(ROWS).unwrap(), "numbers beyond the file wrap");
    }
}
