//! The terminal UI of perfwatch: a library with one entry point.
