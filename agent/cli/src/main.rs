//! The `perfwatch` binary.

fn main() {}
