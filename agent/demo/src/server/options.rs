//! How the server runs: ordinary options of an ordinary server.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use crate::error::DemoError;

/// Options of the demo's model server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerOptions {
    /// Seed of weights, vocabulary and features.
    pub seed: u64,
    /// Folder for the feature file.
    pub data: PathBuf,
    /// Most requests computed together, at least 1.
    pub max_batch: usize,
    /// How long the first request of a batch waits for others.
    pub max_wait: Duration,
    /// Threads that preprocess and load data, at least 1.
    pub loaders: usize,
    /// How long the feature store takes to answer.
    pub store_latency: Duration,
    /// Requests in the server at once; more are refused with 503. Bounds its memory: about 8 KiB each.
    pub max_pending: u64,
    /// The CPU to stay on.
    pub cpu: Option<usize>,
}

impl ServerOptions {
    /// A healthy server that keeps its feature file in `data`.
    pub fn new(data: PathBuf, seed: u64) -> Self {
        Self {
            seed,
            data,
            max_batch: 8,
            // Far below one evaluation: enough for requests that were being prepared together to leave together.
            max_wait: Duration::from_millis(1),
            // With the store's 1 ms, loaders for 16,000 requests/s: never what a healthy server waits for.
            loaders: 16,
            store_latency: Duration::from_millis(1),
            // Half a minute of the fastest server's overload at ρ 1.3.
            max_pending: 16_384,
            cpu: None,
        }
    }

    /// The command line that says the same.
    pub fn to_args(&self) -> Vec<OsString> {
        let mut args: Vec<OsString> = vec!["--data".into(), self.data.clone().into()];
        let mut push = |name: &str, value: u64| args.extend([name.into(), value.to_string().into()]);
        push("--seed", self.seed);
        push("--max-batch", self.max_batch as u64);
        push("--max-wait-us", self.max_wait.as_micros() as u64);
        push("--loaders", self.loaders as u64);
        push("--store-latency-us", self.store_latency.as_micros() as u64);
        push("--max-pending", self.max_pending);
        if let Some(cpu) = self.cpu {
            push("--cpu", cpu as u64);
        }
        args
    }

    /// Reads a command line.
    pub fn from_args(args: impl IntoIterator<Item = OsString>) -> Result<Self, DemoError> {
        let usage = |what: String| DemoError::Usage(what);
        let mut options = Self::new(PathBuf::new(), 0);
        let mut args = args.into_iter();
        while let Some(name) = args.next() {
            let value = args.next().ok_or_else(|| usage(format!("{} needs a value", name.display())))?;
            if name == "--data" {
                options.data = value.into();
                continue;
            }
            let number = value.to_str().and_then(|value| value.parse::<u64>().ok());
            let number = number
                .ok_or_else(|| usage(format!("{} needs a whole number, not `{}`", name.display(), value.display())))?;
            match name.to_str() {
                Some("--seed") => options.seed = number,
                Some("--max-batch") => options.max_batch = at_least_1(&name, number)?,
                Some("--max-wait-us") => options.max_wait = Duration::from_micros(number),
                Some("--loaders") => options.loaders = at_least_1(&name, number)?,
                Some("--store-latency-us") => options.store_latency = Duration::from_micros(number),
                Some("--max-pending") => options.max_pending = number,
                Some("--cpu") => options.cpu = Some(number as usize),
                _ => return Err(usage(format!("unknown option {} for the demo's server", name.display()))),
            }
        }
        if options.data.as_os_str().is_empty() {
            return Err(usage("the demo's server needs --data <folder>".into()));
        }
        Ok(options)
    }
}

fn at_least_1(name: &OsStr, number: u64) -> Result<usize, DemoError> {
    match number {
        0 => Err(DemoError::Usage(format!("{} must be at least 1", name.display()))),
        number => Ok(number as usize),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_says_everything() {
        let mut options = ServerOptions::new("/somewhere".into(), 42);
        options.max_batch = 1;
        options.max_wait = Duration::from_micros(1_500);
        options.loaders = 2;
        options.store_latency = Duration::from_millis(13);
        options.max_pending = 9;
        options.cpu = Some(3);
        assert_eq!(ServerOptions::from_args(options.to_args()).unwrap(), options);
    }

    #[test]
    fn a_wrong_command_line_is_refused_with_its_reason() {
        for (args, reason) in [
            (&["--data"][..], "--data needs a value"),
            (&["--data", "/x", "--loaders", "0"], "--loaders must be at least 1"),
            (&["--data", "/x", "--seed", "-1"], "--seed needs a whole number, not `-1`"),
            (&["--data", "/x", "--colour", "1"], "unknown option --colour"),
            (&[], "needs --data"),
        ] {
            let error = ServerOptions::from_args(args.iter().map(OsString::from)).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
