//! Name the contracts: ABIs, addresses, genesis code.
