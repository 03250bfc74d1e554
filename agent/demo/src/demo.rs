//! A demo from start to end: calibrate a healthy server, start the one to be watched, load it, and tell what happened.
//!
//! The caller starts its agent on [`Demo::runtime_dir`] between [`Demo::prepare`] and [`Demo::start_load`].

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::calibrate::{Capacity, calibrate};
use crate::child::{Program, Tied};
use crate::error::DemoError;
use crate::faults::{DEFAULT_LOAD, Fault, Group};
use crate::load::{Client, LoadReport, Offer, OpenLoop, Prompts};
use crate::placement::{KeptOff, Placement};
use crate::report::{Bite, DemoReport, Reference};
use crate::server::{ServerOptions, Stats};
use crate::usage::Meter;

/// How long the healthy server is measured for comparison, before a fault.
const REFERENCE: Duration = Duration::from_secs(4);
/// No healthy reference above this load: there, queueing alone makes long tails.
const REFERENCE_LOAD: f64 = 0.8;
/// Requests that bring a fresh server's code and weights into memory, one after the other.
const WARM_UP: u64 = 8;
/// How often [`Demo::wait`] looks whether it is over.
const LOOK: Duration = Duration::from_millis(50);

/// What to demonstrate.
#[derive(Debug, Clone)]
pub struct DemoOptions {
    /// How to start the server.
    pub program: Program,
    /// How long to load it; `None` until [`Demo::finish`].
    pub duration: Option<Duration>,
    /// Load as a share of the calibrated capacity; `None` for the fault's own, else 0.6.
    pub load: Option<f64>,
    /// What to break.
    pub fault: Option<&'static dyn Fault>,
    /// Seed of weights, texts and arrivals.
    pub seed: u64,
}

/// A model server process and how to talk to it.
#[derive(Debug)]
struct Process {
    // Dropped in this order: first the process, then the group that held it.
    tied: Tied,
    _group: Option<Group>,
    address: SocketAddr,
}

/// A demo whose server is up.
pub struct Demo {
    options: DemoOptions,
    placement: Placement,
    capacity: Capacity,
    offered: f64,
    load: f64,
    reference: Option<Reference>,
    prompts: Arc<Prompts>,
    running: Option<Running>,
    server: Process,
    /// Holds the demo itself off the server's CPU.
    _kept_off: KeptOff,
    folder: tempfile::TempDir,
}

struct Running {
    load: OpenLoop,
    meter: Meter,
    before: Stats,
    neighbour: Option<Tied>,
}

impl Demo {
    /// Calibrates on a healthy server, measures what healthy looks like if there is to be a fault, and starts the server
    /// that is to be watched. Takes 4 to 15 seconds; `progress` is told what happens.
    ///
    /// # Errors
    /// [`DemoError::CannotInject`] before anything is started, where the fault is impossible on this machine.
    pub fn prepare(options: DemoOptions, progress: impl Fn(&str)) -> Result<Self, DemoError> {
        let load = options.load.unwrap_or_else(|| options.fault.map_or(DEFAULT_LOAD, Fault::load));
        if !(0.01..=10.0).contains(&load) {
            return Err(DemoError::Usage(format!("the load must be between 0.01 and 10, not {load}")));
        }
        if let Some(fault) = options.fault {
            fault.check()?;
        }
        let placement = Placement::choose().map_err(DemoError::system("read this process's CPUs"))?;
        progress(&placement.to_string());
        let kept_off = placement.keep_off().map_err(DemoError::system("stay off the server's CPU"))?;
        let folder = tempfile::Builder::new().prefix("perfwatch-demo-").tempdir();
        let folder = folder.map_err(DemoError::system("create a folder for the demo's files"))?;
        std::fs::create_dir(runtime_dir(folder.path()))
            .map_err(DemoError::system("create the demo's runtime folder"))?;
        let prompts = Arc::new(Prompts::new(options.seed));
        let healthy = ServerOptions {
            cpu: Some(placement.server),
            ..ServerOptions::new(data_dir(folder.path(), "healthy")?, options.seed)
        };

        progress("starting a healthy server to calibrate with");
        let server = start(&options.program, &healthy, &runtime_dir(folder.path()), None)?;
        warm_up(server.address, &prompts)?;
        let known: &[u32] = if placement.shared() { &[std::process::id()] } else { &[] };
        let (cpu, pid) = (placement.server, server.tied.id());
        let capacity = calibrate(server.address, &prompts, healthy.max_batch, cpu, pid, known, &progress)?;
        progress(&format!("the server can do {:.0} requests/s with full batches", capacity.per_second));
        let mut reference = None;
        if options.fault.is_some() {
            let per_second = load.min(REFERENCE_LOAD) * capacity.per_second;
            progress(&format!("measuring it healthy at {per_second:.0} requests/s, for comparison"));
            let offer = Offer { per_second, duration: Some(REFERENCE), seed: options.seed ^ 1 };
            let run = OpenLoop::start(server.address, Arc::clone(&prompts), offer);
            let run = run.map_err(DemoError::system("connect to the demo's server"))?;
            while !run.is_done() {
                thread::sleep(LOOK);
            }
            reference = Some(Reference::from(&run.finish()));
        }
        drop(server);

        let offered = load * capacity.per_second;
        let mut watched = ServerOptions { data: data_dir(folder.path(), "data")?, ..healthy };
        if let Some(fault) = options.fault {
            fault.shape(&mut watched, offered);
        }
        progress("starting the server to be watched");
        let server = start(&options.program, &watched, &runtime_dir(folder.path()), options.fault)?;
        warm_up(server.address, &prompts)?;
        let running = None;
        Ok(Self {
            options,
            placement,
            capacity,
            offered,
            load,
            reference,
            prompts,
            running,
            server,
            _kept_off: kept_off,
            folder,
        })
    }

