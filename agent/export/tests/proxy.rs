//! Through proxies, as users set them: forwarded, tunnelled, SOCKS, with a password.

mod feed;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use feed::{Feed, PATIENCE, PROTOCOLS, endpoint, exporter};
use perfwatch_export::receiver::Receiver;
use perfwatch_model::Number;
use perfwatch_model::metrics::server;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What a proxy was asked, a line for each connection, with the password that came along.
type Asked = Arc<Mutex<Vec<String>>>;

/// A proxy for HTTP and SOCKS 5 that leads everybody to one place, whatever name they ask for.
async fn proxy(leads_to: SocketAddr) -> (SocketAddr, Asked) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback has free ports");
    let address = listener.local_addr().expect("a bound socket has an address");
    let asked = Asked::default();
    let note = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, leads_to, Arc::clone(&note)));
        }
    });
    (address, asked)
}

async fn serve(mut client: TcpStream, leads_to: SocketAddr, asked: Asked) -> Option<()> {
    let mut first = [0];
    client.peek(&mut first).await.ok()?;
    let head = if first == [5] { socks(&mut client, &asked).await? } else { http(&mut client, &asked).await? };
    let mut inside = TcpStream::connect(leads_to).await.ok()?;
    inside.write_all(&head).await.ok()?;
    let _ = tokio::io::copy_bidirectional(&mut client, &mut inside).await;
    Some(())
}

/// Reads a request's head; what is to be passed on is all of it, or nothing of a CONNECT.
async fn http(client: &mut TcpStream, asked: &Asked) -> Option<Vec<u8>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.ok()?);
    }
    let text = String::from_utf8_lossy(&head).to_ascii_lowercase();
    let line = text.lines().next().unwrap_or_default().to_owned();
    let password = text.lines().find_map(|line| line.strip_prefix("proxy-authorization: ")).unwrap_or("none");
    asked.lock().expect("no test panics holding it").push(format!("{line} [{password}]"));
    if line.starts_with("connect ") {
        client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.ok()?;
        return Some(Vec::new());
    }
    Some(head)
}

async fn socks(client: &mut TcpStream, asked: &Asked) -> Option<Vec<u8>> {
    let mut greeting = [0; 2];
    client.read_exact(&mut greeting).await.ok()?;
    let mut methods = vec![0; usize::from(greeting[1])];
    client.read_exact(&mut methods).await.ok()?;
    let mut login = "none".to_owned();
    if methods.contains(&2) {
        client.write_all(&[5, 2]).await.ok()?;
        client.read_u8().await.ok()?;
        let mut words = Vec::new();
        for _ in 0..2 {
            let mut word = vec![0; usize::from(client.read_u8().await.ok()?)];
            client.read_exact(&mut word).await.ok()?;
            words.push(String::from_utf8_lossy(&word).into_owned());
        }
        login = words.join(":");
        client.write_all(&[1, 0]).await.ok()?;
    } else {
        client.write_all(&[5, 0]).await.ok()?;
    }
    let mut head = [0; 4];
    client.read_exact(&mut head).await.ok()?;
    assert_eq!(head, [5, 1, 0, 3], "a connection to a name");
    let mut name = vec![0; usize::from(client.read_u8().await.ok()?)];
    client.read_exact(&mut name).await.ok()?;
    let port = client.read_u16().await.ok()?;
    let name = String::from_utf8_lossy(&name).into_owned();
    asked.lock().expect("no test panics holding it").push(format!("socks {name}:{port} [{login}]"));
    client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await.ok()?;
    Some(Vec::new())
}

/// Exports one point through a proxy that the variable names; what the proxy was asked.
async fn through(scheme: &str, protocol: &str) -> Vec<String> {
    let receiver = Receiver::start().await.expect("loopback has free ports");
    let leads_to = endpoint(&receiver, protocol).trim_start_matches("http://").parse().expect("an address");
    let (address, asked) = proxy(leads_to).await;
    let value = format!("{scheme}{address}");
    let mut feed = Feed::new();
    let series = feed.series(&server::IN_FLIGHT);
    let mut exporter = exporter("http://otel.example:4318", protocol, &[("HTTP_PROXY", &value)]);
    for _ in 0..2 {
        let tick = feed.tick(&[(series, Number::Float(1.0))], &[]);
        exporter.offer(&tick, &feed.table, &[]);
    }
    exporter.flush(&feed.table, PATIENCE).await;
    assert_eq!(exporter.state(), "ok", "{scheme} {protocol}");
    assert_eq!(receiver.received().metrics.len(), 2, "{scheme} {protocol}");

    asked.lock().expect("no test panics holding it").clone()
}

#[tokio::test]
async fn plain_http_is_forwarded_and_grpc_is_tunnelled() {
    let forwarded = through("http://", "http/protobuf").await;
    assert_eq!(forwarded, ["post http://otel.example:4318/v1/metrics http/1.1 [none]"], "one connection for both");
    let tunnelled = through("http://", "grpc").await;
    assert_eq!(tunnelled, ["connect otel.example:4318 http/1.1 [none]"]);
}

#[tokio::test]
async fn a_password_is_told_to_the_proxy_and_to_nobody_else() {
    // me:secret
    let basic = "[basic bwu6c2vjcmv0]";
    for protocol in PROTOCOLS {
        let asked = through("http://me:secret@", protocol).await;
        assert!(asked.iter().all(|line| line.ends_with(basic)), "{asked:?}");
    }
}

#[tokio::test]
async fn socks_makes_a_tunnel_and_looks_the_name_up() {
    for protocol in PROTOCOLS {
        assert_eq!(through("socks5h://", protocol).await, ["socks otel.example:4318 [none]"]);
        assert_eq!(through("socks5h://me:secret@", protocol).await, ["socks otel.example:4318 [me:secret]"]);
    }
}

#[tokio::test]
async fn a_proxy_that_is_not_there_is_named_without_its_password() {
    for protocol in PROTOCOLS {
        let proxies = [("HTTP_PROXY", "http://me:secret@127.0.0.1:9")];
        let (mut exporter, mut feed) = (exporter("http://otel.example:4318", protocol, &proxies), Feed::new());
        let series = feed.series(&server::IN_FLIGHT);
        let tick = feed.tick(&[(series, Number::Float(1.0))], &[]);
        exporter.offer(&tick, &feed.table, &[]);
        exporter.flush(&feed.table, std::time::Duration::from_millis(500)).await;
        let state = exporter.state();
        assert!(state.starts_with("cannot connect") && state.contains("refused"), "{protocol}: {state}");
        assert!(!state.contains("secret"), "{state}");
    }
}
