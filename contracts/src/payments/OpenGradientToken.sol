// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";

import {SignedDomain} from "./SignedDomain.sol";

/// OPG: EIP-20 with 18 decimals and EIP-2612, domain ("OpenGradient", "1"). The supply is fixed at creation.
///
/// Slots: 0 balances, 1 allowances, 2 total supply (3 and 4 unused), 5 permit nonces.
contract OpenGradientToken is ERC20, SignedDomain {
    bytes32 private constant PERMIT_TYPEHASH =
        keccak256("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)");

    mapping(address owner => uint256) public nonces;

    error ERC2612ExpiredSignature(uint256 deadline);
    error ERC2612InvalidSigner(address signer, address owner);

    constructor(address holder, uint256 supply) ERC20("", "") {
        _mint(holder, supply);
    }

    function name() public pure override returns (string memory) {
        return "OpenGradient";
    }

    function symbol() public pure override returns (string memory) {
        return "OPG";
    }

    function permit(
        address owner,
        address spender,
        uint256 value,
        uint256 deadline,
        uint8 v,
        bytes32 r,
        bytes32 s
    ) external {
        if (block.timestamp > deadline) revert ERC2612ExpiredSignature(deadline);
        bytes32 structHash = keccak256(abi.encode(PERMIT_TYPEHASH, owner, spender, value, nonces[owner]++, deadline));
        address signer = ECDSA.recover(_typedDataHash(structHash), v, r, s);
        if (signer != owner) revert ERC2612InvalidSigner(signer, owner);
        _approve(owner, spender, value);
    }

    function _domain() internal pure override returns (string memory, string memory) {
        return ("OpenGradient", "1");
    }
}
