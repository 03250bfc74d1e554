//! Work for a GPU, by PyTorch in a `python3` of its own.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// Work that is done over and over. It defines `work()`, which returns when the GPU has done it.
const FOR_EVER: &str = "
work()
print('ready', flush=True)
while True:
    work()
";

/// Does it for as many seconds as a line says, and answers how often it could a second.
const ON_DEMAND: &str = "
import sys, time
work()
print('ready', flush=True)
for line in sys.stdin:
    began, done = time.perf_counter(), 0
    while time.perf_counter() - began < float(line):
        work()
        done += 1
    print(done / (time.perf_counter() - began), flush=True)
";

/// Half-precision products, as large as keep the tensor cores busy.
pub(crate) const PRODUCTS: &str = "
import torch
a = torch.randn(8192, 8192, device='cuda', dtype=torch.float16)
b = torch.randn(8192, 8192, device='cuda', dtype=torch.float16)
def work():
    for _ in range(20):
        torch.mm(a, b)
    torch.cuda.synchronize()
";

/// A running `python3`. Killed when dropped.
pub(crate) struct Worker {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Worker {
    /// Works on this GPU until it is dropped.
    pub(crate) fn for_ever(uuid: &str, work: &str) -> Self {
        Self::start(uuid, &format!("{work}{FOR_EVER}"))
    }

    /// Works when it is asked to.
    pub(crate) fn on_demand(uuid: &str, work: &str) -> Self {
        Self::start(uuid, &format!("{work}{ON_DEMAND}"))
    }

    fn start(uuid: &str, script: &str) -> Self {
        let python = std::env::var("PERFWATCH_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
        let mut command = Command::new(&python);
        command.args(["-c", script]).env("CUDA_VISIBLE_DEVICES", uuid).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("the feature `gpu` asks for {python}: {error}"));
        let (stdin, stdout) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
        let mut worker = Self { child, stdin, stdout: BufReader::new(stdout) };
        let ready = worker.line();
        assert_eq!(
            ready, "ready",
            "the feature `gpu` asks for PyTorch with CUDA in {python}; what it said stands above"
        );
        worker
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("a pipe can be read");
        line.trim().to_owned()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How often a second it could do its work, over so many seconds.
    pub(crate) fn rate(&mut self, seconds: f64) -> f64 {
        writeln!(self.stdin, "{seconds}").expect("the worker reads");
        let answer = self.line();
        answer.parse().unwrap_or_else(|_| panic!("the worker died; what it said stands above ({answer:?})"))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
