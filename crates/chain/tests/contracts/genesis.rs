//! What answers right after genesis.

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_sol_types::{SolCall, SolValue};
use og_attest::simulated::Measurements;
use og_chain::At;
use og_contracts::{
    IERC20Permit3009, IEvidence, IInferenceSettlementRelay, IMulticall3, IPermit2,
    ITEEInferenceVerifier, ITEERegistry, IX402ExactPermit2Proxy, IX402UptoPermit2Proxy, addresses,
};

use crate::network::{HEARTBEAT_MAX_AGE, Network, START};

const ADMIN_ROLE: B256 = B256::ZERO;

#[test]
fn the_registry_knows_its_roles_types_and_measurements() {
    let network = Network::opengradient();
    let (admin, operator) = (network.people.admin.address(), network.people.operator.address());
    let operator_role = keccak256("TEE_OPERATOR");
    let approved = Measurements::of_image("og-gateway").pcr_hash();
    // The alias answers as the registry does.
    for registry in [addresses::TEE_REGISTRY, addresses::TEE_REGISTRY_ALIAS] {
        let has_role =
            |role, account| network.view(registry, &ITEERegistry::hasRoleCall { role, account });
        assert!(has_role(ADMIN_ROLE, admin) && has_role(operator_role, operator));
        assert!(!has_role(ADMIN_ROLE, operator) && !has_role(operator_role, admin));
        assert_eq!(network.view(registry, &ITEERegistry::TEE_OPERATORCall {}), operator_role);
        assert_eq!(
            network.view(registry, &ITEERegistry::getRoleAdminCall { role: operator_role }),
            ADMIN_ROLE
        );
        assert_eq!(
            network.view(registry, &ITEERegistry::heartbeatMaxAgeCall {}),
            U256::from(HEARTBEAT_MAX_AGE)
        );
        assert_eq!(
            network.view(registry, &ITEERegistry::VERIFIERCall {}),
            addresses::TEE_VERIFIER_PRECOMPILE
        );
        assert_eq!(
            network.view(registry, &ITEERegistry::EVIDENCECall {}),
            addresses::EVIDENCE_PRECOMPILE
        );

        let types = network.view(registry, &ITEERegistry::getTEETypesCall {});
        assert_eq!(types.typeIds, vec![0]);
        assert_eq!(
            (types.infos[0].name.as_str(), types.infos[0].addedAt),
            ("LLMProxy", U256::from(START))
        );
        assert!(network.view(registry, &ITEERegistry::isValidTEETypeCall { typeId: 0 }));
        assert!(!network.view(registry, &ITEERegistry::isValidTEETypeCall { typeId: 1 }));

        let is_approved = |teeType, pcrHash| {
            network.view(registry, &ITEERegistry::isPCRApprovedCall { teeType, pcrHash })
        };
        assert!(
            is_approved(0, approved) && !is_approved(1, approved) && !is_approved(0, B256::ZERO)
        );
        let record =
            network.view(registry, &ITEERegistry::pcrRecordsCall { teeType: 0, pcrHash: approved });
        assert_eq!((record.approved, record.recordedType), (true, 0));
        assert_eq!(
            (record.approvedAt, record.version.as_str()),
            (U256::from(START), "0.1.0 (simulated)")
        );
        let list = network.view(registry, &ITEERegistry::getApprovedPCRsCall {});
        assert_eq!(list, vec![ITEERegistry::PCRKey { pcrHash: approved, teeType: 0 }]);

        assert!(network.view(registry, &ITEERegistry::getActiveTEEsCall { teeType: 0 }).is_empty());
        let nobody = ITEERegistry::getTEECall { teeId: B256::ZERO };
        network.reverts(admin, registry, &nobody, &ITEERegistry::TEENotFound {});
    }
}

#[test]
fn the_alias_writes_nothing() {
    let network = Network::opengradient();
    let call = ITEERegistry::setHeartbeatMaxAgeCall { maxAge: U256::from(100) };
    // The registry sees the alias as the caller, and it could not write if it did not.
    let result = network.call(network.people.admin.address(), addresses::TEE_REGISTRY_ALIAS, &call);
    assert!(result.is_err());
}

