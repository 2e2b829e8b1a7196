//! Motorola MPC106 host bridge: PCI configuration space, the devices in it, their base addresses.
//!
//! One bus without bridges behind it. Configuration cycles go through an address and a data register (MPC106 manual,
//! 7.4.5); both are little-endian. Only memory space is used: base address registers for I/O space stay unassigned.

use alloc::vec::Vec;

use crate::Registers;

/// The data register's distance from the address register on this board (address map B).
const DATA: usize = 0x20_0000;
/// Address register: a configuration cycle follows.
const ENABLE: u32 = 0x8000_0000;

/// Configuration offset of the command register.
pub const COMMAND: u8 = 0x04;
/// Command: answer in memory space.
pub const COMMAND_MEMORY: u16 = 0x0002;
/// Command: may master the bus.
pub const COMMAND_MASTER: u16 = 0x0004;
/// Configuration offset of the first base address register.
pub const BASE_ADDRESSES: u8 = 0x10;

/// A function of a device on the bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// Device number: its slot, 0 to 31.
    pub slot: u8,
    /// Function number, 0 to 7.
    pub function: u8,
}

/// A base address register that asks for memory space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Which register, 0 to 5; a 64-bit one also takes the next.
    pub register: u8,
    /// Its length in bytes, a power of two.
    pub length: u32,
    /// Where it was put; 0 when there was no room.
    pub base: u32,
    /// Takes two registers.
    pub wide: bool,
    /// Reads have no side effects.
    pub prefetchable: bool,
}

/// A device as found on the bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Where it is.
    pub address: Address,
    /// Vendor identification.
    pub vendor: u16,
    /// Device identification.
    pub device: u16,
    /// Class, subclass and programming interface: 0xCCSSPP.
    pub class: u32,
    /// Revision.
    pub revision: u8,
    /// Interrupt pin: 1 is A, 0 is none.
    pub interrupt_pin: u8,
    /// Its memory windows, in the order of their registers.
    pub windows: Vec<Window>,
}

impl Device {
    /// The base of the memory window in base address register `register`, when it was assigned.
    pub fn base(&self, register: u8) -> Option<u32> {
        self.windows
            .iter()
            .find(|window| window.register == register && window.base != 0)
            .map(|window| window.base)
    }
}

/// Configuration space through the bridge.
pub struct Mpc106<R> {
    registers: R,
}

impl<R: Registers> Mpc106<R> {
    /// The bridge whose configuration address register `registers` begins with.
    pub const fn new(registers: R) -> Self {
        Self { registers }
    }

    fn select(&self, address: Address, offset: u8) -> usize {
        let device = u32::from(address.slot & 31) << 11 | u32::from(address.function & 7) << 8;
        self.registers.write32(0, ENABLE | device | u32::from(offset & !3));
        DATA + usize::from(offset & 3)
    }

    /// Reads a byte of configuration space.
    pub fn read8(&self, address: Address, offset: u8) -> u8 {
        let place = self.select(address, offset);
        self.registers.read8(place)
    }

    /// Reads two bytes at an even offset.
    pub fn read16(&self, address: Address, offset: u8) -> u16 {
        let place = self.select(address, offset);
        self.registers.read16(place)
    }

    /// Reads four bytes at an offset divisible by four.
    pub fn read32(&self, address: Address, offset: u8) -> u32 {
        let place = self.select(address, offset);
        self.registers.read32(place)
    }

    /// Writes a byte of configuration space.
    pub fn write8(&self, address: Address, offset: u8, value: u8) {
        let place = self.select(address, offset);
        self.registers.write8(place, value);
    }

    /// Writes two bytes at an even offset.
    pub fn write16(&self, address: Address, offset: u8, value: u16) {
        let place = self.select(address, offset);
        self.registers.write16(place, value);
    }

    /// Writes four bytes at an offset divisible by four.
    pub fn write32(&self, address: Address, offset: u8, value: u32) {
        let place = self.select(address, offset);
        self.registers.write32(place, value);
    }

    /// Looks at every slot, finds how much memory space each device wants, and hands `start .. start + length` out to
    /// them, largest first, each window aligned to its own length. Windows for which there is no room stay unassigned,
    /// and a device with one of those does not answer in memory space. `fixed` names a device whose first window goes
    /// to `start` whatever its size: what must be where it was before.
    pub fn enumerate(&self, start: u32, length: u32, fixed: Option<Address>) -> Vec<Device> {
        let mut devices = Vec::new();
        for slot in 0..32 {
            let functions = match self.read32(Address { slot, function: 0 }, 0) {
                0xFFFF_FFFF | 0 => continue,
                _ if self.read8(Address { slot, function: 0 }, 0x0E) & 0x80 != 0 => 8,
                _ => 1,
            };
            for function in 0..functions {
                let address = Address { slot, function };
                if let Some(device) = self.inspect(address, fixed != Some(address)) {
                    devices.push(device);
                }
            }
        }
        self.assign(&mut devices, start, length, fixed);
        devices
    }

