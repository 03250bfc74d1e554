//! The committed files are what this crate makes.

use std::path::Path;

#[test]
fn the_committed_files_are_those_of_the_catalogue() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    for file in perfwatch_dashboards::files() {
        let committed = std::fs::read_to_string(folder.join(file.path)).unwrap_or_default();
        assert!(
            committed == file.text,
            "dashboards/{} is not what the catalogue makes of it; run `cargo run -- dashboards export` in the root of the repository",
            file.path
        );
    }
    let generated: Vec<_> = perfwatch_dashboards::files().into_iter().map(|file| folder.join(file.path)).collect();
    for entry in std::fs::read_dir(folder.join("grafana")).expect("the folder is committed") {
        let path = entry.expect("an entry").path();
        assert!(generated.contains(&path), "{} is not generated any more", path.display());
    }
}
