//! Finding the built shared library and laying it out for a test.

use std::io;
use std::path::{Path, PathBuf};

use crate::{Scenario, ScenarioError};

const FILE: &str = "libfake_nvml.so";

/// Why a copy of the library could not be laid out.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The scenario would be refused by the library.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// A file could not be copied or written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file that was to be written.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The shared library that cargo built beside the running test, bench or example.
///
/// # Panics
///
/// When there is none: the crate that runs is then not built by cargo with this crate among its (dev-)dependencies.
pub fn library_path() -> PathBuf {
    let executable = std::env::current_exe().expect("the system knows the path of the running executable");
    // Tests and benches run from target/<profile>/deps, examples from target/<profile>/examples, binaries one folder up.
    let profile = executable.ancestors().skip(1).take(2);
    let candidates: Vec<_> = profile.flat_map(|dir| [dir.join("deps").join(FILE), dir.join(FILE)]).collect();
    match candidates.iter().find(|path| path.is_file()) {
        Some(path) => path.clone(),
        None => panic!(
            "no {FILE} beside {}; make fake-nvml a dev-dependency of the crate under test, or run `cargo build -p fake-nvml` \
             in the same profile; looked at {candidates:?}",
            executable.display()
        ),
    }
}

/// Copies the library to `dir/libnvidia-ml.so.1` with `scenario` beside it, and returns the copy's path. What the scenario names as
/// `missing` is taken out of the copy.
///
/// `dir` is created when missing. Each folder is a library of its own for the dynamic loader, so scenarios do not meet.
pub fn install(dir: &Path, scenario: &str) -> Result<PathBuf, InstallError> {
    let library = dir.join("libnvidia-ml.so.1");
    std::fs::create_dir_all(dir).map_err(|source| InstallError::Write { path: dir.into(), source })?;
    let missing = Scenario::parse(scenario)?.missing;
    let written = std::fs::read(library_path()).and_then(|mut bytes| {
        hide(&missing, &mut bytes);
        std::fs::write(&library, bytes)
    });
    written.map_err(|source| InstallError::Write { path: library.clone(), source })?;
    rewrite(&library, scenario)?;
    Ok(library)
}

/// Renames symbols, so that the dynamic loader does not find them: a table of symbols has each name between zeros.
fn hide(symbols: &[String], library: &mut [u8]) {
    for text in library.split_mut(|byte| *byte == 0) {
        if symbols.iter().any(|symbol| symbol.as_bytes() == text) {
            text[0] = b'_';
        }
    }
}

/// Replaces the scenario of an installed library; it is played from the next `nvmlInit` on. Its symbols stay as they were installed.
pub fn rewrite(library: &Path, scenario: &str) -> Result<(), InstallError> {
    Scenario::parse(scenario)?;
    let path = beside(library);
    // At once: a driver may be begun with at any time.
    let whole = path.with_extension("new");
    let written = std::fs::write(&whole, scenario).and_then(|()| std::fs::rename(&whole, &path));
    written.map_err(|source| InstallError::Write { path, source })
}

/// The scenario file that belongs to `library`.
pub(crate) fn beside(library: &Path) -> PathBuf {
    let mut name = library.as_os_str().to_owned();
    name.push(".json");
    name.into()
}
