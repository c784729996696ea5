//! Paying: Permit2 through the x402 proxies, EIP-2612, EIP-3009.

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_signer_local::PrivateKeySigner;
use og_contracts::{
    IERC20Permit3009 as token, IPermit2, IX402ExactPermit2Proxy as exact,
    IX402UptoPermit2Proxy as upto, addresses,
};

use crate::network::{Network, sign};

const PAY_TO: Address = Address::repeat_byte(0x77);

fn balance(network: &Network, token: Address, account: Address) -> U256 {
    network.view(token, &token::balanceOfCall { account })
}

/// EIP-712: keccak256(0x1901 || domain separator || struct hash).
fn typed(separator: B256, words: &[B256]) -> B256 {
    keccak256(
        [&[0x19, 0x01][..], separator.as_slice(), keccak256(words.concat()).as_slice()].concat(),
    )
}

fn word(number: impl Into<u64>) -> B256 {
    U256::from(number.into()).into()
}

/// What a payer signs for Permit2; the witness words begin with its type hash.
struct Permit {
    spender: Address,
    asset: Address,
    amount: U256,
    nonce: U256,
    deadline: u64,
    witness: Vec<B256>,
    type_name: &'static str,
}

impl Permit {
    fn signed(&self, network: &Network, by: &PrivateKeySigner) -> Bytes {
        let permitted = keccak256(
            [
                keccak256("TokenPermissions(address token,uint256 amount)"),
                self.asset.into_word(),
                self.amount.into(),
            ]
            .concat(),
        );
        let primary = format!(
            "PermitWitnessTransferFrom(TokenPermissions permitted,address spender,uint256 nonce,uint256 deadline,\
             Witness witness)TokenPermissions(address token,uint256 amount){}",
            self.type_name
        );
        let words = [
            keccak256(primary),
            permitted,
            self.spender.into_word(),
            self.nonce.into(),
            word(self.deadline),
            keccak256(self.witness.concat()),
        ];
        let separator = network.view(addresses::PERMIT2, &IPermit2::DOMAIN_SEPARATORCall {});
        sign(by, typed(separator, &words)).as_bytes().into()
    }
}

const UPTO_WITNESS: &str = "Witness(address to,address facilitator,uint256 validAfter)";
const EXACT_WITNESS: &str = "Witness(address to,uint256 validAfter)";

/// An `upto` payment by `payer` that the relayer, who is the facilitator, may settle.
fn upto_payment(
    network: &Network,
    payer: &PrivateKeySigner,
    asset: Address,
    nonce: u64,
) -> upto::settleCall {
    let facilitator = network.people.relayer.address();
    let (amount, deadline, valid_after) =
        (U256::from(1_000_000), network.now() + 300, network.now() - 600);
    let witness = vec![
        keccak256(UPTO_WITNESS),
        PAY_TO.into_word(),
        facilitator.into_word(),
        word(valid_after),
    ];
    let permit = Permit {
        spender: addresses::X402_UPTO_PROXY,
        asset,
        amount,
        nonce: U256::from(nonce),
        deadline,
        witness,
        type_name: UPTO_WITNESS,
    };
    upto::settleCall {
        permit: upto::PermitTransferFrom {
            permitted: upto::TokenPermissions { token: asset, amount },
            nonce: U256::from(nonce),
            deadline: U256::from(deadline),
        },
        amount: U256::from(400_000),
        owner: payer.address(),
        witness: upto::Witness { to: PAY_TO, facilitator, validAfter: U256::from(valid_after) },
        signature: permit.signed(network, payer),
    }
}

