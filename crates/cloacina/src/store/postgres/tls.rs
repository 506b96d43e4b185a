//! Creates TLS connectors that check certificates as libpq's `sslmode` requires.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::url::{PostgresOptions, TlsMode};
use crate::store::{Report, StoreError};

/// A certificate verifier that never checks the host name. Checks the certificate's signature only if CA certificates
/// are given.
#[derive(Debug)]
struct Lenient {
    roots: Option<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(roots) = &self.roots {
            let certificate = ParsedCertificate::try_from(end_entity)?;
            let algorithms = self.provider.signature_verification_algorithms.all;
            verify_server_cert_signed_by_trust_anchor(
                &certificate,
                roots,
                intermediates,
                now,
                algorithms,
            )?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// Creates the TLS connector for the options.
pub(super) fn connector(options: &PostgresOptions) -> Result<MakeRustlsConnect, StoreError> {
    let location = options.location();
    let failed = |what: Report| {
        let connecting = |what: &str| format!("cannot connect to the database {location}: {what}");
        StoreError::Failed(what.map(connecting))
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(format!("no TLS protocol is available ({error})").into()))?;
    let checks = options.tls >= TlsMode::VerifyCa;
    let roots = match &options.root_certificates {
        Some(path) if options.tls >= TlsMode::Require => {
            Some(roots_of(path).map_err(|error| failed(error.into()))?)
        }
        None if checks => {
            let home = std::env::home_dir().unwrap_or_default();
            let path = home.join(".postgresql/root.crt");
            Some(roots_of(&path).map_err(|error| {
                failed(Report::hinted(
                    error,
                    "name a CA file with sslrootcert=, or use sslrootcert=system",
                ))
            })?)
        }
        _ => None,
    };
    let builder = match roots {
        Some(roots) if options.tls == TlsMode::VerifyFull => builder.with_root_certificates(roots),
        roots => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Lenient { roots, provider })),
    };
    let config = match &options.client_certificate {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = certificates(certificate).map_err(|error| failed(error.into()))?;
            let key = PrivateKeyDer::from_pem_file(key).map_err(|error| {
                failed(format!("cannot read the key file {}: {error}", key.display()).into())
            })?;
            builder.with_client_auth_cert(chain, key).map_err(|error| {
                failed(format!("cannot use the client certificate: {error}").into())
            })?
        }
    };
    Ok(MakeRustlsConnect::new(config))
}

fn roots_of(path: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let is_system = path.as_os_str() == "system";
    if is_system {
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
    } else {
        for certificate in certificates(path)? {
            roots.add(certificate).map_err(|error| {
                format!(
                    "cannot parse a certificate in the CA file {}: {error}",
                    path.display()
                )
            })?;
        }
    }
    if roots.is_empty() {
        let place = if is_system {
            "this system's certificate store".to_owned()
        } else {
            format!("the CA file {}", path.display())
        };
        return Err(format!("{place} contains no certificate"));
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| {
            format!(
                "cannot read the certificate file {}: {error}",
                path.display()
            )
        })
}
