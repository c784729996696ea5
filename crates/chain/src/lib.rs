//! Execute blocks: revm, precompiles, state, genesis.
