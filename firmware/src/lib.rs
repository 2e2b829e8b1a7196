//! The firmware image: workers, tasks and wiring.

#![no_std]

