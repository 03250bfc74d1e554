//! Reading the kernel: files that stay open, bytes that are scanned in place, counters that never go back.

pub(crate) mod activity;
pub(crate) mod control_group;
pub(crate) mod core_steps;
pub(crate) mod counter;
pub(crate) mod cpu_clock;
pub(crate) mod cpu_mask;
pub(crate) mod cpu_times;
pub(crate) mod folder;
pub(crate) mod followed_group;
pub(crate) mod held;
pub(crate) mod parse;
pub(crate) mod process_tree;
pub(crate) mod roster;
pub(crate) mod threads;
