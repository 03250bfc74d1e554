//! GPUs: each in a line, and everything about the selected one.

mod activity;
mod detail;
mod graphs;
mod list;
mod memory;
mod none;
mod supply;
mod trouble;
pub(super) mod words;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::{Arrows, Scene, View, put};
use crate::gpus::gpus;
use crate::plain::Clean;

/// The third view.
pub(super) struct Gpus;

impl View for Gpus {
    fn name(&self) -> &'static str {
        "gpus"
    }

    fn title(&self) -> &'static str {
        "GPUs"
    }

    fn count(&self, snapshot: &Clean) -> usize {
        // An instance is a part of one that counts.
        gpus(snapshot).iter().filter(|gpu| !gpu.instance).count()
    }

    fn arrows(&self) -> Arrows {
        Arrows::Gpus
    }

    fn draw(&self, scene: Scene<'_>, area: Rect, buffer: &mut Buffer) {
        let (width, height) = (usize::from(area.width), usize::from(area.height));
        let gpus = gpus(scene.snapshot);
        let Some(selected) = gpus.get(scene.app.gpu_index()) else {
            put(&none::lines(scene, width), area, buffer);
            return;
        };
        if scene.app.detail() {
            let lines = detail::whole(scene, selected, width, height);
            let top = scene.app.scroll().clipped(lines.len().saturating_sub(height));
            put(&lines[top..], area, buffer);
            return;
        }
        let wanted = list::height(gpus.len());
        let unseen = list::unseen(scene, width).filter(|_| height > 2);
        let mut lines = list::lines(scene, &gpus, width, wanted.min(height - usize::from(unseen.is_some())));
        lines.extend(unseen);
        let room = height.saturating_sub(lines.len());
        if room >= detail::LEAST {
            lines.extend(detail::fitting(scene, selected, width, room));
        }
        put(&lines, area, buffer);
    }
}

#[cfg(test)]
mod tests;
