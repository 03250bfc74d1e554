//! The agent's binary, for what only a whole agent does.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use perfwatch_tests::perfwatch;

use crate::keep;

/// The release build of this tree, or what `PERFWATCH_TEST_BINARY` names.
const BINARY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/release/perfwatch");

/// Its path; why there is none.
pub(crate) fn path() -> Result<String, String> {
    let path = std::env::var("PERFWATCH_TEST_BINARY").unwrap_or_else(|_| BINARY.to_owned());
    let is_there = Path::new(&path).is_file();
    let missing = || format!("no {path}: run `cargo build --release`, or name one by PERFWATCH_TEST_BINARY");
    is_there.then_some(()).ok_or_else(missing).map(|()| path)
}

/// A recording that is being made. Ended when dropped.
pub(crate) struct Recording {
    child: Child,
    output: PathBuf,
    _runtime: tempfile::TempDir,
}

impl Recording {
    /// Begins to record for so many seconds, into `NAME.pwrec`. `None` without a binary, which is said.
    pub(crate) fn begin(name: &str, seconds: u32) -> Option<Self> {
        let binary = path().map_err(|missing| say!("{name} is not recorded: {missing}")).ok()?;
        let output = keep::folder().join(format!("{name}.pwrec"));
        // `record` overwrites nothing.
        let _ = std::fs::remove_file(&output);
        let runtime = tempfile::tempdir().expect("a temporary folder");
        let mut command = perfwatch(&binary, runtime.path());
        command.args(["record", "--duration", &format!("{seconds}s"), "--output"]).arg(&output).stdout(Stdio::null());
        let child = command.spawn().unwrap_or_else(|error| panic!("{binary} does not start: {error}"));
        Some(Self { child, output, _runtime: runtime })
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) {
        let status = self.child.wait().expect("a child can be waited for");
        let bytes = std::fs::metadata(&self.output).map_or(0, |file| file.len());
        say!("kept {}: {bytes} bytes, {status}", self.output.display());
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
