//! The metric catalogue. Probes, rules, views, exporters and dashboards name a metric by its constant here.

pub mod agent;
pub mod device;
pub mod export;
pub mod finding;
pub mod gpu;
pub mod host;
pub mod io;
pub mod process;
pub mod server;

use crate::MetricDef;

/// Every metric there is: what is measured, each followed by its peak where export makes one of it.
pub fn all() -> impl Iterator<Item = &'static MetricDef> {
    [host::ALL, io::ALL, process::ALL, server::ALL, gpu::ALL, device::ALL, agent::ALL, export::ALL, finding::ALL]
        .into_iter()
        .flat_map(with_peaks)
}

fn with_peaks(measured: &'static [&'static MetricDef]) -> impl Iterator<Item = &'static MetricDef> {
    measured.iter().flat_map(|metric| std::iter::once(*metric).chain(metric.peak))
}

/// The metric with this name.
pub fn find(name: &str) -> Option<&'static MetricDef> {
    all().find(|metric| metric.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_safe_everywhere() {
        let mut names: Vec<_> = all().map(|metric| metric.name).collect();
        for name in &names {
            assert!(
                name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.' || b == b'_'),
                "{name}"
            );
        }
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "two metrics share a name");
    }

    #[test]
    fn every_brief_is_a_sentence() {
        for metric in all() {
            assert!(metric.brief.ends_with('.') && metric.brief.starts_with(char::is_uppercase), "{}", metric.name);
        }
    }

    #[test]
    fn every_constant_is_listed() {
        for (file, listed) in [
            (include_str!("host.rs"), host::ALL),
            (include_str!("io.rs"), io::ALL),
            (include_str!("process.rs"), process::ALL),
            (include_str!("server.rs"), server::ALL),
            (include_str!("gpu.rs"), gpu::ALL),
            (include_str!("device.rs"), device::ALL),
            (include_str!("agent.rs"), agent::ALL),
            (include_str!("export.rs"), export::ALL),
            (include_str!("finding.rs"), finding::ALL),
        ] {
            // A metric's name is the first string after its constant's type.
            let constants = file.split(": MetricDef =").skip(1).map(|text| text.split('"').nth(1).expect("a name"));
            let listed: Vec<_> = with_peaks(listed).map(|metric| metric.name).collect();
            assert_eq!(
                constants.collect::<Vec<_>>(),
                listed,
                "ALL has every constant of its file but peaks, in the file's order; a peak follows its metric"
            );
        }
    }
}
