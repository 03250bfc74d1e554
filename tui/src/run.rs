//! The loop: keys, signals and snapshots come in, frames go out.

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use crossterm::event::Event as TerminalEvent;
use rustix::event::{PollFd, PollFlags, Timespec};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGTSTP};
use signal_hook::iterator::Signals;

use crate::app::{App, Effect, Event};
use crate::feed::{Control, Feed, FeedEvent};
use crate::screen;
use crate::terminal::Screen;
use crate::theme::Theme;

/// No more than ten frames a second: nobody reads faster, and a terminal over a slow line keeps up.
const FRAME: Duration = Duration::from_millis(100);
/// How often to look whether the feed still speaks.
const QUIET: Duration = Duration::from_secs(1);
/// How long the thread that reads keys waits before it looks whether it should end.
const KEYS: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

/// How the screen looks and ends.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Colours and glyphs; see [`Theme::detect`].
    pub theme: Theme,
    /// End when the feed ends, as a demo of a given duration does. Otherwise the last frame stays until `q`.
    pub quit_at_end: bool,
    /// Number of the view to begin with, from 0.
    pub view: usize,
}

/// Why the screen ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Somebody pressed `q` or `^C`.
    Quit,
    /// The feed ended and [`Options::quit_at_end`] was set.
    Ended,
    /// This signal arrived. A shell expects the exit code 128 + n.
    Signal(i32),
}

/// Why there was no screen, or no longer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Standard input or output is a file, a pipe, or nothing.
    #[error("cannot draw a live screen: {0} is not a terminal; `--once` prints one frame as text")]
    NotATerminal(&'static str),
    /// The terminal failed.
    #[error("cannot use the terminal: {0}")]
    Terminal(#[from] io::Error),
}

enum Input {
    App(Event),
    Signal(i32),
    Failed(io::Error),
}

/// Shows what `feed` brings until somebody quits. Takes the terminal, and gives it back however this ends: return, error,
/// panic, SIGTERM, SIGHUP, SIGINT or `^Z`.
///
/// The feed runs on a thread of its own; when the screen ends first, that thread ends at its next event.
pub fn run(feed: impl Feed + 'static, options: &Options) -> Result<Exit, Error> {
    if !io::stdin().is_terminal() {
        return Err(Error::NotATerminal("standard input"));
    }
    if !io::stdout().is_terminal() {
        return Err(Error::NotATerminal("standard output"));
    }
    // crossterm looks at NO_COLOR itself; a theme that was asked for by name wins over it.
    crossterm::style::force_color_output(options.theme.has_colour());
    let mut signals = Signals::new([SIGTERM, SIGHUP, SIGINT, SIGTSTP])?;
    let on_signal = signals.handle();
    let (sender, inputs) = channel();
    let controls = feed.controls();
    let reading = Arc::new(AtomicBool::new(true));
    let screen = Screen::take()?;
    spawn("perfwatch-signals", sender.clone(), move |sender| {
        for signal in signals.forever() {
            if sender.send(Input::Signal(signal)).is_err() {
                return;
            }
        }
    })?;
    spawn("perfwatch-feed", sender.clone(), move |sender| follow(feed, sender))?;
    let still = Arc::clone(&reading);
    let keys = spawn("perfwatch-keys", sender, move |sender| read_keys(sender, &still))?;
    let ended = interact(screen, &inputs, controls.as_ref(), options);
    reading.store(false, Ordering::Relaxed);
    on_signal.close();
    // The terminal must not be read any more once the shell has it again.
    drop(keys.join());
    ended
}

fn spawn(
    name: &str,
    sender: Sender<Input>,
    work: impl FnOnce(&Sender<Input>) + Send + 'static,
) -> io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().name(name.to_owned()).spawn(move || work(&sender))
}

/// Says that the feed is over even when it panics, so that nobody waits for it.
struct LastWord<'a>(&'a Sender<Input>);

impl Drop for LastWord<'_> {
    fn drop(&mut self) {
        // Nobody listens when the screen ended first.
        drop(self.0.send(Input::App(Event::Feed(FeedEvent::Ended))));
    }
}

