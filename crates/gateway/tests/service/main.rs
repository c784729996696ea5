//! The whole gateway over TLS, with a mock upstream and a faked facilitator.

#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::missing_panics_doc,
    reason = "a test says what it expects, and its parts are its own"
)]

mod enclave;
mod faults;
mod flow;
mod local;
mod payments;
mod support;

#[tokio::test(flavor = "multi_thread")]
#[ignore]
async fn serve_tmp() {
    let world = support::World::new().await;
    std::fs::write("/tmp/gw-url", &world.base).unwrap();
    while !std::path::Path::new("/tmp/gw-stop").exists() {
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        let payments: Vec<String> = world.settlement.payments.lock().unwrap().iter().map(|p| p.amount.to_string()).collect();
        std::fs::write("/tmp/gw-payments", payments.join("\n")).unwrap();
    }
}
