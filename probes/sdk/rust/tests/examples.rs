//! Each example as its own process, driven by a client: what the agent got equals what the client counted.

mod support;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use perfwatch_sdk::Stage;
use support::{Agent, kinds, sum, values};
use tonic::Code;
use tonic::transport::Channel;
use tonic_prost::ProstCodec;

/// An example that runs; killed, should a test fail before it has ended it.
struct Example {
    process: Child,
    address: SocketAddr,
}

impl Example {
    /// Cargo builds the examples together with the tests.
    fn start(name: &str, socket: &Path) -> Self {
        let test = std::env::current_exe().expect("a running test");
        let profile = test.parent().and_then(Path::parent).expect("it lies in the profile's deps");
        let path: PathBuf = profile.join("examples").join(name);
        #[allow(clippy::disallowed_methods, reason = "the example is what is tested")]
        let mut command = Command::new(&path);
        command.arg("0").env("PERFWATCH_SOCKET", socket).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut line = String::new();
        BufReader::new(process.stdout.take().expect("it is piped")).read_line(&mut line).expect("UTF-8");
        let address = line.trim().strip_prefix("listening on ").and_then(|address| address.parse().ok());
        Self { process, address: address.unwrap_or_else(|| panic!("it said {line:?}")) }
    }

    /// As Ctrl-C does, and waits until it is gone.
    fn end(mut self) {
        let pid = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it runs");
        assert!(self.process.wait().expect("it is a child").success());
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn get(address: SocketAddr, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a valid timeout");
    write!(stream, "GET {path} HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n").expect("it reads");
    stream
}

#[test]
fn the_axum_example_tells_the_agent_what_its_clients_saw() {
    let agent = Agent::start(|| ());
    let example = Example::start("axum_server", &agent.socket);
    let address = example.address;
    let paths = [
        ("/predict/cat", "200"),
        ("/predict/horse", "200"),
        ("/stream/5", "200"),
        ("/refuse", "503"),
        ("/nowhere", "404"),
    ];
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for (path, status) in paths.repeat(5) {
                    let mut answer = String::new();
                    get(address, path).read_to_string(&mut answer).expect("it answers");
                    assert_eq!(answer.split(' ').nth(1), Some(status), "{path}");
                }
            });
        }
    });
    // One leaves in the middle of its answer.
    get(address, "/stream/100000").read_exact(&mut [0; 200]).expect("it begins to answer");
    example.end();

    let flushes = agent.flushes();
    assert_eq!((sum(&flushes, |f| f.requests_started), sum(&flushes, |f| f.requests_completed)), (101, 80));
    assert_eq!(kinds(&flushes), [("503".to_owned(), 20)]);
    assert_eq!((sum(&flushes, |f| f.requests_cancelled), sum(&flushes, |f| f.requests_abandoned)), (1, 0));
    assert_eq!(sum(&flushes, |f| f.dispatches), 40);
    assert_eq!(values(&flushes, "stage.duration", Some(Stage::Preprocess)), 40);
    assert_eq!(values(&flushes, "stage.duration", Some(Stage::Compute)), 40);
    assert_eq!(values(&flushes, "stage.duration", Some(Stage::Decode)), 20);
    assert_eq!(values(&flushes, "time_to_first_token", None), 21);
    assert!(sum(&flushes, |f| f.generated_tokens) > 20 * 5);
}

/// As the example has it.
#[derive(Clone, PartialEq, prost::Message)]
struct Text {
    #[prost(string, tag = "1")]
    text: String,
}

type Client = tonic::client::Grpc<Channel>;

async fn predict(client: &mut Client, text: &str) -> Result<String, Code> {
    client.ready().await.expect("it listens");
    let path = http::uri::PathAndQuery::from_static("/example.Model/Predict");
    let request = tonic::Request::new(Text { text: text.into() });
    let answer = client.unary(request, path, ProstCodec::<Text, Text>::default()).await;
    answer.map(|answer| answer.into_inner().text).map_err(|status| status.code())
}

async fn generate(client: &mut Client, text: &str) -> tonic::Streaming<Text> {
    client.ready().await.expect("it listens");
    let path = http::uri::PathAndQuery::from_static("/example.Model/Generate");
    let request = tonic::Request::new(Text { text: text.into() });
    let answer = client.server_streaming(request, path, ProstCodec::<Text, Text>::default()).await;
    answer.expect("it begins to answer").into_inner()
}

#[test]
fn the_tonic_example_tells_the_agent_what_its_clients_saw() {
    let agent = Agent::start(|| ());
    let example = Example::start("tonic_server", &agent.socket);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let channel = Channel::from_shared(format!("http://{}", example.address)).expect("a valid address");
        let mut client = Client::new(channel.connect().await.expect("it listens"));
        for _ in 0..10 {
            assert_eq!(predict(&mut client, "cat").await.as_deref(), Ok("CAT"));
            assert_eq!(predict(&mut client, "refuse").await, Err(Code::Unavailable));
            assert_eq!(predict(&mut client, "wrong").await, Err(Code::InvalidArgument));
            assert_eq!(predict(&mut client, "break").await, Err(Code::Internal));
            let mut stream = generate(&mut client, "horse").await;
            let mut letters = String::new();
            while let Some(token) = stream.message().await.expect("it is whole") {
                letters.push_str(&token.text);
            }
            assert_eq!(letters, "horse");
        }
        // One leaves after the first token.
        let mut stream = generate(&mut client, &"x".repeat(100_000)).await;
        stream.message().await.expect("it is whole").expect("there are many");
    });
    drop(runtime);
    example.end();

    let flushes = agent.flushes();
    assert_eq!(sum(&flushes, |f| f.requests_started), 51);
    assert_eq!(sum(&flushes, |f| f.requests_completed), 30, "a wrong argument is the client's");
    assert_eq!(kinds(&flushes), [("INTERNAL".to_owned(), 10), ("UNAVAILABLE".to_owned(), 10)]);
    assert_eq!((sum(&flushes, |f| f.requests_cancelled), sum(&flushes, |f| f.requests_abandoned)), (1, 0));
    assert_eq!(sum(&flushes, |f| f.dispatches), 40);
    assert_eq!(values(&flushes, "stage.duration", Some(Stage::Compute)), 40);
    assert_eq!(values(&flushes, "stage.duration", Some(Stage::Decode)), 10);
    assert_eq!(values(&flushes, "time_to_first_token", None), 11);
}