fn follow(mut feed: impl Feed, sender: &Sender<Input>) {
    let _last_word = LastWord(sender);
    loop {
        let event = feed.next();
        if matches!(event, FeedEvent::Ended) || sender.send(Input::App(Event::Feed(event))).is_err() {
            return;
        }
    }
}

fn read_keys(sender: &Sender<Input>, still: &AtomicBool) {
    while still.load(Ordering::Relaxed) {
        if is_gone() {
            // Nobody may have been told by a signal: it goes to the session that the terminal controls.
            let _ = sender.send(Input::Signal(SIGHUP));
            return;
        }
        while let Some(event) = waiting_event().transpose() {
            let input = match event {
                Ok(TerminalEvent::Key(key)) => Input::App(Event::Key(key)),
                Ok(TerminalEvent::Resize(..)) => Input::App(Event::Resize),
                Ok(_) => continue,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Input::Failed(error),
            };
            let failed = matches!(input, Input::Failed(_));
            if sender.send(input).is_err() || failed {
                return;
            }
        }
    }
}

/// Waits for a key, for a while, and tells whether the terminal was hung up. crossterm must not be asked then: it reads the
/// end of the input without end.
fn is_gone() -> bool {
    let stdin = io::stdin();
    let mut keys = [PollFd::new(&stdin, PollFlags::IN)];
    let gone = PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL;
    rustix::event::poll(&mut keys, Some(&KEYS)).is_ok() && keys[0].revents().intersects(gone)
}

fn waiting_event() -> io::Result<Option<TerminalEvent>> {
    Ok(if crossterm::event::poll(Duration::ZERO)? { Some(crossterm::event::read()?) } else { None })
}

fn interact(
    mut screen: Screen,
    inputs: &Receiver<Input>,
    controls: Option<&Sender<Control>>,
    options: &Options,
) -> Result<Exit, Error> {
    let mut app = App::showing(options.view, options.quit_at_end);
    let mut due = true;
    let mut drawn: Option<Instant> = None;
    let mut heard = now();
    loop {
        let wait = if due { drawn.map_or(Duration::ZERO, |at| FRAME.saturating_sub(since(at))) } else { Duration::MAX };
        if due && wait.is_zero() {
            screen.draw(|buffer| screen::draw(&app, options.theme, true, buffer))?;
            drawn = Some(now());
            due = false;
            continue;
        }
        let input = match inputs.recv_timeout(wait.min(QUIET)) {
            Ok(input) => input,
            Err(RecvTimeoutError::Timeout) => Input::App(Event::Quiet(since(heard))),
            Err(RecvTimeoutError::Disconnected) => return Ok(Exit::Ended),
        };
        let effect = match input {
            Input::App(event) => {
                let ended = matches!(event, Event::Feed(FeedEvent::Ended));
                if matches!(event, Event::Feed(_)) {
                    heard = now();
                }
                match app.update(event) {
                    Effect::Quit => return Ok(if ended { Exit::Ended } else { Exit::Quit }),
                    effect => effect,
                }
            }
            Input::Signal(SIGTSTP) => Effect::Suspend,
            Input::Signal(signal) => return Ok(Exit::Signal(signal)),
            Input::Failed(error) => return Err(error.into()),
        };
        match effect {
            Effect::None | Effect::Quit => {}
            Effect::Steer(control) => {
                if let Some(controls) = controls {
                    // A feed that has ended cannot be steered.
                    let _ = controls.send(control);
                }
                due = true;
            }
            Effect::Draw => due = true,
            Effect::Redraw => {
                screen.forget()?;
                due = true;
            }
            Effect::Suspend => {
                screen.suspend()?;
                due = true;
            }
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "the pace of frames is real time; nothing shown depends on it")]
fn now() -> Instant {
    Instant::now()
}

fn since(at: Instant) -> Duration {
    now().saturating_duration_since(at)
}

/// Draws one interactive frame of this state into a whole buffer, as [`run`] does.
pub fn draw(app: &App, theme: Theme, buffer: &mut ratatui::buffer::Buffer) {
    screen::draw(app, theme, true, buffer);
}
