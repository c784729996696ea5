//! Costs against exact rational arithmetic.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests stand outside of test functions"
)]

use alloy_primitives::{Address, U256};
use og_meter::*;
use proptest::prelude::*;

#[test]
fn costs_round_up_once() {
    let price =
        UnitPrice { input_per_million: U256::from(1), output_per_million: U256::from(2_000_001) };
    for (input_tokens, output_tokens, cost) in [
        (0, 0, 0),
        (1, 0, 1),
        (1_000_000, 0, 1),
        (1_000_001, 0, 2),
        (0, 1, 3),
        (999_999, 1, 3),
        (3, 1_000_000, 2_000_002),
    ] {
        let usage = Usage { input_tokens, output_tokens };
        assert_eq!(price.cost(usage), Ok(U256::from(cost)), "{usage:?}");
    }
    let absurd = UnitPrice { input_per_million: U256::MAX, output_per_million: U256::MAX };
    assert!(absurd.cost(Usage { input_tokens: 2, output_tokens: 0 }).is_err());
    assert!(absurd.cost(Usage { input_tokens: 1, output_tokens: 1 }).is_err());
    assert!(absurd.cost(Usage { input_tokens: 1, output_tokens: 0 }).is_ok());
}

#[test]
fn a_prompt_is_bounded_by_its_bytes_and_messages() {
    assert_eq!(prompt_token_bound(100, 2), 100 + 2 * 16 + 64);
    assert_eq!(prompt_token_bound(u64::MAX, u64::MAX), u64::MAX);
}

#[test]
fn names_of_assets_are_caip_19() {
    let asset = AssetId { chain_id: 8453, token: Address::ZERO };
    assert_eq!(asset.to_string(), "eip155:8453/erc20:0x0000000000000000000000000000000000000000");
}

proptest! {
    #[test]
    fn no_usage_within_the_bound_costs_more_than_the_worst_case(
        input in any::<u64>(), output in any::<u64>(), prompt_max in any::<u64>(), output_max in any::<u64>(),
        input_tokens in any::<u64>(), output_tokens in any::<u64>(),
    ) {
        let price = UnitPrice { input_per_million: U256::from(input), output_per_million: U256::from(output) };
        let usage = Usage { input_tokens: input_tokens.min(prompt_max), output_tokens: output_tokens.min(output_max) };
        let cost = price.cost(usage).unwrap();
        prop_assert!(cost <= price.worst_case(prompt_max, output_max).unwrap());
        // cost is the least integer with cost × 10^6 ≥ the exact sum.
        let exact = U256::from(input) * U256::from(usage.input_tokens) + U256::from(output) * U256::from(usage.output_tokens);
        let million = U256::from(1_000_000);
        prop_assert!(cost * million >= exact);
        prop_assert!(cost.is_zero() || (cost - U256::ONE) * million < exact);
    }
}
