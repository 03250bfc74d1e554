//! Small files of the kernel, read in one go: reading a file of unknown size asks for its size, which the kernel does not
//! know either, and then feels its way in small steps.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;

/// What nearly all of them fit into.
const PAGE: usize = 4_096;

/// The text of a file; `None` where it is unreadable or no text.
pub(crate) fn text(path: &Path) -> Option<String> {
    let mut buffer = [0; PAGE];
    let length = File::open(path).ok()?.read(&mut buffer).ok()?;
    // One that fills the page has more, or might.
    if length == PAGE {
        fs::read_to_string(path).ok()
    } else {
        Some(std::str::from_utf8(&buffer[..length]).ok()?.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_whole_whatever_their_size() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("file");
        for length in [0, 1, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE] {
            let written = "é".repeat(length / 2) + &"x".repeat(length % 2);
            fs::write(&path, &written).expect("writable");
            assert_eq!(text(&path), Some(written), "{length} bytes");
        }
        fs::write(&path, [0xff]).expect("writable");
        assert_eq!(text(&path), None);
        assert_eq!(text(Path::new("/nonexistent")), None);
    }
}