    /// The folder in which the server looks for an agent, private to this demo.
    pub fn runtime_dir(&self) -> PathBuf {
        runtime_dir(self.folder.path())
    }

    /// Which CPU does what.
    pub fn placement(&self) -> &Placement {
        &self.placement
    }

    /// What the healthy server can do.
    pub fn capacity(&self) -> Capacity {
        self.capacity
    }

    /// The load, as a share of the capacity.
    pub fn load(&self) -> f64 {
        self.load
    }

    /// The load, in requests per second.
    pub fn offered_per_s(&self) -> f64 {
        self.offered
    }

    /// The server's process id.
    pub fn server_pid(&self) -> u32 {
        self.server.tied.id()
    }

    /// Starts the load, and whatever disturbs the server under it. From here on the demo's duration counts.
    pub fn start_load(&mut self) -> Result<(), DemoError> {
        let neighbour = match self.options.fault {
            Some(fault) => fault.disturb(&self.options.program, &self.placement)?,
            None => None,
        };
        let mut known: Vec<u32> = neighbour.iter().map(Tied::id).collect();
        if self.placement.shared() {
            known.push(std::process::id());
        }
        let before = stats(self.server.address)?;
        let meter = Meter::start(self.placement.server, self.server_pid(), known)?;
        let offer = Offer { per_second: self.offered, duration: self.options.duration, seed: self.options.seed };
        let load = OpenLoop::start(self.server.address, Arc::clone(&self.prompts), offer);
        let load = load.map_err(DemoError::system("connect to the demo's server"))?;
        self.running = Some(Running { load, meter, before, neighbour });
        Ok(())
    }

    /// True once the load has run its time, or the server is gone.
    pub fn is_done(&mut self) -> bool {
        let over = self.running.as_ref().is_none_or(|running| running.load.is_done());
        over || !self.server.tied.alive()
    }

    /// Waits until [`Demo::is_done`].
    pub fn wait(&mut self) {
        while !self.is_done() {
            thread::sleep(LOOK);
        }
    }

    /// The server's own counts since the load began.
    pub fn stats(&self) -> Result<Stats, DemoError> {
        let stats = stats(self.server.address)?;
        Ok(self.running.as_ref().map_or(stats, |running| stats.since(&running.before)))
    }

    /// Ends the load if it has not ended, and tells what happened. The server runs on until the demo is dropped.
    pub fn finish(&mut self) -> Result<DemoReport, DemoError> {
        let Some(running) = self.running.take() else {
            return Err(DemoError::Usage("a demo whose load was not started has nothing to report".into()));
        };
        if !self.server.tied.alive() {
            return Err(DemoError::ServerGone("ended under load".into()));
        }
        // Read before the load is taken away: both are about the time under load.
        let stats = stats(self.server.address)?.since(&running.before);
        let usage = running.meter.usage()?;
        let load: LoadReport = running.load.finish();
        drop(running.neighbour);
        let bite =
            self.reference.filter(|_| self.options.fault.is_some()).map(|reference| Bite::judge(reference, &load));
        let contaminated = !self.capacity.clean || usage.outside > crate::calibrate::OUTSIDE_LIMIT;
        Ok(DemoReport {
            fault: self.options.fault.map(Fault::name),
            capacity: self.capacity,
            load_share: self.load,
            load,
            usage,
            stats,
            contaminated,
            bite,
        })
    }
}

fn runtime_dir(folder: &Path) -> PathBuf {
    folder.join("run")
}

fn data_dir(folder: &Path, name: &str) -> Result<PathBuf, DemoError> {
    let data = folder.join(name);
    std::fs::create_dir(&data).map_err(DemoError::system("create a folder for the server's data"))?;
    Ok(data)
}

fn start(
    program: &Program,
    options: &ServerOptions,
    runtime_dir: &Path,
    fault: Option<&'static dyn Fault>,
) -> Result<Process, DemoError> {
    let mut args = program.server.clone();
    args.extend(options.to_args());
    let mut tied = Tied::spawn(&program.executable, args, runtime_dir)?;
    let group = match fault {
        Some(fault) => fault.confine(tied.id())?,
        None => None,
    };
    if let Some(group) = &group {
        tied.tell(&format!("group {}", group.path().display()))?;
    }
    let address = tied.start()?;
    Ok(Process { tied, _group: group, address })
}

fn warm_up(address: SocketAddr, prompts: &Prompts) -> Result<(), DemoError> {
    let failed = |error: std::io::Error| DemoError::ServerGone(format!("did not answer a first request ({error})"));
    let mut client = Client::connect(address).map_err(failed)?;
    for number in 0..WARM_UP {
        let (status, _) = client.exchange(prompts.request(number)).map_err(failed)?;
        if status != 200 {
            return Err(DemoError::ServerGone(format!("answered a first request with status {status}")));
        }
    }
    Ok(())
}

fn stats(address: SocketAddr) -> Result<Stats, DemoError> {
    let failed = |error: std::io::Error| DemoError::ServerGone(format!("does not tell its counters ({error})"));
    let request = b"GET /stats HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let (_, body) = Client::connect(address).and_then(|mut client| client.exchange(request)).map_err(failed)?;
    serde_json::from_slice(&body).map_err(|error| failed(error.into()))
}
