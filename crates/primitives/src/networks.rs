//! Chain ids and their CAIP-2 names.

/// The OpenGradient chain: registry, settlement, verification state.
pub const OPENGRADIENT_CHAIN_ID: u64 = 10_740;

/// Base mainnet: the chain on which users pay. The official clients hard-code it.
pub const BASE_CHAIN_ID: u64 = 8_453;

/// The CAIP-2 name (`eip155:<id>`) of an EVM chain.
pub fn caip2(chain_id: u64) -> String {
    format!("eip155:{chain_id}")
}

/// Reads a CAIP-2 name of an EVM chain; `None` when it is of another namespace or not canonical.
pub fn chain_id_of(caip2_name: &str) -> Option<u64> {
    let digits = caip2_name.strip_prefix("eip155:")?;
    let id: u64 = digits.parse().ok()?;
    (caip2(id) == caip2_name).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caip2_names_round_trip_and_refuse_other_spellings() {
        assert_eq!(caip2(BASE_CHAIN_ID), "eip155:8453");
        assert_eq!(chain_id_of("eip155:10740"), Some(OPENGRADIENT_CHAIN_ID));
        for wrong in ["eip155:010740", "eip155:", "solana:10740", "eip155:-1", "10740", "eip155:+1"]
        {
            assert_eq!(chain_id_of(wrong), None, "{wrong}");
        }
    }
}
