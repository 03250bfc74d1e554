//! `perfwatch dashboards`: what Grafana and Prometheus take.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;

use crate::failure::{Failure, print};

/// Grafana dashboards and Prometheus rules for what perfwatch sends.
#[derive(Debug, clap::Args)]
pub(crate) struct Dashboards {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Write the dashboards and rules of this version.
    ///
    /// Writes grafana/*.json, to be imported into Grafana or provisioned as files, and prometheus/rules.yml, recording
    /// rules and alerts for `rule_files` of Prometheus. Files that are there are overwritten; prints what was written.
    ///
    /// The dashboards ask for metrics by the names that Prometheus' OTLP receiver gives them (translation strategy
    /// `UnderscoreEscapingWithSuffixes`, its default) and for native histograms.
    Export {
        /// Folder to write into; made if it is not there.
        #[arg(short, long, value_name = "DIR", default_value = "dashboards")]
        output: PathBuf,
    },
}

impl Dashboards {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        let What::Export { output } = self.what;
        for file in perfwatch_dashboards::files() {
            let path = output.join(file.path);
            write(&path, &file.text)
                .map_err(|error| Failure::usage(error).hint(Some("choose a folder that you may write with -o")))?;
            print(&format!("{}\n", path.display()))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
