//! What a driver may know of the machine: registers and bus-master memory.

use core::ptr::NonNull;

/// A chip's register window. Offsets are in bytes from its start; values are in the CPU's order: for a PCI device the
/// implementation swaps to the bus's little-endian order.
///
/// Reads may have side effects, so every call is one access of exactly that width, never merged, repeated or left out.
pub trait Registers {
    /// Reads a byte.
    fn read8(&self, offset: usize) -> u8;
    /// Reads two bytes at an even offset.
    fn read16(&self, offset: usize) -> u16;
    /// Reads four bytes at an offset divisible by four.
    fn read32(&self, offset: usize) -> u32;
    /// Writes a byte.
    fn write8(&self, offset: usize, value: u8);
    /// Writes two bytes at an even offset.
    fn write16(&self, offset: usize, value: u16);
    /// Writes four bytes at an offset divisible by four.
    fn write32(&self, offset: usize, value: u32);
}

/// Memory as bus masters see it.
///
/// # Safety
///
/// An implementation promises that a bus master which reads or writes `length` bytes from the address returned by
/// [`bus_address`](Self::bus_address) on touches exactly those bytes of the CPU's memory, coherently with its caches, and
/// that memory from [`allocate`](Self::allocate) is zeroed, aligned as asked, handed out once and never freed.
pub unsafe trait Dma {
    /// The bus address of the `length` bytes at `pointer`, which lie in one piece on the bus.
    fn bus_address(&self, pointer: *const u8, length: usize) -> u32;

    /// Memory for rings and scripts that lives for ever; `None` when there is no more.
    fn allocate(&self, length: usize, align: usize) -> Option<NonNull<u8>>;

    /// Orders what the CPU wrote to memory before what it writes to registers next.
    fn barrier(&self);
}
