//! The screen on a real terminal: a pseudo-terminal whose other end is this test.
