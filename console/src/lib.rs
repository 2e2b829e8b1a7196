//! The admin shell: a line editor and a table of commands over any byte stream.
//!
//! Nothing here does I/O: bytes from the terminal go into [`Shell::receive`], text for the terminal comes out through
//! a [`core::fmt::Write`], and what the commands show and change they ask of a [`System`], which the appliance
//! implements. Needs no more of a terminal than carriage return, backspace and space.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod command;
mod date;
mod editor;
#[cfg(test)]
mod model;
mod shell;
mod system;
mod table;

pub use date::{Date, format_time, parse_time};
pub use editor::{Editor, Event};
pub use shell::Shell;
pub use system::{
    Access, Array, ArrayChange, ArrayMember, Cache, Connection, Crash, Disk, DiskFormat, DiskSpeed,
    FileSystem, Growth, Memory, Outcome, Port, Restart, Share, Sizes, Status, System, Thread, User,
    VolumeUse,
};
