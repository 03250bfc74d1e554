//! The end of NVML in this process, and whether it is one.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use nvml_wrapper::Nvml;
use perfwatch_model::Reason;

use super::namespace::DRIVER;

/// Shuts NVML down and unloads it. Where the driver is open still, that is why.
pub(super) fn unload(nvml: Nvml, proc: &Path) -> Option<Reason> {
    let ended = nvml.shutdown();
    let reason = match (&ended, open_file_of_driver(proc)) {
        (_, Ok(Some(file))) => is_open(&file),
        // Nobody can see what it left.
        (Err(_), Err(_)) => Reason::new("the driver may be open still", STOP).by_failure(),
        (_, Ok(None)) | (Ok(()), Err(_)) => return None,
    };
    Some(match ended {
        Ok(()) => reason,
        Err(error) => Reason { text: format!("{}: `nvmlShutdown` failed: {error}", reason.text).into(), ..reason },
    })
}

/// Why the driver is open though NVML could not be initialised; `None` where it is closed.
pub(super) fn left_open(proc: &Path) -> Option<Reason> {
    open_file_of_driver(proc).ok()?.as_deref().map(is_open)
}

const STOP: &str = "stop the agent, and check `dmesg | grep -i nvrm`";

fn is_open(file: &Path) -> Reason {
    Reason::new(format!("NVML is closed, and has left {} open", file.display()), STOP).by_failure()
}

/// A file of the driver that this process has open, if there is one.
fn open_file_of_driver(proc: &Path) -> std::io::Result<Option<PathBuf>> {
    let files = std::fs::read_dir(proc.join("self/fd"))?.flatten();
    let mut open = files.filter_map(|file| std::fs::read_link(file.path()).ok());
    Ok(open.find(|file| file.as_os_str().as_bytes().starts_with(DRIVER)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_the_driver_that_is_open_still_is_found_among_the_others() {
        let proc = tempfile::tempdir().expect("a folder");
        let files = proc.path().join("self/fd");
        assert!(open_file_of_driver(proc.path()).is_err(), "nothing can be looked at");
        std::fs::create_dir_all(&files).expect("created");
        std::os::unix::fs::symlink("/dev/null", files.join("3")).expect("linked");
        assert_eq!(open_file_of_driver(proc.path()).ok(), Some(None));
        std::os::unix::fs::symlink("/dev/nvidia0", files.join("4")).expect("linked");
        assert_eq!(open_file_of_driver(proc.path()).ok(), Some(Some(PathBuf::from("/dev/nvidia0"))));
    }
}
