//! A process that computes and nothing else: somebody else's work on the same machine.

use std::ffi::OsString;
use std::hint::black_box;
use std::io::{self, Read};
use std::thread;

use crate::error::DemoError;
use crate::placement::pin_this_thread;
use crate::rng::Rng;

/// Keeps the CPU named by `--cpu` busy until standard input ends. For a hidden subcommand, as [`crate::server::run`].
///
/// It works in registers: what it takes from others is time on the CPU, not cache or memory bandwidth.
pub fn run(args: impl IntoIterator<Item = OsString>) -> Result<(), DemoError> {
    let args: Vec<OsString> = args.into_iter().collect();
    let cpu = match args.as_slice() {
        [name, cpu] if name == "--cpu" => cpu.to_str().and_then(|cpu| cpu.parse().ok()),
        _ => None,
    };
    let cpu = cpu.ok_or_else(|| DemoError::Usage("expected --cpu <number>".into()))?;
    pin_this_thread(&[cpu]).map_err(DemoError::system("stay on the CPU given with --cpu"))?;
    thread::spawn(|| {
        let mut rng = Rng::new(1);
        loop {
            black_box(rng.bits());
        }
    });
    // Ends with the parent, as the server does.
    io::stdin().read_to_end(&mut Vec::new()).map_err(DemoError::system("read from the demo"))?;
    Ok(())
}
