//! Tests of the whole SDK, with time under their control and a scripted agent at the other end.
