//! The CPU control group of one process, followed when the process is moved to another.

use std::path::Path;

use super::control_group::{CpuDenied, CpuGroup, CpuGroupSample, Mounts};
use super::held::HeldFile;
use super::threads::{Scratch, process_folder};

/// The group that a server's leading process is in.
#[derive(Default)]
pub(crate) struct FollowedGroup {
    leader: Option<u32>,
    membership: Option<HeldFile>,
    seen: Vec<u8>,
    cpu: Option<CpuGroup>,
    /// What groups that were left had denied by then.
    before: CpuDenied,
    last: CpuDenied,
}

impl FollowedGroup {
    /// Takes one look; `None` when the group is not in sight. What was denied adds up over all groups it was in.
    pub(crate) fn sample(
        &mut self,
        leader: Option<u32>,
        proc: &Path,
        mounts: Option<&Mounts>,
        scratch: &mut Scratch,
    ) -> Option<CpuGroupSample> {
        if leader != self.leader {
            self.leader = leader;
            // Its group may have the same name and be another: the files of one that is gone say nothing any more.
            self.seen.clear();
            self.membership = leader.and_then(|pid| HeldFile::open(&process_folder(proc, pid).join("cgroup")).ok());
        }
        let text = self.membership.as_ref()?.read(&mut scratch.text).ok()?;
        if text != self.seen {
            self.seen.clear();
            self.seen.extend_from_slice(text);
            self.before = self.last;
            let location = std::str::from_utf8(text).ok().and_then(|text| mounts?.locate(text, "cpu"));
            self.cpu = location.map(|location| CpuGroup::open(&location, None));
        }
        let mut sample = self.cpu.as_mut()?.sample(&mut scratch.text);
        sample.denied = self.before.plus(sample.denied);
        self.last = sample.denied;
        Some(sample)
    }
}
