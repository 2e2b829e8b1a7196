//! Block cache, partition table, exFAT and FAT volumes.

#![no_std]
#![forbid(unsafe_code)]
