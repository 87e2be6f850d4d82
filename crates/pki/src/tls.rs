use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::{Certificate, PkiError};

/// TLS for a server of the control plane. Client certificates are optional, and checked against `client_ca_pem` (chain, validity and
/// client usage) if sent. ALPN offers h2 and http/1.1.
pub fn server_config(server: &Certificate, client_ca_pem: &str) -> Result<Arc<ServerConfig>, PkiError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(client_ca_pem)?), provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(|e| PkiError::new("cannot verify clients", e))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| PkiError::new("cannot configure TLS", e))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates(&server.chain_pem)?, private_key(server)?)
        .map_err(|e| PkiError::new("cannot use the server certificate", e))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// TLS for a client of gRPC servers: whoever `roots_pem` leads to is trusted, and `client` is shown to them.
pub fn client_config(roots_pem: &str, client: Option<&Certificate>) -> Result<Arc<ClientConfig>, PkiError> {
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| PkiError::new("cannot configure TLS", e))?
        .with_root_certificates(roots(roots_pem)?);
    let mut config = match client {
        None => builder.with_no_client_auth(),
        Some(client) => builder
            .with_client_auth_cert(certificates(&client.chain_pem)?, private_key(client)?)
            .map_err(|e| PkiError::new("cannot use the client certificate", e))?,
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

fn private_key(certificate: &Certificate) -> Result<PrivateKeyDer<'static>, PkiError> {
    let key = certificate.key_pem.as_deref().ok_or_else(|| PkiError("the certificate has no key".to_owned()))?;
    // The cause is not repeated: it might quote the key.
    PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_| PkiError("cannot read the private key".to_owned()))
}

/// The certificates of a PEM text as what is trusted.
pub(crate) fn roots(pem: &str) -> Result<RootCertStore, PkiError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        roots.add(certificate).map_err(|e| PkiError::new("cannot trust a certificate", e))?;
    }
    Ok(roots)
}

/// The certificates of a PEM text, of which there must be one.
pub(crate) fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, PkiError> {
    let list: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let list = list.map_err(|e| PkiError::new("cannot read a certificate", e))?;
    if list.is_empty() { Err(PkiError("there is no certificate in the PEM text".to_owned())) } else { Ok(list) }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use rustls::{ClientConnection, ServerConnection, StreamOwned};

    use super::*;
    use crate::Authority;

    /// What the server sees of a client with this certificate: its identity, or that the handshake failed.
    fn handshake(server: &Authority, client: Option<&Certificate>) -> Result<Option<(String, Vec<String>)>, String> {
        let certificate = server.issue_server(&["localhost"], &[]).unwrap();
        let config = server_config(&certificate, server.certificate_pem()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let client = client_config(server.certificate_pem(), client).unwrap();
        let speaker = std::thread::spawn(move || {
            let connection = ClientConnection::new(client, "localhost".try_into().unwrap()).unwrap();
            let mut stream = StreamOwned::new(connection, TcpStream::connect(address).unwrap());
            let _ = stream.write_all(b"x").and_then(|()| stream.read(&mut [0]));
        });
        let connection = ServerConnection::new(config).unwrap();
        let mut stream = StreamOwned::new(connection, listener.accept().unwrap().0);
        let outcome = stream.read_exact(&mut [0]).map_err(|e| e.to_string());
        let peer = stream.conn.peer_certificates().and_then(|chain| chain.first());
        let identity = peer.and_then(|certificate| crate::client_identity(certificate));
        drop(stream);
        speaker.join().unwrap();
        outcome.map(|()| identity)
    }

    #[test]
    fn a_client_certificate_is_optional_but_must_be_the_authoritys() {
        let (ours, other) = (Authority::generate("ours").unwrap(), Authority::generate("other").unwrap());
        assert_eq!(handshake(&ours, None), Ok(None));
        let known = ours.issue_client("jane", &["devs"]).unwrap();
        assert_eq!(handshake(&ours, Some(&known)), Ok(Some(("jane".to_owned(), vec!["devs".to_owned()]))));
        let foreign = other.issue_client("jane", &["system:masters"]).unwrap();
        assert!(handshake(&ours, Some(&foreign)).is_err());
    }

    #[test]
    fn a_server_certificate_is_no_client_certificate() {
        let ours = Authority::generate("ours").unwrap();
        let server = ours.issue_server(&["jane"], &[]).unwrap();
        assert!(handshake(&ours, Some(&server)).is_err());
    }
}
