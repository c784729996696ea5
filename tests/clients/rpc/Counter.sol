// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

/// What the clients deploy: storage, an indexed event, and the two kinds of revert.
contract Counter {
    event Changed(address indexed by, uint256 value);

    error TooLarge(uint256 given, uint256 limit);

    uint256 public value;

    constructor(uint256 start) {
        value = start;
    }

    function add(uint256 n) external payable returns (uint256) {
        if (n > 1000) revert TooLarge(n, 1000);
        require(n != 13, "thirteen is refused");
        value += n;
        emit Changed(msg.sender, value);
        return value;
    }

    /// The time that a call runs at.
    function time() external view returns (uint256) {
        return block.timestamp;
    }
}
