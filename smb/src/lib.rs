//! An embeddable SMB 2/3 server engine: bytes in, bytes out.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
