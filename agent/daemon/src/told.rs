//! What is logged, for tests.

use std::io::Write;
use std::sync::{Arc, Mutex};

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no panic").write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The lines that are logged meanwhile, without their times.
pub(crate) fn lines(play: impl FnOnce()) -> Vec<String> {
    let written = Written::default();
    let to = written.clone();
    let subscriber =
        tracing_subscriber::fmt().without_time().with_target(false).with_ansi(false).with_writer(move || to.clone());
    tracing::subscriber::with_default(subscriber.finish(), play);
    let written = written.0.lock().expect("no panic");
    std::str::from_utf8(&written).expect("UTF-8").lines().map(|line| line.trim().to_owned()).collect()
}
