//! The PowerPC 750 NAS board: reset, exceptions, memory map, which chip is where.

#![no_std]

