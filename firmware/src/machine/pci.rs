//! What is plugged into the PCI bus, and how drivers get at it.

use alloc::vec::Vec;

use drivers::mpc106::{Address, Device, Mpc106};
use ppc750_nas::interrupts::{self, Source};
use ppc750_nas::memory_map::{PCI_CONFIGURATION, PCI_MEMORY, PCI_MEMORY_LENGTH};
use ppc750_nas::mmio::{BoardDma, Mmio};

use super::heap;

/// Where Heathrow sits on this board; its window stays where the boot block put it, at the start of PCI memory.
const HEATHROW: Address = Address { slot: 16, function: 0 };

/// The bus and its devices.
pub struct Bus {
    bridge: Mpc106<Mmio>,
    devices: Vec<Device>,
}

impl Bus {
    /// Looks at the bus and gives every device its windows.
    pub fn enumerate() -> Self {
        // SAFETY: the bridge's configuration registers, mapped as a device.
        let bridge = Mpc106::new(unsafe { Mmio::new(PCI_CONFIGURATION) });
        let devices = bridge.enumerate(PCI_MEMORY, PCI_MEMORY_LENGTH, Some(HEATHROW));
        Self { bridge, devices }
    }

    /// The devices, by slot.
    pub fn devices(&self) -> &[Device] {
        &self.devices
    }

    /// The devices with these identifications, by slot.
    pub fn find(&self, vendor: u16, device: u16) -> impl Iterator<Item = &Device> {
        self.devices.iter().filter(move |it| it.vendor == vendor && it.device == device)
    }

    /// The registers in a device's base address register `register`, when it has a memory window there.
    pub fn registers(&self, device: &Device, register: u8) -> Option<Mmio> {
        // SAFETY: `enumerate` put the window there, inside the device block, and nobody moves it again.
        device.base(register).map(|base| unsafe { Mmio::new(base) })
    }

    /// Lets the device master the bus.
    pub fn enable_bus_master(&self, device: &Device) {
        self.bridge.enable_bus_master(device.address);
    }

    /// Lets `source` be asked when the device's interrupt line is pending. False when there are too many sources.
    #[must_use]
    pub fn attach_interrupt(&self, device: &Device, source: &'static dyn Source) -> bool {
        interrupts::register(interrupts::pci_input(device.address.slot), source)
    }

    /// The board's memory as the devices see it.
    pub fn dma(&self) -> BoardDma {
        // SAFETY: heap memory is not in the stack window, and this memory is never given back.
        unsafe { BoardDma::new(heap::allocate_for_ever) }
    }
}
