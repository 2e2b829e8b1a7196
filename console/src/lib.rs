//! The admin shell: line editor and commands over any byte stream.

#![no_std]
#![forbid(unsafe_code)]
