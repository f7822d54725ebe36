//! Connections over loopback, with a resolver that answers as each test says.

use std::net::Ipv4Addr;

use futures::FutureExt;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::upstream::tls::TlsRoots;

const LIMIT: Duration = Duration::from_secs(10);

/// Every name leads to `addresses`.
fn connector(addresses: &[&str], rule: AddressRule) -> Connector {
    let addresses: Vec<IpAddr> = addresses.iter().map(|text| text.parse().unwrap()).collect();
    Connector::new(Resolver::with_lookup(move |_| std::future::ready(Ok(addresses.clone())).boxed()), rule)
}

fn loopback() -> Connector {
    connector(&["127.0.0.1"], AddressRule::Any)
}

/// A TLS server for `vendor.test` that answers what it reads, and the PEM of the authority that vouches for it.
async fn tls_echo() -> (u16, String) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["vendor.test".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &authority).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(tcp).await else { return };
                let (mut from, mut to) = tokio::io::split(stream);
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    (port, authority.pem())
}

async fn connect_tls(host: &str, port: u16, config: &Arc<ClientConfig>) -> Result<Stream, ConnectError> {
    loopback().connect(Destination { host, port, tls: Some(config) }, LIMIT).await
}

async fn echo(stream: &mut Stream) {
    let parts = [io::IoSlice::new(b"head "), io::IoSlice::new(b"body")];
    assert_eq!(stream.write_vectored(&parts).await.unwrap(), 9);
    stream.flush().await.unwrap();
    let mut read = [0; 9];
    stream.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"head body");
}

#[tokio::test]
async fn a_private_authority_is_trusted_through_the_bundle_only() {
    let (port, pem) = tls_echo().await;
    let roots = TlsRoots::with_file(None).unwrap();
    let mut stream = connect_tls("vendor.test", port, &roots.client_config(Some(&pem)).unwrap()).await.unwrap();
    let Stream::Tls(tls) = &stream else { panic!("asked for TLS") };
    assert_eq!(tls.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    echo(&mut stream).await;

    let error = connect_tls("vendor.test", port, &roots.client_config(None).unwrap()).await.unwrap_err();
    assert_eq!(error.class(), ConnectClass::Tls);
    let text = error.to_string();
    assert!(text.starts_with(&format!("TLS with vendor.test:{port} failed: ")) && text.contains("CA bundle"), "{text}");
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused() {
    let (port, pem) = tls_echo().await;
    let config = TlsRoots::with_file(None).unwrap().client_config(Some(&pem)).unwrap();
    for host in ["other.test", "127.0.0.1"] {
        let error = connect_tls(host, port, &config).await.unwrap_err();
        assert_eq!(error.class(), ConnectClass::Tls, "{host}");
        let text = error.to_string();
        assert!(text.contains("not valid for name") && text.contains("vendor.test"), "{text}");
    }
}

#[tokio::test]
async fn sessions_resume_as_long_as_the_bundle_is_the_same() {
    let (port, pem) = tls_echo().await;
    let roots = TlsRoots::with_file(None).unwrap();
    let mut first = connect_tls("vendor.test", port, &roots.client_config(Some(&pem)).unwrap()).await.unwrap();
    assert!(!first.is_resumed());
    // The tickets follow the handshake: they have been read once something else has.
    echo(&mut first).await;
    let second = connect_tls("vendor.test", port, &roots.client_config(Some(&pem)).unwrap()).await.unwrap();
    assert!(second.is_resumed());
    let other =
        connect_tls("vendor.test", port, &roots.client_config(Some(&format!("{pem}\n"))).unwrap()).await.unwrap();
    assert!(!other.is_resumed(), "other roots trust nothing that was verified with these");
}

#[tokio::test]
async fn a_plain_server_is_named_as_such() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut tcp, _) = listener.accept().await.unwrap();
        tcp.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        let _ = tcp.read(&mut [0; 4096]).await;
    });
    let config = TlsRoots::with_file(None).unwrap().client_config(None).unwrap();
    let error = connect_tls("vendor.test", port, &config).await.unwrap_err();
    assert!(error.to_string().contains("no TLS"), "{error}");
}

#[tokio::test]
async fn a_plain_connection_is_opened_at_the_address_that_answers() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let connector = connector(&["::1", "127.0.0.1"], AddressRule::Any);
    let stream = connector.connect(Destination { host: "vendor.test", port, tls: None }, LIMIT).await.unwrap();
    assert_eq!(stream.tcp().peer_addr().unwrap().ip(), Ipv4Addr::LOCALHOST);
    assert!(matches!(stream, Stream::Plain(_)) && stream.is_write_vectored());
}

#[tokio::test]
async fn local_addresses_are_refused_after_the_look_up_and_left_out_among_others() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let to = Destination { host: "vendor.test", port, tls: None };
    for local in ["127.0.0.1", "169.254.169.254", "::ffff:127.0.0.1"] {
        let error = connector(&[local], AddressRule::NoLocal).connect(to, LIMIT).await.unwrap_err();
        assert_eq!(error.class(), ConnectClass::NotAllowed);
        assert!(error.to_string().starts_with(&format!("vendor.test:{port} leads to {local}: ")), "{error}");
    }
    let mixed = connector(&["127.0.0.1", "192.0.2.1"], AddressRule::NoLocal);
    let passed = mixed.allowed_addresses(to).await.unwrap();
    assert_eq!(passed, [SocketAddr::new("192.0.2.1".parse().unwrap(), port)]);
    let literal = Destination { host: "127.0.0.1", ..to };
    assert!(mixed.connect(literal, LIMIT).await.is_err(), "a literal address is checked too");
}

#[tokio::test]
async fn a_refused_connection_and_an_unknown_name_are_told_apart() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let to = Destination { host: "vendor.test", port, tls: None };
    let error = loopback().connect(to, LIMIT).await.unwrap_err();
    assert_eq!(error.class(), ConnectClass::Unreachable);
    assert!(error.to_string().starts_with(&format!("cannot connect to vendor.test:{port}: ")), "{error}");

    let error = connector(&[], AddressRule::Any).connect(to, LIMIT).await.unwrap_err();
    assert_eq!(error.class(), ConnectClass::Resolve);
    assert_eq!(error.to_string(), "cannot resolve vendor.test: the name has no address");
}

#[tokio::test(start_paused = true)]
async fn a_look_up_that_hangs_ends_with_the_limit() {
    let connector = Connector::new(Resolver::with_lookup(|_| std::future::pending().boxed()), AddressRule::Any);
    let to = Destination { host: "vendor.test", port: 443, tls: None };
    let error = connector.connect(to, Duration::from_millis(1_500)).await.unwrap_err();
    assert_eq!(error.class(), ConnectClass::Timeout);
    assert_eq!(error.to_string(), "no connection to vendor.test:443 within 1.5 s: still looking the name up");
}

#[tokio::test]
async fn a_server_that_is_silent_in_the_handshake_ends_with_the_limit() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let config = TlsRoots::with_file(None).unwrap().client_config(None).unwrap();
    let to = Destination { host: "vendor.test", port, tls: Some(&config) };
    let error = loopback().connect(to, Duration::from_millis(500)).await.unwrap_err();
    assert!(matches!(error, ConnectError::Timeout { stage: Stage::Tls, .. }), "{error}");
}
