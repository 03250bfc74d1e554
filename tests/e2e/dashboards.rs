//! `perfwatch dashboards`. What the files say to a real Prometheus is tested in tests/backends.

use std::time::Duration;

use perfwatch_tests::{perfwatch, run};

use crate::{PERFWATCH, ROOT};

const LIMIT: Duration = Duration::from_mins(1);

#[test]
fn export_writes_every_committed_file_and_prints_where() {
    let dir = tempfile::tempdir().expect("a folder");
    let out = dir.path().join("new/folder");
    let mut command = perfwatch(PERFWATCH, dir.path());
    command.args(["dashboards", "export", "-o"]).arg(&out);
    let output = run(command, LIMIT);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8(output.stdout).expect("UTF-8");
    let mut written = 0;
    for line in printed.lines() {
        let below = line.strip_prefix(&format!("{}/", out.display())).expect("in the folder that was asked for");
        let committed = std::fs::read(format!("{ROOT}/dashboards/{below}")).expect("it is committed");
        assert!(std::fs::read(line).expect("it was written") == committed, "{below}");
        written += 1;
    }
    assert!(written >= 3, "{printed}");
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::write(dir.path().join("file"), "").expect("our folder");
    let mut command = perfwatch(PERFWATCH, dir.path());
    command.args(["dashboards", "export", "-o"]).arg(dir.path().join("file/below"));
    let output = run(command, LIMIT);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("cannot make the folder") && stderr.contains("file/below"), "{stderr}");
    assert!(stderr.contains("-o"), "{stderr}");
}
