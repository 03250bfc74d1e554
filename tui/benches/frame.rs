//! What one frame costs: the goal is at most 1 ms for a full 200×60 frame, to the bytes that a terminal gets.

#![allow(missing_docs, reason = "criterion's macros make undocumented items")]

use std::hint::black_box;
use std::io::{self, Write};
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use perfwatch_tui::app::{App, Event};
use perfwatch_tui::{FeedEvent, Theme, draw};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::{TerminalOptions, Viewport};

#[allow(dead_code, reason = "a benchmark needs only some of the fixtures that the tests need")]
#[path = "../src/fixtures.rs"]
mod fixtures;

/// Counts what a terminal would have got.
#[derive(Default)]
struct Sink(usize);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn frames(criterion: &mut Criterion) {
    let area = Rect::new(0, 0, 200, 60);
    let mut app = App::new(false);
    let minutes = fixtures::minutes_before(&fixtures::everything());
    for snapshot in &minutes {
        app.update(Event::Feed(FeedEvent::Snapshot(Arc::new(snapshot.clone()))));
    }
    let mut group = criterion.benchmark_group("frame_200x60");
    group.bench_function("into_a_buffer", |bencher| {
        let mut buffer = Buffer::empty(area);
        bencher.iter(|| {
            buffer.reset();
            draw(&app, Theme::default(), black_box(&mut buffer));
        });
    });
    for (name, whole) in [("whole_to_bytes", true), ("changes_to_bytes", false)] {
        group.bench_function(name, |bencher| {
            let options = TerminalOptions { viewport: Viewport::Fixed(area) };
            let backend = CrosstermBackend::new(Sink::default());
            let mut terminal = Terminal::with_options(backend, options).expect("a sink never fails");
            let mut at = 0;
            bencher.iter(|| {
                // A new second: take in a snapshot, draw, write what changed (or everything).
                let snapshot = Arc::new(minutes[at % minutes.len()].clone());
                at += 1;
                app.update(Event::Feed(FeedEvent::Snapshot(snapshot)));
                if whole {
                    terminal.clear().expect("a sink never fails");
                }
                terminal.draw(|frame| draw(&app, Theme::default(), frame.buffer_mut())).expect("a sink never fails");
            });
        });
    }
    group.finish();
}

criterion_group!(benches, frames);
criterion_main!(benches);
