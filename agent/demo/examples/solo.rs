//! A demo without an agent: what the load generator and the server's own counters say about each fault.
//!
//! ```text
//! cargo run --release -p perfwatch-demo --example solo -- <healthy | fault> [load] [seconds] [seed]
//! ```

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example talks to people")]

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use perfwatch_demo::server::{self, ServerOptions};
use perfwatch_demo::{Demo, DemoError, DemoOptions, Program, faults, work};

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let first = args.next().unwrap_or_else(|| "healthy".into());
    let result = match first.to_str() {
        Some("model-server") => ServerOptions::from_args(args).and_then(|options| server::run(&options)),
        Some("other-work") => work::run(args),
        Some(name) => demo(name, args),
        None => Err(DemoError::Usage("the name of a fault is plain text".into())),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn demo(name: &str, mut args: impl Iterator<Item = OsString>) -> Result<(), DemoError> {
    let mut number = || args.next().and_then(|arg| arg.to_str()?.parse::<f64>().ok());
    let load = number();
    let duration = Some(Duration::from_secs_f64(number().unwrap_or(12.0)));
    let seed = number().unwrap_or(1.0) as u64;
    let fault = if name == "healthy" { None } else { Some(faults::find(name)?) };
    let options = DemoOptions { program: Program::this()?, duration, load, fault, seed };
    let mut demo = Demo::prepare(options, |line| println!("{line}"))?;
    demo.start_load()?;
    demo.wait();
    let report = demo.finish()?;
    println!("{report}");
    let growth = (report.load.sent as f64 - report.load.completed as f64) / report.load.sent as f64;
    println!(
        "signals   used {:.2}   outside {:.2}   batch {:.2}   ready2 {:.2}   growth/λ {growth:.2}   calibrated at used {:.2}",
        report.usage.used,
        report.usage.outside,
        report.stats.mean_batch(),
        report.stats.ready2(),
        report.capacity.usage.used,
    );
    Ok(())
}
