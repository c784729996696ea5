//! Official clients, unmodified: they find, pay and use a gateway, and are charged the signed cost, once.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what went wrong by panicking")]

use std::time::Duration;

use og_e2e::charges::{Account, Asset};
use og_e2e::network::{LOCAL_MODEL, Network, mock_model};
use og_e2e::reports::{Report, with_known_usage};
use og_testkit::clients::PythonClient;

fn batched(reports: &[Report]) -> usize {
    reports.iter().filter(|report| report.mode.as_deref() != Some("private")).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_opengradient_sdk_against_the_mock_upstream_and_the_local_model() {
    let client = tokio::task::block_in_place(|| PythonClient::ensure("opengradient-sdk")).unwrap();
    let network = Network::start(true).await.unwrap();
    assert!(network.models.iter().any(|model| model == LOCAL_MODEL), "{:?}", network.models);

    // The first account has no allowance yet: the SDK must grant it.
    let payer = network.accounts[0].name.clone();
    let before = Account::look(&network, &payer, Asset::Opg).await.unwrap();
    let reports = network.run(client.script("check.py"), &[&payer, mock_model()]).unwrap();
    let reports = with_known_usage(&reports);
    assert_eq!(reports.len(), 14, "seven requests in two modes: {reports:?}");
    before.charged(&reports).await.unwrap();
    assert_eq!(network.mock.count(), reports.len(), "one upstream call per request");
    let called =
        reports.iter().filter(|report| report.finish_reason.as_deref() == Some("tool_calls"));
    assert_eq!(called.count(), 4, "the mock always calls a tool that it is offered");
    let anchored = batched(&reports);
    network.anchored(anchored).await.unwrap();

    let payer = network.accounts[1].name.clone();
    let before = Account::look(&network, &payer, Asset::Opg).await.unwrap();
    let cases = "plain,stream,tools,tools-stream,structured,completion";
    let reports = network.run(client.script("check.py"), &[&payer, LOCAL_MODEL, cases]).unwrap();
    let reports = with_known_usage(&reports);
    assert_eq!(reports.len(), 14);
    before.charged(&reports).await.unwrap();
    network.anchored(anchored + batched(&reports)).await.unwrap();
    network.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_official_x402_client_with_its_default_spend_controls() {
    let client = tokio::task::block_in_place(|| PythonClient::ensure("x402-official")).unwrap();
    let network = Network::start(false).await.unwrap();
    let payer = network.accounts[1].name.clone();
    let usdc = Account::look(&network, &payer, Asset::Usdc).await.unwrap();
    let opg = Account::look(&network, &payer, Asset::Opg).await.unwrap();
    let reports = network.run(client.script("check.py"), &[&payer, mock_model()]).unwrap();
    assert_eq!(reports.len(), 4, "{reports:?}");
    usdc.charged(&reports).await.unwrap();
    opg.charged(&reports).await.unwrap();
    assert_eq!(network.mock.count(), reports.len());
    network.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_openai_client_with_an_x402_transport() {
    let client = tokio::task::block_in_place(|| PythonClient::ensure("openai")).unwrap();
    let network = Network::start(true).await.unwrap();
    let payer = network.accounts[1].name.clone();
    for model in [mock_model(), LOCAL_MODEL] {
        let before = Account::look(&network, &payer, Asset::Usdc).await.unwrap();
        let reports = network.run(client.script("check.py"), &[&payer, model]).unwrap();
        assert_eq!(reports.len(), 4, "{reports:?}");
        before.charged(&reports).await.unwrap();
    }
    assert_eq!(network.mock.count(), 4);
    network.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sdk_succeeds_on_its_first_try_after_each_of_five_restarts() {
    let client = tokio::task::block_in_place(|| PythonClient::ensure("opengradient-sdk")).unwrap();
    let mut network = Network::start(false).await.unwrap();
    let payer = network.accounts[1].name.clone();
    let mut asked = 0;
    for round in 0..5 {
        let before = Account::look(&network, &payer, Asset::Opg).await.unwrap();
        let reports =
            network.run(client.script("check.py"), &[&payer, mock_model(), "quick"]).unwrap();
        asked += 1;
        assert_eq!(reports.len(), 1);
        assert_eq!(network.mock.count(), asked, "round {round}: no retry reached the upstream");
        before.charged(&reports).await.unwrap();
        let started = network.og().started_in;
        assert!(started < Duration::from_secs(60), "round {round}: {started:?}");
        network = network.restart(round % 2 == 1).unwrap();
    }
    let reports = network.run(client.script("check.py"), &[&payer, mock_model(), "quick"]).unwrap();
    assert_eq!((reports.len(), network.mock.count()), (1, asked + 1));
    network.anchored(asked + 1).await.unwrap();
    network.stop().unwrap();
}
