//! The board's Ethernet ports.

use alloc::boxed::Box;
use alloc::vec::Vec;

use drivers::ethernet::i82559::{I82559, Port, RingSizes};
use firmware::board::events;
use firmware::ethernet::EthernetPort;
use ppc750_nas::cpu;
use ppc750_nas::interrupts::Source;
use ppc750_nas::mmio::{BoardDma, Mmio};

use super::pci::Bus;

/// A port of this board.
pub type BoardPort = EthernetPort<I82559<'static, Mmio, BoardDma>>;

/// Intel's vendor number.
const INTEL: u16 = 0x8086;
/// Device numbers that the driver is for.
const MODELS: [(u16, &str); 2] = [(0x1209, "Intel 82559ER"), (0x1229, "Intel 82559")];

/// What a chip's interrupt comes to: its port's event.
struct EthernetSource {
    port: &'static Port<Mmio, BoardDma>,
    event: u32,
}

impl Source for EthernetSource {
    fn acknowledge(&self) -> u32 {
        if self.port.acknowledge_interrupt() { self.event } else { 0 }
    }
}

/// Starts every Ethernet chip on the bus, in the order of their slots; the first is port 0. A chip that does not start is
/// reported and left out.
pub fn start_all(bus: &Bus) -> Vec<BoardPort> {
    let mut ports = Vec::new();
    for device in bus.devices() {
        let Some((_, model)) =
            MODELS.iter().find(|(number, _)| device.vendor == INTEL && device.device == *number)
        else {
            continue;
        };
        let Some(registers) = bus.registers(device, 0) else {
            log::error!("{model} in slot {}: no register window", device.address.slot);
            continue;
        };
        bus.enable_bus_master(device);
        let port: &'static Port<_, _> = Box::leak(Box::new(Port::new(registers, bus.dma())));
        let chip = match I82559::start(port, RingSizes::default(), &mut cpu::spin_microseconds) {
            Ok(chip) => chip,
            Err(error) => {
                log::error!("{model} in slot {}: {error:?}", device.address.slot);
                continue;
            }
        };
        if !chip.eeprom_valid() {
            log::warn!("{model} in slot {}: the EEPROM's checksum is wrong", device.address.slot);
        }
        let source: &'static _ =
            Box::leak(Box::new(EthernetSource { port, event: events::PORT << ports.len() }));
        if ports.len() >= 4 || !bus.attach_interrupt(device, source) {
            log::error!("{model} in slot {}: one port too many", device.address.slot);
            continue;
        }
        ports.push(EthernetPort::new(chip, model, cpu::spin_microseconds));
    }
    ports
}
