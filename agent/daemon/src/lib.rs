//! The agent: wires probes, store, diagnosis and export together and serves the local API.
