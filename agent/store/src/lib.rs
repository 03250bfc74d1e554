//! Keeps ticks: a ring in memory and the cursors that read it.
