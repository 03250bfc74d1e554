//! TLS with rustls and ring: the system's authorities or the user's, and a client identity where one is set.

use std::path::Path;
use std::sync::Arc;

use hyper_rustls::ConfigBuilderExt as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use rustls::{ClientConfig, RootCertStore};

use super::StartError;
use crate::config::{Target, without_query};

/// The configuration for a target.
pub(super) fn client_config(target: &Target) -> Result<ClientConfig, StartError> {
    let failed = |reason: String| StartError::Tls { url: without_query(&target.url).to_owned(), reason };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(error.to_string()))?;
    let builder = match &target.tls.certificate {
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path, target)? {
                roots.add(certificate).map_err(|error| failed(error.to_string()))?;
            }
            builder.with_root_certificates(roots)
        }
        None => builder.with_native_roots().map_err(|error| failed(error.to_string()))?,
    };
    match (&target.tls.client_certificate, &target.tls.client_key) {
        (Some(chain), Some(key)) => builder
            .with_client_auth_cert(certificates(chain, target)?, private_key(key, target)?)
            .map_err(|error| failed(error.to_string())),
        _ => Ok(builder.with_no_client_auth()),
    }
}

/// For connectors that want a configuration where nothing is encrypted.
pub(super) fn never_used() -> ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring knows the default protocol versions")
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth()
}

fn certificates(path: &Path, target: &Target) -> Result<Vec<CertificateDer<'static>>, StartError> {
    let pem = read(path, target)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match certificates {
        Ok(certificates) if certificates.is_empty() => Err(unusable(path, target, "it holds no certificate")),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(unusable(path, target, &error.to_string())),
    }
}

fn private_key(path: &Path, target: &Target) -> Result<PrivateKeyDer<'static>, StartError> {
    PrivateKeyDer::from_pem_slice(&read(path, target)?).map_err(|error| unusable(path, target, &error.to_string()))
}

/// A file with certificates, as it is: who takes any file for PEM would fail at each connection instead of at the start.
pub(super) fn certificates_pem(path: &Path, target: &Target) -> Result<Vec<u8>, StartError> {
    certificates(path, target).and_then(|_| read(path, target))
}

/// The same of a private key.
pub(super) fn private_key_pem(path: &Path, target: &Target) -> Result<Vec<u8>, StartError> {
    private_key(path, target).and_then(|_| read(path, target))
}

/// The content of a file named in the configuration.
fn read(path: &Path, target: &Target) -> Result<Vec<u8>, StartError> {
    std::fs::read(path).map_err(|error| unusable(path, target, &error.to_string()))
}

fn unusable(path: &Path, target: &Target, reason: &str) -> StartError {
    StartError::TlsFile { path: path.to_owned(), url: without_query(&target.url).to_owned(), reason: reason.to_owned() }
}
