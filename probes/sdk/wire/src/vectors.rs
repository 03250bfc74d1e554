//! Messages byte by byte, as they must leave and be understood, for implementers of the protocol and for tests.
//!
//! `vectors.txt` beside `perfwatch.proto` holds them, each on a line: its name and its bytes in hexadecimal, length prefix
//! included. `tests/vectors.rs` says what is in them. Those of a release are never changed: they are what old peers say.

/// All vectors, as published.
pub const VECTORS: &str = include_str!("../vectors.txt");

/// The bytes of the vector with this name.
///
/// # Panics
/// When there is none: the names are part of the program that asks.
pub fn bytes(name: &str) -> Vec<u8> {
    let hex = VECTORS.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).map(str::trim);
    let Some(hex) = hex else { panic!("there is no vector `{name}`") };
    (0..hex.len() / 2).filter_map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).ok()).collect()
}
