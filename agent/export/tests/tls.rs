//! Both protocols over TLS, with an authority of the user's and a client that shows who it is.

mod feed;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use feed::{Exporter, Feed, PATIENCE, PROTOCOLS, endpoint, exporter};
use perfwatch_export::receiver::Receiver;
use perfwatch_model::Number;
use perfwatch_model::metrics::server;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// An authority's certificate, and one it gave with its key, as files.
struct Pems {
    authority: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

/// One identity for 127.0.0.1 serves both sides here.
fn pems(folder: &Path) -> Pems {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("ring makes keys");
    let authority = params.self_signed(&key).expect("a valid authority").pem();
    let issuer = Issuer::new(params, key);
    let leaf_key = KeyPair::generate().expect("ring makes keys");
    let leaf = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a valid name");
    let leaf = leaf.signed_by(&leaf_key, &issuer).expect("a valid certificate").pem();
    let write = |name: &str, pem: &str| {
        let path = folder.join(name);
        std::fs::write(&path, pem).expect("the folder is ours");
        path
    };
    Pems {
        authority: write("authority.pem", &authority),
        certificate: write("certificate.pem", &leaf),
        key: write("key.pem", &leaf_key.serialize_pem()),
    }
}

fn certificate(path: &Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(path).expect("we wrote it")
}

/// Ends TLS, insisting on a client certificate, and passes what comes on to `behind`.
async fn front(pems: &Pems, protocol: &str, behind: SocketAddr) -> SocketAddr {
    let mut roots = RootCertStore::empty();
    roots.add(certificate(&pems.authority)).expect("a valid authority");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let key = PrivateKeyDer::from_pem_file(&pems.key).expect("we wrote it");
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring knows the default protocol versions")
        .with_client_cert_verifier(clients.build().expect("an authority is given"))
        .with_single_cert(vec![certificate(&pems.certificate)], key)
        .expect("they belong together");
    config.alpn_protocols = vec![if protocol == "grpc" { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback has free ports");
    let address = listener.local_addr().expect("a bound socket has an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // A client that does not trust us, or that we do not trust, ends here.
                let Ok(mut outside) = acceptor.accept(stream).await else { return };
                let mut inside = TcpStream::connect(behind).await.expect("the receiver listens");
                let _ = tokio::io::copy_bidirectional(&mut outside, &mut inside).await;
            });
        }
    });
    address
}

fn offer(exporter: &mut Exporter) -> Feed {
    let mut feed = Feed::new();
    let series = feed.series(&server::IN_FLIGHT);
    let tick = feed.tick(&[(series, Number::Float(1.0))], &[]);
    exporter.offer(&tick, &feed.table, &[]);
    feed
}

#[tokio::test]
async fn an_authority_and_an_identity_from_files_open_the_door() {
    let folder = tempfile::tempdir().expect("a folder");
    let pems = pems(folder.path());
    for protocol in PROTOCOLS {
        let receiver = Receiver::start().await.expect("loopback has free ports");
        let behind = endpoint(&receiver, protocol).trim_start_matches("http://").parse().expect("an address");
        let url = format!("https://{}", front(&pems, protocol, behind).await);
        let text = |path: &Path| path.to_str().expect("a plain path").to_owned();
        let (authority, certificate, key) = (text(&pems.authority), text(&pems.certificate), text(&pems.key));
        let files = [
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", authority.as_str()),
            ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", &certificate),
            ("OTEL_EXPORTER_OTLP_CLIENT_KEY", &key),
        ];
        let mut with_all = exporter(&url, protocol, &files);
        let feed = offer(&mut with_all);
        with_all.flush(&feed.table, PATIENCE).await;
        assert_eq!(with_all.state(), "ok", "{protocol}");
        assert_eq!(receiver.received().metrics.len(), 1, "{protocol}");

        let mut nameless = exporter(&url, protocol, &files[..1]);
        let feed = offer(&mut nameless);
        nameless.flush(&feed.table, Duration::from_secs(1)).await;
        assert_eq!(receiver.received().metrics.len(), 1, "{protocol}: without an identity nothing comes through");
        assert_eq!(nameless.waiting(), 1, "{protocol}: {}", nameless.state());
    }
}

#[tokio::test]
async fn a_server_whose_authority_is_unknown_is_not_trusted() {
    let folders = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
    let (ours, theirs) = (pems(folders[0].path()), pems(folders[1].path()).authority);
    for protocol in PROTOCOLS {
        let receiver = Receiver::start().await.expect("loopback has free ports");
        let behind = endpoint(&receiver, protocol).trim_start_matches("http://").parse().expect("an address");
        let url = format!("https://{}", front(&ours, protocol, behind).await);
        let wrong = [("OTEL_EXPORTER_OTLP_CERTIFICATE", theirs.to_str().expect("a plain path"))];
        let mut exporter = exporter(&url, protocol, &wrong);
        let feed = offer(&mut exporter);
        exporter.flush(&feed.table, Duration::from_secs(1)).await;
        let state = exporter.state();
        assert!(state.starts_with("cannot connect: ") && state.contains("certificate"), "{protocol}: {state}");
        assert!(receiver.received().attempts.is_empty());
    }
}