#[test]
fn verifier_and_relay_point_at_each_other_and_the_registry() {
    let network = Network::opengradient();
    let (admin, relayer) = (network.people.admin.address(), network.people.relayer.address());
    for verifier in [addresses::INFERENCE_VERIFIER, addresses::INFERENCE_VERIFIER_OLDER] {
        assert_eq!(
            network.view(verifier, &ITEEInferenceVerifier::registryCall {}),
            addresses::TEE_REGISTRY
        );
        assert_eq!(
            network.view(verifier, &ITEEInferenceVerifier::MAX_INFERENCE_AGECall {}),
            U256::from(3600)
        );
        assert_eq!(
            network.view(verifier, &ITEEInferenceVerifier::FUTURE_TOLERANCECall {}),
            U256::from(300)
        );
        let hash = network.view(
            verifier,
            &ITEEInferenceVerifier::computeMessageHashCall {
                inputHash: B256::repeat_byte(0x11),
                outputHash: B256::repeat_byte(0x22),
                timestamp: U256::from(1_700_000_000_u64),
            },
        );
        // keccak256(inputHash || outputHash || uint256 timestamp), as the official gateway signs it.
        let expected = "eaa08c2fbe99082a90d80b593272d0c59f9a375a8076adb93da525ed40a36c68";
        assert_eq!(alloy_primitives::hex::encode(hash), expected);
        let repoint = ITEEInferenceVerifier::setRegistryCall { newRegistry: Address::ZERO };
        network.reverts(
            admin,
            verifier,
            &repoint,
            &ITEEInferenceVerifier::InvalidRegistryAddress {},
        );
    }
    let relay = addresses::SETTLEMENT_RELAY;
    assert_eq!(
        network.view(relay, &IInferenceSettlementRelay::SETTLEMENT_CONTRACTCall {}),
        addresses::INFERENCE_VERIFIER
    );
    assert_eq!(
        network.view(relay, &IInferenceSettlementRelay::REGISTRYCall {}),
        addresses::TEE_REGISTRY
    );
    let role = keccak256("SETTLEMENT_RELAY_ROLE");
    assert_eq!(network.view(relay, &IInferenceSettlementRelay::SETTLEMENT_RELAY_ROLECall {}), role);
    let has_role = |role, account| {
        network.view(relay, &IInferenceSettlementRelay::hasRoleCall { role, account })
    };
    assert!(has_role(role, relayer) && has_role(ADMIN_ROLE, admin) && !has_role(role, admin));
}

#[test]
fn the_chain_tells_contracts_its_genesis_hash() {
    let network = Network::opengradient();
    let hash = network.view(addresses::EVIDENCE_PRECOMPILE, &IEvidence::genesisHashCall {});
    assert_eq!(hash, network.chain.genesis_hash());
    for precompile in [addresses::TEE_VERIFIER_PRECOMPILE, addresses::EVIDENCE_PRECOMPILE] {
        assert_eq!(
            network.chain.code(precompile, At::Latest).expect("readable"),
            Bytes::from_static(&[0xfe])
        );
    }
}

#[test]
fn the_tokens_hold_what_genesis_gave() {
    let network = Network::base();
    let (alice, bob) = (network.people.alice.address(), network.people.bob.address());
    let coin = U256::from(10).pow(U256::from(18));
    assert_eq!(network.chain.balance(alice, At::Latest).expect("readable"), coin * U256::from(100));
    for (token, name, symbol, decimals, unit) in [
        (addresses::OPG, "OpenGradient", "OPG", 18, coin),
        (addresses::USDC, "USD Coin", "USDC", 6, U256::from(1_000_000)),
    ] {
        let view = |account| network.view(token, &IERC20Permit3009::balanceOfCall { account });
        assert_eq!(view(alice), unit * U256::from(10_000));
        let supply = network.view(token, &IERC20Permit3009::totalSupplyCall {});
        assert_eq!(supply, unit * U256::from(50_000));
        assert_eq!(network.view(token, &IERC20Permit3009::nameCall {}), name);
        assert_eq!(network.view(token, &IERC20Permit3009::symbolCall {}), symbol);
        assert_eq!(network.view(token, &IERC20Permit3009::decimalsCall {}), decimals);
        let allowance = |owner| {
            network.view(
                token,
                &IERC20Permit3009::allowanceCall { owner, spender: addresses::PERMIT2 },
            )
        };
        assert_eq!(allowance(alice), U256::MAX);
        assert_eq!(allowance(bob), U256::ZERO);
    }
}

