//! What the enclave shows from outside: its certificate, its evidence, its signs of life, its speed.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::support::{World, chat, chat_stream};
use aws_lc_rs::signature::{RSA_PSS_2048_8192_SHA256, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use og_attest::{Policy, roots};
use og_gateway::ManualClock;
use og_gateway::legacy::signing::heartbeat_hash;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const CHAT: &str = "/v1/chat/completions";

#[tokio::test]
async fn evidence_binds_every_key_and_the_callers_nonce() {
    let world = World::new().await;
    let identity = world.gateway().identity();
    let nonce = [7_u8; 20];
    let text = world
        .client
        .get(world.url(&format!("/enclave/attestation?nonce={}", hex::encode(nonce))))
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(text.ends_with('\n'));
    let document = STANDARD.decode(text.trim()).unwrap();
    let policy = |nonce: &[u8]| {
        Policy::new([roots::DEVELOPMENT])
            .with_keys(&identity.tls_certificate_der, &identity.signing_key_der)
            .with_nonce(nonce)
    };
    let now = world.clock.now_secs();
    let attestation = og_attest::verify(&document, &policy(&nonce), now).unwrap();
    assert!(attestation.root.simulated);
    let keys = attestation.bound_keys().unwrap();
    assert_eq!((keys.receipt_key, keys.hpke_key), (identity.receipt_key, identity.hpke_key));
    og_attest::verify(&document, &policy(&[8; 20]), now).unwrap_err();
    og_attest::verify(&document, &Policy::new([roots::AWS_NITRO_G1]), now).unwrap_err();

    // Nobody gets evidence over a nonce of their own that could be a registration's.
    let path = format!("/enclave/attestation?nonce={}", hex::encode([9_u8; 32]));
    assert_eq!(world.get(&path).await.0, 400);
}

#[tokio::test]
async fn the_registration_binds_the_configured_owner_and_nobody_else() {
    let world = World::new().await;
    let identity = world.gateway().identity();
    let (status, body) = world.get("/enclave/registration").await;
    assert_eq!(status, 200);
    assert_eq!(body["simulated"], true);
    let owner: alloy_primitives::Address = body["owner"].as_str().unwrap().parse().unwrap();
    let bound = |owner| {
        let config = &world.config;
        og_contracts::registration_nonce(&og_contracts::registry::Registration {
            owner,
            chain_id: config.verification.chain_id,
            genesis_hash: config.verification.genesis_hash,
            registry: config.verification.registry,
            pay_to: body["pay_to"].as_str().unwrap().parse().unwrap(),
            endpoint: body["endpoint"].as_str().unwrap(),
            tee_type: 0,
        })
    };
    let policy = |nonce: &[u8]| {
        Policy::new([roots::DEVELOPMENT])
            .with_keys(&identity.tls_certificate_der, &identity.signing_key_der)
            .with_nonce(nonce)
    };
    let document = STANDARD.decode(body["document"].as_str().unwrap()).unwrap();
    let now = world.clock.now_secs();
    og_attest::verify(&document, &policy(bound(owner).as_slice()), now).unwrap();
    let thief = alloy_primitives::Address::repeat_byte(0xbb);
    og_attest::verify(&document, &policy(bound(thief).as_slice()), now).unwrap_err();
    let in_process = world.gateway().registration_evidence().unwrap().unwrap();
    og_attest::verify(&in_process, &policy(bound(owner).as_slice()), now).unwrap();
}

/// The certificate that the listener presents.
async fn presented(world: &World) -> CertificateDer<'static> {
    let response = reqwest::Client::builder()
        .tls_danger_accept_invalid_certs(true)
        .tls_info(true)
        .no_proxy()
        .build()
        .unwrap()
        .get(world.url("/health"))
        .send()
        .await
        .unwrap();
    let info = response.extensions().get::<reqwest::tls::TlsInfo>().unwrap();
    CertificateDer::from(info.peer_certificate().unwrap().to_vec())
}

#[tokio::test]
async fn the_certificate_is_the_published_one_and_pins_alone() {
    let world = World::new().await;
    let certificate = presented(&world).await;
    assert_eq!(certificate.as_ref(), world.gateway().identity().tls_certificate_der);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = |root: CertificateDer<'static>| {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(root).unwrap();
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .unwrap()
    };
    let pinned = verifier(certificate.clone());
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let now = world.clock.now_secs();
    let check = |verifier: &WebPkiServerVerifier, secs: u64| {
        let at = UnixTime::since_unix_epoch(Duration::from_secs(secs));
        verifier.verify_server_cert(&certificate, &[], &name, &[], at)
    };
    check(&pinned, now).unwrap();
    check(&pinned, now - 80_000).unwrap();
    check(&pinned, now + 365 * 86_400).unwrap();
    check(&pinned, now + 400 * 86_400).unwrap_err();
    check(&pinned, now - 2 * 86_400).unwrap_err();
    let other = World::new().await;
    check(&verifier(presented(&other).await), now).unwrap_err();
    // basicConstraints, critical, CA:FALSE: 30 0c 06 03 55 1d 13 01 01 ff 04 02 30 00.
    let constraints = hex::decode("300c0603551d130101ff04023000").unwrap();
    assert!(certificate.windows(constraints.len()).any(|window| window == constraints));
}

