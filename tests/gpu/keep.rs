//! Where what was measured is kept, so that a run that is cut short leaves what it had.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;

/// The folder that `PERFWATCH_TEST_KEEP` names, or one beside what is built.
pub(crate) fn folder() -> PathBuf {
    let named = std::env::var_os("PERFWATCH_TEST_KEEP").map(PathBuf::from);
    let folder = named.unwrap_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/gpu-run")));
    std::fs::create_dir_all(&folder).unwrap_or_else(|error| panic!("{} cannot be made: {error}", folder.display()));
    folder
}

/// Prints a line, and adds it to `report.txt` at once.
pub(crate) fn say(line: &str) {
    println!("{line}");
    let path = folder().join("report.txt");
    let written = File::options().create(true).append(true).open(&path).and_then(|mut file| writeln!(file, "{line}"));
    written.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// Writes a file of its own.
pub(crate) fn put(name: &str, text: &str) {
    let path = folder().join(name);
    std::fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    say(&format!("kept {}", path.display()));
}

/// As `println!`, for what is to be kept.
macro_rules! say {
    ($($words:tt)*) => { $crate::keep::say(&format!($($words)*)) };
}
