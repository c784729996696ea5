//! The pinned connection: whoever does not hold the key of the very certificate in the registry is refused.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what went wrong by panicking")]

use std::net::SocketAddr;
use std::sync::Arc;

use og_client::tls::pinned_http_client;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// A certificate and the key it was made for.
struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: KeyPair,
}

/// An end-entity certificate, as gateways have them.
fn end_entity(alter: impl FnOnce(&mut CertificateParams)) -> Identity {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["gateway".to_owned()]).unwrap();
    params.is_ca = IsCa::ExplicitNoCa;
    alter(&mut params);
    let certificate = params.self_signed(&key).unwrap();
    Identity { chain: vec![certificate.der().clone()], key }
}

/// Serves whatever it is told to, whether or not the key fits.
#[derive(Debug)]
struct Fixed(Arc<CertifiedKey>);

impl ResolvesServerCert for Fixed {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

/// A server with this chain that signs with this key; it answers every request with `ok`.
async fn serve(chain: Vec<CertificateDer<'static>>, key: &KeyPair) -> SocketAddr {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let key = provider.key_provider.load_private_key(key).unwrap();
    let certified = Arc::new(CertifiedKey::new(chain, key));
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Fixed(certified)));
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // A client that refuses breaks off here, as it should.
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            // A request's first bytes are enough to know that the client trusts this server.
            let mut method = [0; 4];
            stream.read_exact(&mut method).await.ok();
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
            stream.write_all(answer).await.ok();
            stream.shutdown().await.ok();
        }
    });
    address
}

/// What a client that pins `registered` gets from `address`.
async fn get(registered: &CertificateDer<'_>, address: SocketAddr) -> Result<String, String> {
    let client = pinned_http_client(registered).map_err(|error| error.to_string())?;
    let response = client.get(format!("https://{address}/")).send().await;
    let response = response.map_err(|error| format!("{error:?}"))?;
    response.text().await.map_err(|error| format!("{error:?}"))
}

#[tokio::test]
async fn the_registered_certificate_with_its_key_is_accepted() {
    let gateway = end_entity(|_| {});
    let address = serve(gateway.chain.clone(), &gateway.key).await;
    assert_eq!(get(&gateway.chain[0], address).await, Ok("ok".into()));
}

#[tokio::test]
async fn the_registered_certificate_without_its_key_is_refused() {
    let gateway = end_entity(|_| {});
    let thief = KeyPair::generate().unwrap();
    let address = serve(gateway.chain.clone(), &thief).await;
    let error = get(&gateway.chain[0], address).await.unwrap_err();
    assert!(error.contains("BadSignature"), "{error}");
}

#[tokio::test]
async fn another_certificate_of_the_same_name_is_refused() {
    let (gateway, other) = (end_entity(|_| {}), end_entity(|_| {}));
    let address = serve(other.chain.clone(), &other.key).await;
    get(&gateway.chain[0], address).await.unwrap_err();
    // Nor does sending the registered one along help.
    let both = [other.chain.clone(), gateway.chain.clone()].concat();
    let address = serve(both, &other.key).await;
    get(&gateway.chain[0], address).await.unwrap_err();
}

#[tokio::test]
async fn a_leaf_below_a_registered_authority_is_refused() {
    let authority_key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["authority".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&authority_key).unwrap().der().clone();
    let issuer = Issuer::new(params, authority_key);
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["gateway".to_owned()])
        .unwrap()
        .signed_by(&key, &issuer)
        .unwrap();
    for chain in [vec![leaf.der().clone()], vec![leaf.der().clone(), authority.clone()]] {
        let address = serve(chain, &key).await;
        get(&authority, address).await.unwrap_err();
    }
}

#[tokio::test]
async fn a_registered_authority_serving_itself_is_refused() {
    let authority = end_entity(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    let address = serve(authority.chain.clone(), &authority.key).await;
    get(&authority.chain[0], address).await.unwrap_err();
}

#[tokio::test]
async fn a_certificate_outside_its_dates_is_refused() {
    let expired = end_entity(|params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
    });
    let early = end_entity(|params| {
        params.not_before = date_time_ymd(2090, 1, 1);
        params.not_after = date_time_ymd(2091, 1, 1);
    });
    for identity in [expired, early] {
        let address = serve(identity.chain.clone(), &identity.key).await;
        get(&identity.chain[0], address).await.unwrap_err();
    }
}

#[tokio::test]
async fn what_is_no_certificate_is_refused_before_connecting() {
    for junk in [&b""[..], b"-----BEGIN CERTIFICATE-----", &[0x30; 40]] {
        assert!(pinned_http_client(junk).is_err());
    }
    let plain = "http://127.0.0.1:1/";
    let client = pinned_http_client(&end_entity(|_| {}).chain[0]).unwrap();
    assert!(client.get(plain).send().await.is_err(), "nothing goes over a plain connection");
}
