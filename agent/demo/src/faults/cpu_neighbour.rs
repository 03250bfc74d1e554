//! Somebody else's work on the server's core.

use super::Fault;
use crate::child::{Program, Tied};
use crate::error::DemoError;
use crate::placement::Placement;

/// A busy process shares the server's core.
#[derive(Debug)]
pub(super) struct CpuNeighbour;

impl Fault for CpuNeighbour {
    fn name(&self) -> &'static str {
        "cpu-neighbour"
    }

    fn brief(&self) -> &'static str {
        "Another process keeps the server's core busy."
    }

    fn disturb(&self, program: &Program, placement: &Placement) -> Result<Option<Tied>, DemoError> {
        let mut args = program.work.clone();
        args.extend(["--cpu".into(), placement.server.to_string().into()]);
        Tied::spawn(&program.executable, args, std::path::Path::new("/")).map(Some)
    }
}
