//! The shared words of perfwatch: metrics, entities, readings, ticks, histograms, ledgers, findings, snapshots.
