//! Injects each fault into a real running server and counts how often perfwatch names it.
//!
//! ```text
//! cargo test --release -p perfwatch --test faults                                  a sample: one healthy run, one fault
//! cargo test --release -p perfwatch --test faults -- --seeds 5 --healthy 15 --write  all of it; rewrites the table in
//!                                                                                    agent/diagnose/README.md
//! ```
//!
//! Every run is `perfwatch demo --json`, as a user would start it. The diagnosis never receives the fault's name. A run
//! during which others took more than a tenth of the server's CPU is *contaminated*, and a fault whose effect on p99 or
//! throughput was not seen *did not bite*: both are counted apart, and repeated with a new seed up to twice.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "its output is its result")]

mod matrix;
mod trial;

use std::process::ExitCode;

use matrix::Matrix;
use trial::{Outcome, Trial};

/// Loads of the healthy server, as shares of its capacity, in turn. A fault comes with a load of its own.
const HEALTHY_LOADS: [f64; 3] = [0.3, 0.6, 0.8];
/// What is run. `None` is the healthy server.
const CASES: [Option<&str>; 6] =
    [None, Some("slow-data-loading"), Some("no-batching"), Some("cpu-quota"), Some("overload"), Some("cpu-neighbour")];

/// The fault of the sample: it needs no privilege and bites hard.
const SAMPLE: &str = "no-batching";
/// Runs that were contaminated or did not bite are repeated with a new seed, at most this often per case.
const REPEATS: usize = 2;

struct Options {
    seeds: usize,
    healthy: usize,
    only: Option<String>,
    write: bool,
    /// False for the sample that every test run takes: there a machine too busy for a clean run proves nothing, but is no
    /// failure.
    full: bool,
}

/// What to run; `None` when `cargo test` was asked for other tests.
fn options() -> Result<Option<Options>, String> {
    let mut options = Options { seeds: 1, healthy: 1, only: None, write: false, full: false };
    let mut filters = Vec::new();
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = |name: &str| args.next().ok_or(format!("{name} needs a value"));
        let number = |text: String| text.parse().map_err(|_| format!("{text} is no number"));
        match arg.as_str() {
            "--seeds" => (options.seeds, options.full) = (number(value("--seeds")?)?, true),
            "--healthy" => (options.healthy, options.full) = (number(value("--healthy")?)?, true),
            "--only" => options.only = Some(value("--only")?),
            "--write" => options.write = true,
            // What `cargo test` passes on to every test program.
            "--list" | "--ignored" => return Ok(None),
            "--skip" | "--test-threads" | "--color" | "--format" | "-Z" => drop(value(&arg)?),
            flag if flag.starts_with('-') => {}
            filter => filters.push(filter.to_owned()),
        }
    }
    let asked = filters.is_empty() || filters.iter().any(|filter| "faults".contains(filter.as_str()));
    if !options.full && options.only.is_none() {
        options.only = Some(SAMPLE.to_owned());
    }
    Ok(asked.then_some(options))
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(Some(options)) => options,
        Ok(None) => return ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    let mut matrix = Matrix::default();
    for fault in CASES {
        let wanted = match fault {
            None => options.healthy,
            Some(name) if options.only.as_ref().is_none_or(|only| only == name) => options.seeds,
            Some(_) => 0,
        };
        let (mut clean, mut seed) = (0, 1);
        while clean < wanted && seed <= wanted + REPEATS {
            let trial = Trial {
                fault,
                load: fault.is_none().then(|| HEALTHY_LOADS[(seed - 1) % HEALTHY_LOADS.len()]),
                seed: seed as u64,
            };
            let outcome = trial.run();
            println!("{trial}: {outcome}");
            clean += usize::from(matches!(outcome, Outcome::Clean { .. } | Outcome::Broken(_)));
            matrix.add(&trial, outcome);
            seed += 1;
        }
    }
    println!("\n{matrix}");
    if options.write {
        matrix.write_into_readme();
    }
    println!("{} passed, {} failed, {} skipped", matrix.right(), matrix.wrong(), matrix.apart());
    match matrix.verdict(options.full.then_some((options.seeds, options.healthy))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            println!("{why}");
            ExitCode::FAILURE
        }
    }
}
