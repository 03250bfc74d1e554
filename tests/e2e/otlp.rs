//! What leaves over OTLP, received by a receiver of our own.