#[tokio::test]
async fn the_official_clients_tls_context_accepts_it() {
    let world = World::new().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("certificate.der");
    std::fs::write(&path, &world.gateway().identity().tls_certificate_der).unwrap();
    let script = "import ssl, sys, socket\n\
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)\n\
        context.check_hostname = False\n\
        context.verify_mode = ssl.CERT_REQUIRED\n\
        context.load_verify_locations(cadata=open(sys.argv[1], 'rb').read())\n\
        raw = socket.create_connection(('127.0.0.1', int(sys.argv[2])))\n\
        tls = context.wrap_socket(raw)\n\
        tls.sendall(b'GET /health HTTP/1.1\\r\\nhost: x\\r\\nconnection: close\\r\\n\\r\\n')\n\
        print(tls.version(), tls.recv(15))\n";
    let port = world.gateway().addr().port().to_string();
    let output = tokio::process::Command::new("python3")
        .args(["-c", script, path.to_str().unwrap(), &port])
        .output()
        .await;
    let Ok(output) = output else {
        println!("SKIPPED the_official_clients_tls_context_accepts_it: no python3");
        return;
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("HTTP/1.1 200"), "{text} {}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn garbage_instead_of_tls_or_http_harms_nobody() {
    let world = World::new().await;
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 300], &[0x16, 3, 1, 0xff, 0xff], b""] {
        let mut stream = tokio::net::TcpStream::connect(world.gateway().addr()).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }
    assert_eq!(world.get("/health").await.0, 200);
}

#[tokio::test]
async fn heartbeats_follow_the_clock_and_failures_raise_the_alarm() {
    let clock = Arc::new(ManualClock::at(1_800_000_000_000));
    let world = World::with_clock(clock.clone(), |_| {}).await;
    let beats = |count: usize| {
        let settlement = world.settlement.clone();
        async move {
            while settlement.heartbeats.lock().unwrap().len() < count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    };
    // Six hours: one every ten minutes, each signed for half a minute before.
    for count in 1..=36 {
        clock.advance_ms(600_000);
        beats(count).await;
    }
    let identity = world.gateway().identity();
    let heartbeats = world.settlement.heartbeats.lock().unwrap().clone();
    for (i, heartbeat) in heartbeats.iter().enumerate() {
        assert_eq!(heartbeat.timestamp, 1_800_000_000 + 600 * (i as u64 + 1) - 30);
        assert_eq!(heartbeat.tee_id, identity.tee_id);
        let hash = heartbeat_hash(identity.tee_id, heartbeat.timestamp);
        UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, &identity.signing_key_der)
            .verify(hash.as_slice(), &heartbeat.signature)
            .unwrap();
    }
    assert_eq!(world.get("/health").await.1["alarm"], serde_json::Value::Null);
    world.settlement.down.store(true, Ordering::SeqCst);
    clock.advance_ms(600_000);
    while world.get("/health").await.1["alarm"].is_null() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    world.settlement.down.store(false, Ordering::SeqCst);
    clock.advance_ms(10_000);
    beats(37).await;
}

#[tokio::test]
async fn slow_answers_keep_their_connection_alive() {
    let world = World::with(|config| config.limits.keepalive_ms = 50).await;
    let text = world.paid(CHAT, chat("slow")).await.text().await.unwrap();
    assert!(text.starts_with("  "), "{text}");
    let answer: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(answer["tee_signature"].is_string());
    let text = world.paid(CHAT, chat_stream("slow")).await.text().await.unwrap();
    assert!(text.starts_with(": ping\n\n: ping\n\n"), "{text}");
    assert!(text.ends_with("data: [DONE]\n\n"));
}

/// Re-framing event by event must not meet Nagle's algorithm and delayed acknowledgements, which cost 40 ms.
#[tokio::test]
async fn small_events_are_sent_at_once() {
    let world = World::new().await;
    let mut best = Duration::MAX;
    for _ in 0..30 {
        let payment = world.payment(CHAT).await;
        let start = Instant::now();
        let text =
            world.with_payment(CHAT, chat_stream("ok"), &payment).await.text().await.unwrap();
        best = best.min(start.elapsed());
        assert_eq!(crate::support::events(&text).len(), 21);
    }
    println!("a paid stream of 21 events took {best:?} at best");
    assert!(best < Duration::from_millis(30), "{best:?}");
}
