//! Turns ticks into facts, facts into ledgers, ledgers into findings. Pure: no I/O, no clock.