    fn inspect(&self, address: Address, quiet: bool) -> Option<Device> {
        let identification = self.read32(address, 0);
        if identification == 0xFFFF_FFFF || identification == 0 {
            return None;
        }
        // Only plain devices have six base address registers; the host bridge's are its own affair.
        let plain = self.read8(address, 0x0E) & 0x7F == 0;
        let class = self.read32(address, 0x08);
        let mut device = Device {
            address,
            vendor: identification as u16,
            device: (identification >> 16) as u16,
            class: class >> 8,
            revision: class as u8,
            interrupt_pin: self.read8(address, 0x3D),
            windows: Vec::new(),
        };
        if !plain || class >> 16 == 0x0600 {
            return Some(device);
        }
        // A window that is being measured must not answer meanwhile; the fixed device may be the console, and its window
        // comes back where it was before anybody writes to it.
        if quiet {
            let command = self.read16(address, COMMAND);
            self.write16(address, COMMAND, command & !(COMMAND_MEMORY | COMMAND_MASTER | 1));
        }
        let mut register = 0;
        while register < 6 {
            let offset = BASE_ADDRESSES + register * 4;
            let before = self.read32(address, offset);
            self.write32(address, offset, 0xFFFF_FFFF);
            let answer = self.read32(address, offset);
            self.write32(address, offset, before);
            let wide = answer & 1 == 0 && answer & 6 == 4;
            if answer & 1 == 0 && answer & !0xF != 0 {
                device.windows.push(Window {
                    register,
                    // The lowest bit that could be set is the length.
                    length: 1 << (answer & !0xF).trailing_zeros(),
                    base: 0,
                    wide,
                    prefetchable: answer & 8 != 0,
                });
            }
            register += if wide { 2 } else { 1 };
        }
        Some(device)
    }

    fn assign(&self, devices: &mut [Device], start: u32, length: u32, fixed: Option<Address>) {
        let end = u64::from(start) + u64::from(length);
        let mut next = u64::from(start);
        let mut order: Vec<(usize, usize)> = Vec::new();
        for (index, device) in devices.iter().enumerate() {
            for window in 0..device.windows.len() {
                order.push((index, window));
            }
        }
        let is_fixed =
            |device: &Device, window: &Window| Some(device.address) == fixed && window.register == 0;
        order.sort_by_key(|&(device, window)| {
            let Some((device, window)) =
                devices.get(device).and_then(|it| Some((it, it.windows.get(window)?)))
            else {
                return (false, 0);
            };
            (!is_fixed(device, window), u32::MAX - window.length)
        });
        for (device, window) in order {
            let Some(device) = devices.get_mut(device) else { continue };
            let address = device.address;
            let Some(window) = device.windows.get_mut(window) else { continue };
            let base = next.next_multiple_of(u64::from(window.length));
            if base + u64::from(window.length) > end {
                continue;
            }
            next = base + u64::from(window.length);
            window.base = base as u32;
            let offset = BASE_ADDRESSES + window.register * 4;
            self.write32(address, offset, window.base);
            if window.wide {
                self.write32(address, offset + 4, 0);
            }
        }
        for device in devices.iter().filter(|device| !device.windows.is_empty()) {
            if device.windows.iter().all(|window| window.base != 0) {
                let command = self.read16(device.address, COMMAND);
                self.write16(device.address, COMMAND, command | COMMAND_MEMORY);
            }
        }
    }