#[test]
fn upto_moves_what_was_used_once() {
    let mut network = Network::base();
    let (alice, relayer) = (network.people.alice.clone(), network.people.relayer.clone());
    for (nonce, asset) in [(1_usize, addresses::OPG), (2, addresses::USDC)] {
        let before = balance(&network, asset, alice.address());
        let call = upto_payment(&network, &alice, asset, nonce as u64);
        let sent = network.sent(&relayer, addresses::X402_UPTO_PROXY, &call);
        assert_eq!(sent.events::<upto::Settled>().len(), 1);
        assert_eq!(balance(&network, asset, PAY_TO), U256::from(400_000));
        assert_eq!(balance(&network, asset, alice.address()), before - U256::from(400_000));
        let used = IPermit2::nonceBitmapCall { owner: alice.address(), wordPos: U256::ZERO };
        assert!(network.view(addresses::PERMIT2, &used).bit(nonce));
        // The rest of the permit is gone with its nonce.
        network.reverts(
            relayer.address(),
            addresses::X402_UPTO_PROXY,
            &call,
            &IPermit2::InvalidNonce {},
        );
    }
    // The whole permitted amount is allowed too.
    let call = upto_payment(&network, &alice, addresses::OPG, 3);
    let all = upto::settleCall { amount: call.permit.permitted.amount, ..call };
    network.sent(&relayer, addresses::X402_UPTO_PROXY, &all);
}

#[test]
fn upto_refuses_everything_the_payer_did_not_sign() {
    let mut network = Network::base();
    let (alice, bob, relayer) =
        (network.people.alice.clone(), network.people.bob.clone(), network.people.relayer.clone());
    let proxy = addresses::X402_UPTO_PROXY;
    let call = upto_payment(&network, &alice, addresses::OPG, 1);
    let from = relayer.address();
    network.call(from, proxy, &call).expect("settles as it is");

    let with = |change: &dyn Fn(&mut upto::settleCall)| {
        let mut call = call.clone();
        change(&mut call);
        call
    };
    let more = with(&|call| call.amount = call.permit.permitted.amount + U256::from(1));
    network.reverts(from, proxy, &more, &upto::AmountExceedsPermitted {});
    network.reverts(bob.address(), proxy, &more, &upto::AmountExceedsPermitted {});
    network.reverts(bob.address(), proxy, &call, &upto::UnauthorizedFacilitator {});
    network.reverts(from, proxy, &with(&|call| call.amount = U256::ZERO), &upto::InvalidAmount {});
    network.reverts(from, proxy, &with(&|call| call.owner = Address::ZERO), &upto::InvalidOwner {});
    network.reverts(
        from,
        proxy,
        &with(&|call| call.witness.to = Address::ZERO),
        &upto::InvalidDestination {},
    );
    let later = U256::from(network.now() + 1);
    network.reverts(
        from,
        proxy,
        &with(&|call| call.witness.validAfter = later),
        &upto::PaymentTooEarly {},
    );
    // Changed terms no longer carry the payer's signature.
    let changes: [&dyn Fn(&mut upto::settleCall); 6] = [
        &|call| call.witness.to = Address::repeat_byte(0x66),
        &|call| call.witness.validAfter -= U256::from(1),
        &|call| call.permit.permitted.amount += U256::from(1),
        &|call| call.permit.nonce += U256::from(1),
        &|call| call.permit.deadline += U256::from(1),
        &|call| call.permit.permitted.token = addresses::USDC,
    ];
    for change in changes {
        network.reverts(from, proxy, &with(change), &IPermit2::InvalidSigner {});
    }
    // Another facilitator cannot put itself into the witness.
    let mine = with(&|call| call.witness.facilitator = bob.address());
    network.reverts(bob.address(), proxy, &mine, &IPermit2::InvalidSigner {});
    // A permit for the other proxy is none for this one.
    network.reverts(
        from,
        proxy,
        &with(&|call| call.owner = bob.address()),
        &IPermit2::InvalidSigner {},
    );
    let short = with(&|call| call.signature = Bytes::from(call.signature[..63].to_vec()));
    network.reverts(from, proxy, &short, &IPermit2::InvalidSignatureLength {});

    // No allowance, then too late.
    let poor = upto_payment(&network, &bob, addresses::OPG, 1);
    network.reverts_saying(from, proxy, &poor, "TRANSFER_FROM_FAILED");
    let signatureDeadline = call.permit.deadline;
    network.advance(301);
    network.reverts(from, proxy, &call, &IPermit2::SignatureExpired { signatureDeadline });
    assert_eq!(balance(&network, addresses::OPG, PAY_TO), U256::ZERO);
}

