//! A small real model server with a load generator and injectable faults: an ordinary client of the SDK.

pub mod clock;
pub mod net;
pub mod rng;
