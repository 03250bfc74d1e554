//! The terminal UI of perfwatch: a library with one entry point, [`run()`], that draws what a [`Feed`] brings.
//!
//! It knows [`perfwatch_model::Snapshot`] and nothing else about the agent: the live screen, [`render_once`], the
//! pasteable [`card()`] all read that one document, over a socket or in the same process. Every
//! string in it comes from somewhere else, so it passes [`plain`] before anything is drawn, and no escape sequence of
//! another program ever reaches the terminal.
//!
//! To add a view, write one file in [`views`] and add two lines to its `mod.rs`; to add a key, add a row to [`keys`].

pub mod api;
pub mod app;
pub mod card;
pub mod feed;
#[cfg(test)]
mod fixtures;
pub mod gaps;
mod gpus;
mod held_down;
pub mod history;
pub mod inventory;
pub mod keys;
mod line;
mod once;
mod parts;
pub mod plain;
mod run;
mod screen;
pub mod scroll;
mod terminal;
pub mod theme;
mod units;
pub mod views;
pub mod widgets;
mod wording;

pub use api::ApiError;
pub use card::{CardOptions, card};
pub use feed::{
    ChannelFeed, Control, Feed, FeedEvent, Goto, LiveFeed, Recording, ReplayFeed, ReplayState, ScriptedFeed, Shot,
};
pub use once::render_once;
pub use run::{Error, Exit, Options, draw, run};
pub use theme::{Theme, ThemeName};
