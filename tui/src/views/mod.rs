//! The views, one file each. To add one: write the file, and add its `mod` line and its place in [`VIEWS`] here; number
//! key, tab, footer and help follow.

mod findings;
mod gpus;
mod latency;
mod overview;
mod unavailable;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::Line;

use crate::app::App;
use crate::plain::Clean;
use crate::theme::Theme;
pub(crate) use gpus::words::{fault as gpu_fault, is_setting, worst_fault};

/// All views, in the order of their number keys.
pub const VIEWS: &[&dyn View] =
    &[&overview::Overview, &latency::Latency, &gpus::Gpus, &findings::Findings, &unavailable::Unavailable];

/// Number of the view in which a finding is opened.
pub(crate) const FINDINGS: usize = 3;

/// What a view may look at.
#[derive(Clone, Copy)]
pub struct Scene<'a> {
    /// What was pressed and chosen.
    pub app: &'a App,
    /// What there is to show.
    pub snapshot: &'a Clean,
    /// How it looks.
    pub theme: Theme,
}

/// What the arrow keys do in a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrows {
    /// Up and down select a finding, left and right a server.
    Findings,
    /// Up and down select a server, left and right a second.
    Seconds,
    /// All of them select a GPU; while it fills the view, up and down scroll.
    Gpus,
    /// Up and down scroll.
    Lines,
}

/// One screenful of something.
pub trait View: Sync {
    /// The name of its file.
    fn name(&self) -> &'static str;
    /// What its tab says.
    fn title(&self) -> &'static str;
    /// A count for its tab; 0 shows none.
    fn count(&self, snapshot: &Clean) -> usize;
    /// What the arrow keys do here.
    fn arrows(&self) -> Arrows;
    /// Draws into `area`, which may be of any size, even none.
    fn draw(&self, scene: Scene<'_>, area: Rect, buffer: &mut Buffer);
}

/// Number of the view of this name.
pub fn number_of(name: &str) -> Option<usize> {
    VIEWS.iter().position(|view| view.name() == name)
}

/// Puts lines into an area, as many as it has rows.
pub(crate) fn put(lines: &[Line<'static>], area: Rect, buffer: &mut Buffer) {
    for (line, y) in lines.iter().zip(area.top()..area.bottom()) {
        buffer.set_line(area.x, y, line, area.width);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_this_folder_is_a_listed_view() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/views");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .expect("the folder of this file")
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter_map(|name| Some(name.strip_suffix(".rs")?.to_owned()))
            .filter(|name| name != "mod")
            .collect();
        files.sort();
        let mut listed: Vec<&str> = VIEWS.iter().map(|view| view.name()).collect();
        listed.sort_unstable();
        assert_eq!(files, listed, "add the view to VIEWS in tui/src/views/mod.rs");
    }

    #[test]
    fn findings_open_in_the_view_that_shows_them() {
        assert_eq!(VIEWS[FINDINGS].name(), "findings");
    }
}
