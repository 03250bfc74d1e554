//! Where numbers come from: host and GPU probes. Synchronous, no printing.
