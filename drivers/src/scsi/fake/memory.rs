//! Host memory under made-up bus addresses.

use crate::Dma;
use core::alloc::Layout;
use core::ptr::NonNull;
use std::sync::{Arc, Mutex};

#[derive(Clone, Copy)]
struct Region {
    host: usize,
    length: usize,
    bus: u32,
}

struct Map {
    regions: Vec<Region>,
    next: u32,
}

/// Hands out bus addresses for host memory: each piece asked for gets its own, pieces of a known piece keep theirs.
#[derive(Clone)]
pub struct FakeMemory(Arc<Mutex<Map>>);

impl FakeMemory {
    pub fn new() -> FakeMemory {
        FakeMemory(Arc::new(Mutex::new(Map { regions: Vec::new(), next: 0x0100_0000 })))
    }

    fn map(&self, host: usize, length: usize, align: usize) -> u32 {
        let mut map = self.0.lock().unwrap();
        let known = map
            .regions
            .iter()
            .find(|region| host >= region.host && host + length <= region.host + region.length);
        if let Some(region) = known {
            return region.bus + (host - region.host) as u32;
        }
        // A gap between pieces, so that neighbours in memory are not neighbours on the bus.
        let bus = (map.next as usize + 64).next_multiple_of(align);
        map.next = (bus + length) as u32;
        map.regions.push(Region { host, length, bus: bus as u32 });
        bus as u32
    }

    fn host(&self, bus: u32, length: usize) -> *mut u8 {
        let map = self.0.lock().unwrap();
        let region = map
            .regions
            .iter()
            .find(|region| bus >= region.bus && bus as usize + length <= region.bus as usize + region.length);
        match region {
            Some(region) => (region.host + (bus - region.bus) as usize) as *mut u8,
            None => panic!("the chip touches {length} bytes at {bus:#x}, which nobody mapped"),
        }
    }

    pub fn read(&self, bus: u32, bytes: &mut [u8]) {
        let host = self.host(bus, bytes.len());
        for (index, byte) in bytes.iter_mut().enumerate() {
            // SAFETY: `host` checked the range; the test keeps mapped memory alive while commands are in flight.
            *byte = unsafe { host.add(index).read_volatile() };
        }
    }

    pub fn write(&self, bus: u32, bytes: &[u8]) {
        let host = self.host(bus, bytes.len());
        for (index, byte) in bytes.iter().enumerate() {
            // SAFETY: as in `read`.
            unsafe { host.add(index).write_volatile(*byte) };
        }
    }

    pub fn read32(&self, bus: u32) -> u32 {
        let mut bytes = [0; 4];
        self.read(bus, &mut bytes);
        u32::from_le_bytes(bytes)
    }
}

// SAFETY: `map` gives each range its own bus range; `allocate` leaks zeroed memory of the layout asked for.
unsafe impl Dma for FakeMemory {
    fn bus_address(&self, pointer: *const u8, length: usize) -> u32 {
        self.map(pointer as usize, length, 4)
    }

    fn allocate(&self, length: usize, align: usize) -> Option<NonNull<u8>> {
        let layout = Layout::from_size_align(length, align).ok()?;
        // SAFETY: the layout's size is not zero in any test.
        let pointer = NonNull::new(unsafe { std::alloc::alloc_zeroed(layout) })?;
        self.map(pointer.as_ptr() as usize, length, align);
        Some(pointer)
    }

    fn barrier(&self) {}
}
