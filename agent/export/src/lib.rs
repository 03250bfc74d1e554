//! Ships ticks and findings to other systems over OTLP.