/// A signed EIP-2612 permit to Permit2.
fn permit_2612(
    network: &Network,
    by: &PrivateKeySigner,
    asset: Address,
    value: U256,
) -> upto::EIP2612Permit {
    let deadline = network.now() + 100;
    let nonce = network.view(asset, &token::noncesCall { owner: by.address() });
    let words = [
        keccak256(
            "Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)",
        ),
        by.address().into_word(),
        addresses::PERMIT2.into_word(),
        value.into(),
        nonce.into(),
        word(deadline),
    ];
    let signature = sign(by, typed(network.view(asset, &token::DOMAIN_SEPARATORCall {}), &words));
    upto::EIP2612Permit {
        value,
        deadline: U256::from(deadline),
        r: signature.r().into(),
        s: signature.s().into(),
        v: 27 + u8::from(signature.v()),
    }
}

#[test]
fn a_payer_without_allowance_brings_one_along() {
    let mut network = Network::base();
    let (bob, relayer) = (network.people.bob.clone(), network.people.relayer.clone());
    let proxy = addresses::X402_UPTO_PROXY;
    for (nonce, asset) in [(1, addresses::OPG), (2, addresses::USDC)] {
        let upto::settleCall { permit, amount, owner, witness, signature } =
            upto_payment(&network, &bob, asset, nonce);
        let permit2612 = permit_2612(&network, &bob, asset, permit.permitted.amount);
        let call =
            upto::settleWithPermitCall { permit2612, permit, amount, owner, witness, signature };
        let mut wrong = call.clone();
        wrong.permit2612.value += U256::from(1);
        network.reverts(relayer.address(), proxy, &wrong, &upto::Permit2612AmountMismatch {});
        let mut forged = call.clone();
        forged.permit2612.deadline += U256::from(1);
        network.reverts_saying(relayer.address(), proxy, &forged, "TRANSFER_FROM_FAILED");
        network.reverts(bob.address(), proxy, &call, &upto::UnauthorizedFacilitator {});
        let sent = network.sent(&relayer, proxy, &call);
        assert_eq!(sent.events::<upto::SettledWithPermit>().len(), 1);
        assert!(sent.events::<upto::EIP2612PermitFailed>().is_empty());
        assert_eq!(balance(&network, asset, PAY_TO), U256::from(400_000));
    }
    // Somebody used the permit already: the allowance is there, so the payment goes on and says so.
    let alice = network.people.alice.clone();
    let upto::settleCall { permit, amount, owner, witness, signature } =
        upto_payment(&network, &alice, addresses::OPG, 9);
    let mut permit2612 = permit_2612(&network, &alice, addresses::OPG, permit.permitted.amount);
    permit2612.v ^= 1;
    let call = upto::settleWithPermitCall { permit2612, permit, amount, owner, witness, signature };
    let sent = network.sent(&relayer, proxy, &call);
    assert_eq!(sent.events::<upto::EIP2612PermitFailed>()[0].owner, alice.address());
}

fn exact_payment(network: &Network, payer: &PrivateKeySigner, nonce: u64) -> exact::settleCall {
    let (amount, deadline, valid_after) =
        (U256::from(500), network.now() + 300, network.now() - 600);
    let permit = Permit {
        spender: addresses::X402_EXACT_PROXY,
        asset: addresses::USDC,
        amount,
        nonce: U256::from(nonce),
        deadline,
        witness: vec![keccak256(EXACT_WITNESS), PAY_TO.into_word(), word(valid_after)],
        type_name: EXACT_WITNESS,
    };
    exact::settleCall {
        permit: exact::PermitTransferFrom {
            permitted: exact::TokenPermissions { token: addresses::USDC, amount },
            nonce: U256::from(nonce),
            deadline: U256::from(deadline),
        },
        owner: payer.address(),
        witness: exact::Witness { to: PAY_TO, validAfter: U256::from(valid_after) },
        signature: permit.signed(network, payer),
    }
}

