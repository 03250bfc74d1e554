//! What one frame costs: the goal is at most 1 ms for a full 200×60 frame, to the bytes that a terminal gets.

#![allow(missing_docs, reason = "criterion's macros make undocumented items")]

use std::hint::black_box;
use std::io::{self, Write};
use std::sync::Arc;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use crossterm::event::{KeyCode, KeyEvent};
use perfwatch_tui::app::{App, Event};
use perfwatch_tui::{FeedEvent, Theme, draw};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::{TerminalOptions, Viewport};

#[path = "../src/fixtures/mod.rs"]
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
    group.bench_function("latency_into_a_buffer", |bencher| {
        let mut app = App::new(false);
        for snapshot in fixtures::minutes_before(&fixtures::bimodal()) {
            app.update(Event::Feed(FeedEvent::Snapshot(Arc::new(snapshot))));
        }
        app.update(Event::Key(KeyEvent::from(KeyCode::Char('2'))));
        let mut buffer = Buffer::empty(area);
        bencher.iter(|| {
            buffer.reset();
            draw(&app, Theme::default(), black_box(&mut buffer));
        });
    });
    let terminal = || {
        let options = TerminalOptions { viewport: Viewport::Fixed(area) };
        Terminal::with_options(CrosstermBackend::new(Sink::default()), options).expect("a sink never fails")
    };
    // The first frame, or one after a resize: nothing is on the terminal yet.
    group.bench_function("whole_to_bytes", |bencher| {
        bencher.iter_batched(
            terminal,
            |mut terminal| {
                terminal.draw(|frame| draw(&app, Theme::default(), frame.buffer_mut())).expect("a sink never fails");
                terminal
            },
            BatchSize::SmallInput,
        );
    });
    // A new second: take in a snapshot, draw, write what changed.
    group.bench_function("second_to_bytes", |bencher| {
        let mut app = App::new(false);
        let mut terminal = terminal();
        let mut at = 0;
        bencher.iter(|| {
            let snapshot = Arc::new(minutes[at % minutes.len()].clone());
            at += 1;
            app.update(Event::Feed(FeedEvent::Snapshot(snapshot)));
            terminal.draw(|frame| draw(&app, Theme::default(), frame.buffer_mut())).expect("a sink never fails");
        });
    });
    group.finish();
}

criterion_group!(benches, frames);
criterion_main!(benches);
