//! What lies where in the 4 MiB boot flash.

#![no_std]
#![forbid(unsafe_code)]