#[test]
fn exact_moves_the_signed_amount_whoever_delivers() {
    let mut network = Network::base();
    let (alice, bob) = (network.people.alice.clone(), network.people.bob.clone());
    let proxy = addresses::X402_EXACT_PROXY;
    let call = exact_payment(&network, &alice, 5);
    let from = bob.address();
    let with = |change: &dyn Fn(&mut exact::settleCall)| {
        let mut call = call.clone();
        change(&mut call);
        call
    };
    let later = U256::from(network.now() + 1);
    network.reverts(
        from,
        proxy,
        &with(&|call| call.permit.permitted.amount = U256::ZERO),
        &exact::InvalidAmount {},
    );
    network.reverts(
        from,
        proxy,
        &with(&|call| call.owner = Address::ZERO),
        &exact::InvalidOwner {},
    );
    network.reverts(
        from,
        proxy,
        &with(&|call| call.witness.to = Address::ZERO),
        &exact::InvalidDestination {},
    );
    network.reverts(
        from,
        proxy,
        &with(&|call| call.witness.validAfter = later),
        &exact::PaymentTooEarly {},
    );
    network.reverts(
        from,
        proxy,
        &with(&|call| call.witness.to = from),
        &IPermit2::InvalidSigner {},
    );
    let sent = network.sent(&bob, proxy, &call);
    assert_eq!(sent.events::<exact::Settled>().len(), 1);
    assert_eq!(balance(&network, addresses::USDC, PAY_TO), U256::from(500));
    network.reverts(from, proxy, &call, &IPermit2::InvalidNonce {});

    // With a permit of its own, for a payer without allowance.
    let exact::settleCall { permit, owner, witness, signature } = exact_payment(&network, &bob, 6);
    let upto::EIP2612Permit { value, deadline, r, s, v } =
        permit_2612(&network, &bob, addresses::USDC, permit.permitted.amount);
    let permit2612 = exact::EIP2612Permit { value, deadline, r, s, v };
    let call = exact::settleWithPermitCall { permit2612, permit, owner, witness, signature };
    let mut wrong = call.clone();
    wrong.permit2612.value = U256::from(1);
    network.reverts(from, proxy, &wrong, &exact::Permit2612AmountMismatch {});
    let sent = network.sent(&alice, proxy, &call);
    assert_eq!(sent.events::<exact::SettledWithPermit>().len(), 1);
    assert_eq!(balance(&network, addresses::USDC, PAY_TO), U256::from(1000));
}

/// An EIP-3009 authorisation; `kind` is `Transfer` or `Receive`.
#[derive(Clone)]
struct Authorization {
    to: Address,
    value: U256,
    valid_after: u64,
    valid_before: u64,
    nonce: B256,
}

impl Authorization {
    fn signed(&self, network: &Network, kind: &str, by: &PrivateKeySigner) -> Bytes {
        let words = [
            keccak256(format!(
                "{kind}WithAuthorization(address from,address to,uint256 value,uint256 validAfter,\
                 uint256 validBefore,bytes32 nonce)"
            )),
            by.address().into_word(),
            self.to.into_word(),
            self.value.into(),
            word(self.valid_after),
            word(self.valid_before),
            self.nonce,
        ];
        let separator = network.view(addresses::USDC, &token::DOMAIN_SEPARATORCall {});
        sign(by, typed(separator, &words)).as_bytes().into()
    }

    fn transfer(&self, from: Address, signature: Bytes) -> token::transferWithAuthorization_1Call {
        token::transferWithAuthorization_1Call {
            from,
            to: self.to,
            value: self.value,
            validAfter: U256::from(self.valid_after),
            validBefore: U256::from(self.valid_before),
            nonce: self.nonce,
            signature,
        }
    }
}

fn split(signature: &Bytes) -> (u8, B256, B256) {
    (signature[64], B256::from_slice(&signature[..32]), B256::from_slice(&signature[32..64]))
}

