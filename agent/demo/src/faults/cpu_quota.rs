//! A CPU limit below what the load needs.

use super::{Fault, Group};
use crate::error::DemoError;

/// Cores that the server may use on average: half of what the default load takes.
const CORES: f64 = 0.3;

/// The server's control group may use less CPU time than the load needs.
#[derive(Debug)]
pub(super) struct CpuQuota;

impl Fault for CpuQuota {
    fn name(&self) -> &'static str {
        "cpu-quota"
    }

    fn brief(&self) -> &'static str {
        "The server's control group may use 0.3 of a core."
    }

    fn check(&self) -> Result<(), DemoError> {
        // Made and removed: the only reliable way to know.
        Group::create(self.name(), CORES).map(drop)
    }

    fn confine(&self, pid: u32) -> Result<Option<Group>, DemoError> {
        let group = Group::create(self.name(), CORES)?;
        group.hold(pid)?;
        Ok(Some(group))
    }
}
