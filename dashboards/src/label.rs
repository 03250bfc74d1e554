//! The labels that queries group and select by, each from the attribute that it comes from.

use perfwatch_model::prometheus::label_name;

/// A label of a series in Prometheus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Label {
    /// Of the resource: `service.name` of the agent.
    Job,
    /// Of the resource: `service.instance.id` of the agent, the host's name.
    Instance,
    /// An attribute of the point.
    Of(&'static str),
}

impl Label {
    /// As queries write it.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Job => "job".to_owned(),
            Self::Instance => "instance".to_owned(),
            Self::Of(attribute) => label_name(attribute),
        }
    }

    /// As a legend shows its value.
    pub(crate) fn shown(self) -> String {
        format!("{{{{{}}}}}", self.name())
    }
}

/// What a server is called.
pub(crate) const SERVER: Label = Label::Of("perfwatch.server.name");
/// Which of the servers of that name.
pub(crate) const SERVER_INSTANCE: Label = Label::Of("perfwatch.server.instance");
/// Part of a request's life.
pub(crate) const STAGE: Label = Label::Of("perfwatch.stage");
/// What a server as a whole is doing.
pub(crate) const STATE: Label = Label::Of("perfwatch.state");
/// How a request or a look-up ended.
pub(crate) const OUTCOME: Label = Label::Of("perfwatch.outcome");
/// Why a request failed.
pub(crate) const ERROR: Label = Label::Of("error.type");
/// Read or generated.
pub(crate) const TOKEN: Label = Label::Of("gen_ai.token.type");
/// What kind of device.
pub(crate) const DEVICE: Label = Label::Of("perfwatch.device.kind");
/// What a device's time was used for or lost to.
pub(crate) const CAUSE: Label = Label::Of("perfwatch.device.cause");
/// Which finding.
pub(crate) const FINDING: Label = Label::Of("perfwatch.finding.id");
/// Which GPU: its UUID.
pub(crate) const GPU: Label = Label::Of("hw.id");
/// How bad it is.
pub(crate) const SEVERITY: Label = Label::Of("perfwatch.finding.severity");
/// What CPU time was used for.
pub(crate) const CPU_MODE: Label = Label::Of("cpu.mode");
/// What memory is used for.
pub(crate) const MEMORY_STATE: Label = Label::Of("system.memory.state");
/// What tasks waited for.
pub(crate) const RESOURCE: Label = Label::Of("perfwatch.pressure.resource");
/// Whether some or all of them did.
pub(crate) const PRESSURE: Label = Label::Of("perfwatch.pressure.kind");
/// Which control group; empty for the machine as a whole.
pub(crate) const CGROUP: Label = Label::Of("perfwatch.cgroup.id");
/// Why something was dropped.
pub(crate) const REASON: Label = Label::Of("perfwatch.reason");
/// Whether a disk was read or written.
pub(crate) const DISK_DIRECTION: Label = Label::Of("disk.io.direction");
/// Whether packets came or went.
pub(crate) const NETWORK_DIRECTION: Label = Label::Of("network.io.direction");