#[test]
fn an_authorised_transfer_of_usdc_happens_once_and_in_its_time() {
    let mut network = Network::base();
    let usdc = addresses::USDC;
    let (alice, bob) = (network.people.alice.clone(), network.people.bob.clone());
    let now = network.now();
    let base = Authorization {
        to: PAY_TO,
        value: U256::from(700),
        valid_after: now - 600,
        valid_before: now + 60,
        nonce: B256::repeat_byte(1),
    };
    let from = alice.address();
    let signature = base.signed(&network, "Transfer", &alice);
    let call = base.transfer(from, signature.clone());

    let forged = base.transfer(bob.address(), signature.clone());
    network.reverts_saying(bob.address(), usdc, &forged, "FiatTokenV2: invalid signature");
    let bent =
        Authorization { value: U256::from(701), ..base.clone() }.transfer(from, signature.clone());
    network.reverts_saying(bob.address(), usdc, &bent, "FiatTokenV2: invalid signature");
    let other_kind = base.transfer(from, base.signed(&network, "Receive", &alice));
    network.reverts_saying(bob.address(), usdc, &other_kind, "FiatTokenV2: invalid signature");
    let early = Authorization { valid_after: now, ..base.clone() };
    let early = early.transfer(from, early.signed(&network, "Transfer", &alice));
    network.reverts_saying(
        bob.address(),
        usdc,
        &early,
        "FiatTokenV2: authorization is not yet valid",
    );
    let late = Authorization { valid_before: now, ..base.clone() };
    let late = late.transfer(from, late.signed(&network, "Transfer", &alice));
    network.reverts_saying(bob.address(), usdc, &late, "FiatTokenV2: authorization is expired");
    let rich = Authorization { value: U256::from(u64::MAX), ..base.clone() };
    let rich = rich.transfer(from, rich.signed(&network, "Transfer", &alice));
    network.reverts_saying(bob.address(), usdc, &rich, "ERC20: transfer amount exceeds balance");

    let state = token::authorizationStateCall { authorizer: from, nonce: base.nonce };
    assert!(!network.view(usdc, &state));
    let sent = network.sent(&bob, usdc, &call);
    assert_eq!(sent.events::<token::AuthorizationUsed>()[0].nonce, base.nonce);
    assert_eq!(sent.events::<token::Transfer>()[0].value, base.value);
    assert_eq!(balance(&network, usdc, PAY_TO), U256::from(700));
    assert!(network.view(usdc, &state));
    network.reverts_saying(
        bob.address(),
        usdc,
        &call,
        "FiatTokenV2: authorization is used or canceled",
    );

    // The older form with v, r, s.
    let next = Authorization { nonce: B256::repeat_byte(2), ..base };
    let (v, r, s) = split(&next.signed(&network, "Transfer", &alice));
    let call = token::transferWithAuthorization_0Call {
        from,
        to: next.to,
        value: next.value,
        validAfter: U256::from(next.valid_after),
        validBefore: U256::from(next.valid_before),
        nonce: next.nonce,
        v,
        r,
        s,
    };
    network.sent(&bob, usdc, &call);
    assert_eq!(balance(&network, usdc, PAY_TO), U256::from(1400));
}

#[test]
fn only_the_payee_receives_and_only_the_payer_cancels() {
    let mut network = Network::base();
    let usdc = addresses::USDC;
    let (alice, bob) = (network.people.alice.clone(), network.people.bob.clone());
    let now = network.now();
    let authorization = Authorization {
        to: bob.address(),
        value: U256::from(9),
        valid_after: 0,
        valid_before: now + 60,
        nonce: B256::repeat_byte(3),
    };
    let receive = |signature| token::receiveWithAuthorization_1Call {
        from: alice.address(),
        to: bob.address(),
        value: authorization.value,
        validAfter: U256::ZERO,
        validBefore: U256::from(authorization.valid_before),
        nonce: authorization.nonce,
        signature,
    };
    let call = receive(authorization.signed(&network, "Receive", &alice));
    network.reverts_saying(alice.address(), usdc, &call, "FiatTokenV2: caller must be the payee");
    network.call(bob.address(), usdc, &call).expect("the payee may");

    let separator = network.view(usdc, &token::DOMAIN_SEPARATORCall {});
    let words = [
        keccak256("CancelAuthorization(address authorizer,bytes32 nonce)"),
        alice.address().into_word(),
        authorization.nonce,
    ];
    let cancel = |by: &PrivateKeySigner| token::cancelAuthorization_1Call {
        authorizer: alice.address(),
        nonce: authorization.nonce,
        signature: sign(by, typed(separator, &words)).as_bytes().into(),
    };
    network.reverts_saying(bob.address(), usdc, &cancel(&bob), "FiatTokenV2: invalid signature");
    let sent = network.sent(&bob, usdc, &cancel(&alice));
    assert_eq!(sent.events::<token::AuthorizationCanceled>()[0].nonce, authorization.nonce);
    network.reverts_saying(
        bob.address(),
        usdc,
        &call,
        "FiatTokenV2: authorization is used or canceled",
    );
    network.reverts_saying(
        bob.address(),
        usdc,
        &cancel(&alice),
        "FiatTokenV2: authorization is used or canceled",
    );
}

