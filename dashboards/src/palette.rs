//! One colour for one meaning, on every dashboard.

/// Colours by what a legend says.
pub(crate) type Colours = &'static [(&'static str, &'static str)];

/// Causes of a device's ledger and their colours: what was used is green, what demand waited for is warm, what nobody asked
/// for is grey.
pub(crate) const CAUSES: Colours = &[
    ("used", "green"),
    ("compute", "dark-green"),
    ("memory_bandwidth", "light-green"),
    ("busy_unknown", "super-light-green"),
    ("sm_stalled", "dark-yellow"),
    ("sm_idle_resident", "semi-dark-orange"),
    ("throttled", "semi-dark-red"),
    ("other_tenant", "light-red"),
    ("host_compute", "blue"),
    ("quota", "dark-red"),
    ("run_queue_wait", "red"),
    ("steal", "dark-purple"),
    ("unused_parallelism", "light-blue"),
    ("starved.queue", "dark-orange"),
    ("starved.preprocess", "yellow"),
    ("starved.data_load", "orange"),
    ("starved.batch_wait", "light-orange"),
    ("starved.transfer", "purple"),
    ("starved.postprocess", "light-yellow"),
    ("starved.send", "super-light-yellow"),
    ("starved.other", "super-light-orange"),
    ("no_demand", "#5a5f66"),
    ("idle", "#72777d"),
    ("idle_unknown", "#8e8e8e"),
    ("unknown", "#c0c0c0"),
];

/// Stages and states and theirs.
pub(crate) const STAGES: Colours = &[
    ("queue", "dark-orange"),
    ("preprocess", "yellow"),
    ("data_load", "orange"),
    ("batch_wait", "light-orange"),
    ("transfer", "purple"),
    ("compute", "green"),
    ("prefill", "light-green"),
    ("decode", "dark-green"),
    ("postprocess", "light-yellow"),
    ("send", "light-blue"),
    ("other", "#8e8e8e"),
    ("none", "#5a5f66"),
];

/// How requests end.
pub(crate) const OUTCOMES: Colours =
    &[("completed", "green"), ("failed", "red"), ("cancelled", "yellow"), ("abandoned", "dark-orange")];

/// Severities of findings.
pub(crate) const SEVERITIES: Colours = &[("note", "blue"), ("warning", "orange"), ("critical", "red")];

#[cfg(test)]
mod tests {
    use super::*;
    use perfwatch_diagnose::ledger;
    use perfwatch_model::{Stage, State};

    fn has(colours: Colours, name: &str) -> bool {
        colours.iter().any(|(known, _)| *known == name)
    }

    #[test]
    fn every_stage_and_state_has_a_colour() {
        for name in Stage::all().filter_map(Stage::name).chain(State::ALL.iter().map(|state| state.name())) {
            assert!(has(STAGES, name), "{name}");
        }
    }

    #[test]
    fn every_cause_of_a_device_ledger_has_a_colour() {
        let fixed = [ledger::USED, ledger::QUOTA, ledger::RUN_QUEUE_WAIT, ledger::STEAL];
        let gpu = [
            ledger::COMPUTE,
            ledger::MEMORY_BANDWIDTH,
            ledger::BUSY_UNKNOWN,
            ledger::SM_STALLED,
            ledger::SM_IDLE_RESIDENT,
            ledger::THROTTLED,
        ];
        let rest = [ledger::IDLE_UNKNOWN, ledger::UNKNOWN];
        for name in
            fixed.into_iter().chain(gpu).chain(rest).chain(State::ALL.iter().map(|state| ledger::idle_cause(*state)))
        {
            assert!(has(CAUSES, name), "{name}");
        }
    }
}