    /// Lets a device master the bus.
    pub fn enable_bus_master(&self, address: Address) {
        let command = self.read16(address, COMMAND);
        self.write16(address, COMMAND, command | COMMAND_MASTER);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::{Cell, RefCell};
    use std::vec;

    /// A function's configuration space: bytes, and for each base address register the bits that stick.
    struct FakeFunction {
        slot: u8,
        bytes: RefCell<[u8; 256]>,
        sticking: [u32; 6],
        fixed_bits: [u32; 6],
    }

    impl FakeFunction {
        fn new(slot: u8, identification: u32, class: u32) -> Self {
            let mut bytes = [0; 256];
            bytes[..4].copy_from_slice(&identification.to_le_bytes());
            bytes[8..12].copy_from_slice(&(class << 8).to_le_bytes());
            bytes[0x3D] = 1;
            Self { slot, bytes: RefCell::new(bytes), sticking: [0; 6], fixed_bits: [0; 6] }
        }

        fn with_window(mut self, register: usize, length: u32, bits: u32) -> Self {
            self.sticking[register] = !(length - 1);
            self.fixed_bits[register] = bits;
            if bits & 4 != 0 {
                self.sticking[register + 1] = 0xFFFF_FFFF;
            }
            self
        }

        fn command(&self) -> u16 {
            u16::from_le_bytes([self.bytes.borrow()[4], self.bytes.borrow()[5]])
        }
    }

    struct FakeBridge {
        functions: Vec<FakeFunction>,
        address: Cell<u32>,
    }

    impl FakeBridge {
        fn function(&self) -> Option<&FakeFunction> {
            let address = self.address.get();
            assert_ne!(address & ENABLE, 0);
            assert_eq!(address & 0x00FF_0003, 0);
            let (slot, function) = ((address >> 11 & 31) as u8, address >> 8 & 7);
            self.functions.iter().find(|it| it.slot == slot && function == 0)
        }

        fn read(&self, offset: usize, length: usize) -> u32 {
            let place = (self.address.get() & 0xFC) as usize + offset - DATA;
            let mut value = [0xFF; 4];
            if let Some(function) = self.function() {
                value = [0; 4];
                value[..length].copy_from_slice(&function.bytes.borrow()[place..place + length]);
            }
            u32::from_le_bytes(value)
        }

        fn write(&self, offset: usize, length: usize, value: u32) {
            let place = (self.address.get() & 0xFC) as usize + offset - DATA;
            let Some(function) = self.function() else { return };
            let mut value = value;
            if (0x10..0x28).contains(&place) {
                assert_eq!(length, 4);
                let register = (place - 0x10) / 4;
                value = value & function.sticking[register] | function.fixed_bits[register];
                assert!(function.command() & 2 == 0 || function.slot == 16, "a live window was moved");
            }
            function.bytes.borrow_mut()[place..place + length]
                .copy_from_slice(&value.to_le_bytes()[..length]);
        }
    }

    impl Registers for &FakeBridge {
        fn read8(&self, offset: usize) -> u8 {
            self.read(offset, 1) as u8
        }
        fn read16(&self, offset: usize) -> u16 {
            self.read(offset, 2) as u16
        }
        fn read32(&self, offset: usize) -> u32 {
            self.read(offset, 4)
        }
        fn write8(&self, offset: usize, value: u8) {
            self.write(offset, 1, value.into());
        }
        fn write16(&self, offset: usize, value: u16) {
            self.write(offset, 2, value.into());
        }
        fn write32(&self, offset: usize, value: u32) {
            if offset == 0 { self.address.set(value) } else { self.write(offset, 4, value) }
        }
    }

    fn bridge() -> FakeBridge {
        FakeBridge {
            address: Cell::new(0),
            functions: vec![
                FakeFunction::new(0, 0x0002_1057, 0x06_0000),
                FakeFunction::new(2, 0x0012_1000, 0x01_0000)
                    .with_window(0, 256, 1)
                    .with_window(1, 1024, 0)
                    .with_window(2, 8192, 0),
                FakeFunction::new(3, 0x1110_1AF4, 0x05_0000).with_window(0, 256, 0).with_window(
                    2,
                    4 << 20,
                    0xC,
                ),
                FakeFunction::new(16, 0x0010_106B, 0xFF_0000).with_window(0, 512 << 10, 0),
            ],
        }
    }

    const HEATHROW: Address = Address { slot: 16, function: 0 };

    #[test]
    fn finds_and_places_everything() {
        let fake = bridge();
        let bus = Mpc106::new(&fake);
        let devices = bus.enumerate(0x8000_0000, 0x1000_0000, Some(HEATHROW));
        assert_eq!(devices.len(), 4);
        let find = |slot| devices.iter().find(|it| it.address.slot == slot).unwrap();
        assert_eq!((find(0).vendor, find(0).device, find(0).class), (0x1057, 0x0002, 0x06_0000));
        assert!(find(0).windows.is_empty());
        assert_eq!(find(16).base(0), Some(0x8000_0000));
        let scsi = find(2);
        assert_eq!(scsi.windows.len(), 2, "I/O space is left alone");
        assert_eq!(scsi.base(0), None);
        let memory = find(3);
        assert!(memory.windows[1].wide && memory.windows[1].prefetchable);
        assert_eq!(memory.base(2), Some(0x8040_0000));
        let mut ranges: Vec<(u32, u32)> = devices
            .iter()
            .flat_map(|it| it.windows.iter().map(|window| (window.base, window.base + window.length)))
            .collect();
        ranges.sort();
        assert!(ranges.windows(2).all(|pair| pair[0].1 <= pair[1].0), "{ranges:x?}");
        for device in &devices {
            for window in &device.windows {
                assert!(window.base.is_multiple_of(window.length));
                let offset = BASE_ADDRESSES + window.register * 4;
                assert_eq!(bus.read32(device.address, offset) & !0xF, window.base);
                if window.wide {
                    assert_eq!(bus.read32(device.address, offset + 4), 0);
                }
            }
        }
        assert!(fake.functions[1..].iter().all(|it| it.command() & COMMAND_MEMORY != 0));
        bus.enable_bus_master(scsi.address);
        assert_eq!(fake.functions[1].command(), COMMAND_MEMORY | COMMAND_MASTER);
        // Again, as the image does after the boot block.
        assert_eq!(bus.enumerate(0x8000_0000, 0x1000_0000, Some(HEATHROW)), devices);
    }

    #[test]
    fn what_does_not_fit_stays_silent() {
        let fake = bridge();
        let devices = Mpc106::new(&fake).enumerate(0x8000_0000, 0x10_0000, Some(HEATHROW));
        let memory = devices.iter().find(|it| it.address.slot == 3).unwrap();
        assert_eq!(memory.base(2), None);
        assert_eq!(fake.functions[2].command() & COMMAND_MEMORY, 0);
        assert_ne!(fake.functions[1].command() & COMMAND_MEMORY, 0);
    }
}
