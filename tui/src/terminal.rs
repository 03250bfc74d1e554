//! The terminal: taken politely, given back in every case.
//!
//! It is given back when [`Screen`] is dropped, before a panic of the drawing thread is printed, and around `^Z`. A panic
//! of another thread must not write into the picture: its message is held back until the screen is.

use std::io::{self, BufWriter, Stdout, Write};
use std::sync::Mutex;
use std::sync::Once;
use std::thread::{self, ThreadId};

use crossterm::cursor::{Hide, Show};
use crossterm::terminal::{
    BeginSynchronizedUpdate, EndSynchronizedUpdate, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode,
    enable_raw_mode,
};
use crossterm::{execute, queue};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

/// The thread that owns the screen, while one does, and what other threads wanted to print meanwhile.
static OWNER: Mutex<Option<Owner>> = Mutex::new(None);

struct Owner {
    thread: ThreadId,
    held_back: Vec<String>,
}

/// The alternate screen in raw mode, until it is dropped.
pub(crate) struct Screen {
    terminal: Terminal<CrosstermBackend<BufWriter<Stdout>>>,
}

impl Screen {
    /// Takes the terminal.
    pub(crate) fn take() -> io::Result<Self> {
        hook_panics();
        enter()?;
        // One write per frame: a whole one at 200×60 is about 20 KB.
        let out = BufWriter::with_capacity(64 << 10, io::stdout());
        match Terminal::new(CrosstermBackend::new(out)) {
            Ok(terminal) => Ok(Self { terminal }),
            Err(error) => {
                leave();
                Err(error)
            }
        }
    }

    /// Draws one frame, which terminals that know synchronised output show at once or not at all.
    pub(crate) fn draw(&mut self, paint: impl FnOnce(&mut Buffer)) -> io::Result<()> {
        queue!(self.terminal.backend_mut(), BeginSynchronizedUpdate)?;
        self.terminal.draw(|frame| paint(frame.buffer_mut()))?;
        queue!(self.terminal.backend_mut(), EndSynchronizedUpdate)?;
        self.terminal.backend_mut().flush()
    }

    /// Forgets what is on the terminal, so that the next frame is drawn whole.
    pub(crate) fn forget(&mut self) -> io::Result<()> {
        // Not `clear`, which asks the terminal where its cursor is: the answer would come among the keys.
        let size = self.terminal.size()?;
        self.terminal.resize(Rect::new(0, 0, size.width, size.height))
    }

    /// Gives the terminal back, stops the process as the shell expects, and takes the terminal again once continued.
    pub(crate) fn suspend(&mut self) -> io::Result<()> {
        leave();
        signal_hook::low_level::emulate_default_handler(signal_hook::consts::SIGTSTP)?;
        enter()?;
        self.forget()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        leave();
    }
}

fn enter() -> io::Result<()> {
    enable_raw_mode()?;
    *owner() = Some(Owner { thread: thread::current().id(), held_back: Vec::new() });
    if let Err(error) = execute!(io::stdout(), EnterAlternateScreen, Hide) {
        leave();
        return Err(error);
    }
    Ok(())
}

/// Restores everything that can be; a terminal that went away cannot be complained to.
fn leave() {
    let Some(owner) = owner().take() else { return };
    drop(execute!(io::stdout(), EndSynchronizedUpdate, LeaveAlternateScreen, Show));
    drop(disable_raw_mode());
    for message in owner.held_back {
        drop(writeln!(io::stderr(), "{message}"));
    }
}

fn owner() -> std::sync::MutexGuard<'static, Option<Owner>> {
    // Whoever panicked with the lock held left a complete value behind.
    OWNER.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn hook_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            {
                let mut owner = owner();
                if let Some(owner) = owner.as_mut().filter(|owner| owner.thread != thread::current().id()) {
                    owner.held_back.push(panic.to_string());
                    return;
                }
            }
            leave();
            before(panic);
        }));
    });
}

#[cfg(test)]
mod tests;
