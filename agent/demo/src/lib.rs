//! A small real model server with a load generator and injectable faults: an ordinary client of the SDK.
//!
//! [`Demo`] runs a demonstration from start to end and leaves room in between for the agent that is demonstrated:
//!
//! - [`net`]: the neural network, evaluated on the CPU;
//! - [`server`]: the model server around it, a process of its own;
//! - [`load`]: the load generator; [`calibrate`] finds with it what the server can do;
//! - [`faults`]: what can be made wrong, one file each.
//!
//! [`replays`] are recordings for who has no GPU: nothing is started for them.
//!
//! Nothing here prints: progress goes to a callback, results are values.

pub mod calibrate;
mod child;
mod clock;
mod demo;
mod error;
pub mod faults;
pub mod load;
pub mod net;
mod placement;
pub mod replays;
mod report;
pub mod rng;
pub mod server;
mod usage;
pub mod work;

pub use calibrate::Capacity;
pub use child::Program;
pub use demo::{Demo, DemoOptions};
pub use error::DemoError;
pub use faults::Fault;
pub use placement::Placement;
pub use report::{Bite, DemoReport, Reference};
pub use usage::Usage;