#[test]
fn domain_separators_are_those_of_the_chain() {
    let domain = |name: &str, version: Option<&str>, chain_id: u64, contract: Address| {
        let mut words = vec![keccak256(if version.is_some() {
            "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
        } else {
            "EIP712Domain(string name,uint256 chainId,address verifyingContract)"
        })];
        words.push(keccak256(name));
        words.extend(version.map(keccak256));
        words.push(U256::from(chain_id).into());
        words.push(contract.into_word());
        keccak256(words.concat())
    };
    let base = Network::base();
    for (token, name, version) in
        [(addresses::OPG, "OpenGradient", "1"), (addresses::USDC, "USD Coin", "2")]
    {
        let separator = base.view(token, &IERC20Permit3009::DOMAIN_SEPARATORCall {});
        assert_eq!(separator, domain(name, Some(version), 8453, token), "{name}");
    }
    for network in [&base, &Network::opengradient()] {
        let separator = network.view(addresses::PERMIT2, &IPermit2::DOMAIN_SEPARATORCall {});
        assert_eq!(
            separator,
            domain("Permit2", None, network.chain.chain_id(), addresses::PERMIT2)
        );
    }
}

#[test]
fn the_proxies_bind_the_witness_types_that_clients_sign() {
    let network = Network::base();
    let stub = "PermitWitnessTransferFrom(TokenPermissions permitted,address spender,uint256 nonce,uint256 deadline,";
    let exact = addresses::X402_EXACT_PROXY;
    let text = network.view(exact, &IX402ExactPermit2Proxy::WITNESS_TYPE_STRINGCall {});
    assert_eq!(
        alloy_primitives::hex::encode(keccak256(format!("{stub}{text}"))),
        "ebc156cd23678a74c94df13d772ef5478420637f0c94bd10d509e1dc98f521c7"
    );
    let hash = network.view(exact, &IX402ExactPermit2Proxy::WITNESS_TYPEHASHCall {});
    assert_eq!(hash, keccak256("Witness(address to,uint256 validAfter)"));
    assert_eq!(network.view(exact, &IX402ExactPermit2Proxy::PERMIT2Call {}), addresses::PERMIT2);

    let upto = addresses::X402_UPTO_PROXY;
    let text = network.view(upto, &IX402UptoPermit2Proxy::WITNESS_TYPE_STRINGCall {});
    assert_eq!(
        alloy_primitives::hex::encode(keccak256(format!("{stub}{text}"))),
        "51dff6974ad4388c499e7fcfe838d2bd767162553a144098ce20ea661d70c2ee"
    );
    let hash = network.view(upto, &IX402UptoPermit2Proxy::WITNESS_TYPEHASHCall {});
    assert_eq!(hash, keccak256("Witness(address to,address facilitator,uint256 validAfter)"));
    assert_eq!(network.view(upto, &IX402UptoPermit2Proxy::PERMIT2Call {}), addresses::PERMIT2);
}

#[test]
fn multicall_answers_many_calls_and_keeps_failures_apart() {
    let network = Network::base();
    let ok = IMulticall3::Call3 {
        target: addresses::OPG,
        allowFailure: false,
        callData: IERC20Permit3009::decimalsCall {}.abi_encode().into(),
    };
    let fails =
        IMulticall3::Call3 { callData: vec![1, 2, 3, 4].into(), allowFailure: true, ..ok.clone() };
    let calls = vec![ok.clone(), fails.clone(), ok];
    let results = network.view(addresses::MULTICALL3, &IMulticall3::aggregate3Call { calls });
    assert_eq!(
        results.iter().map(|result| result.success).collect::<Vec<_>>(),
        [true, false, true]
    );
    assert_eq!(results[0].returnData, Bytes::from(18_u64.abi_encode()));
    let strict = IMulticall3::Call3 { allowFailure: false, ..fails };
    let call = IMulticall3::aggregate3Call { calls: vec![strict] };
    network.reverts_saying(Address::ZERO, addresses::MULTICALL3, &call, "Multicall3: call failed");
}

#[test]
fn the_deployer_creates_where_create2_says() {
    let network = Network::opengradient();
    // Creation code of a contract whose code is one STOP.
    let init_code = alloy_primitives::hex!("600180600a5f395ff300");
    for deployer in [addresses::CREATE2_DEPLOYER, addresses::SAFE_SINGLETON_FACTORY] {
        let salt = B256::repeat_byte(7);
        let request = og_chain::CallRequest {
            from: Some(network.people.alice.address()),
            to: Some(deployer),
            input: [salt.as_slice(), &init_code].concat().into(),
            ..og_chain::CallRequest::default()
        };
        let outcome = network.chain.call(&request, At::Latest, network.now()).expect("answered");
        let expected = deployer.create2_from_code(salt, init_code);
        let og_chain::CallResult::Success { output } = outcome.result else {
            panic!("{outcome:?}")
        };
        assert_eq!(output, Bytes::copy_from_slice(expected.as_slice()));
    }
}