#[test]
fn tokens_move_as_eip_20_says() {
    let mut network = Network::base();
    let (alice, bob) = (network.people.alice.clone(), network.people.bob.clone());
    for asset in [addresses::OPG, addresses::USDC] {
        let (start_alice, start_bob) =
            (balance(&network, asset, alice.address()), balance(&network, asset, bob.address()));
        network.sent(
            &alice,
            asset,
            &token::transferCall { to: bob.address(), value: U256::from(3) },
        );
        network.sent(
            &alice,
            asset,
            &token::approveCall { spender: bob.address(), value: U256::from(5) },
        );
        let pull = |value: u64| token::transferFromCall {
            from: alice.address(),
            to: bob.address(),
            value: U256::from(value),
        };
        assert!(network.call(bob.address(), asset, &pull(6)).is_err());
        network.sent(&bob, asset, &pull(4));
        let left = token::allowanceCall { owner: alice.address(), spender: bob.address() };
        assert_eq!(network.view(asset, &left), U256::from(1));
        assert_eq!(balance(&network, asset, alice.address()), start_alice - U256::from(7));
        assert_eq!(balance(&network, asset, bob.address()), start_bob + U256::from(7));
        let all = token::transferCall { to: bob.address(), value: start_alice };
        assert!(network.call(alice.address(), asset, &all).is_err());
    }
    let too_much = token::transferCall { to: bob.address(), value: U256::MAX };
    network.reverts_saying(
        alice.address(),
        addresses::USDC,
        &too_much,
        "ERC20: transfer amount exceeds balance",
    );
    let error = token::ERC20InsufficientBalance {
        sender: alice.address(),
        balance: balance(&network, addresses::OPG, alice.address()),
        needed: U256::MAX,
    };
    network.reverts(alice.address(), addresses::OPG, &too_much, &error);
}

#[test]
fn a_permit_of_opg_is_bound_to_its_owner_and_time() {
    let mut network = Network::base();
    let (alice, bob) = (network.people.alice.clone(), network.people.bob.clone());
    let upto::EIP2612Permit { value, deadline, r, s, v } =
        permit_2612(&network, &bob, addresses::OPG, U256::from(11));
    let call = token::permitCall {
        owner: bob.address(),
        spender: addresses::PERMIT2,
        value,
        deadline,
        v,
        r,
        s,
    };
    let stolen = token::permitCall { owner: alice.address(), ..call.clone() };
    assert!(network.call(alice.address(), addresses::OPG, &stolen).is_err());
    network.sent(&alice, addresses::OPG, &call);
    assert!(network.call(alice.address(), addresses::OPG, &call).is_err(), "its nonce is used");
    network.advance(101);
    let upto::EIP2612Permit { value, r, s, v, .. } =
        permit_2612(&network, &bob, addresses::OPG, U256::from(11));
    let late = token::permitCall {
        owner: bob.address(),
        spender: addresses::PERMIT2,
        value,
        deadline,
        v,
        r,
        s,
    };
    network.reverts(
        alice.address(),
        addresses::OPG,
        &late,
        &token::ERC2612ExpiredSignature { deadline },
    );
}
