//! The board for the appliance: [`Board`] over this machine's parts.

use alloc::string::String;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::fmt::Write;

use drivers::flash::Flash;
use firmware::board::{Board, Disk, Memory, Restart};
use flash_layout::area::FLASH_SIZE;
use ppc750_nas::memory_map::BootInformation;
use ppc750_nas::mmio::Mmio;
use ppc750_nas::{cpu, interrupts, time};

use super::disks::Channel;
use super::ethernet::{self, BoardPort};
use super::pci::Bus;
use super::{clock, console, disks, heap, reset};

/// The machine. There is one, it lives for ever, and only threads and their loop touch it.
pub struct NasBoard {
    description: String,
    ports: RefCell<Vec<Option<BoardPort>>>,
    channels: Vec<&'static Channel>,
    flash: RefCell<Option<Flash<Mmio>>>,
    memory_total: usize,
    image_bytes: usize,
}

impl NasBoard {
    /// Starts every chip. Interrupts may be on already: each chip's are enabled when its handler is in place. `warm` says
    /// that the machine ran before and was not switched off since; `flash` is the flash's window.
    pub fn start(
        bus: &Bus,
        flash: Option<Mmio>,
        information: &BootInformation,
        image_bytes: usize,
        warm: bool,
    ) -> Self {
        if flash.is_none() {
            log::error!("no writable flash: settings are not kept");
        }
        if let Err(error) = clock::initialize() {
            log::warn!("no battery-backed clock: {error:?}");
        }
        let channels = disks::start(bus, warm);
        let ports = ethernet::start_all(bus);
        let version = cpu::processor_version();
        let mut description = String::new();
        let _ = write!(
            description,
            "PowerPC 750 {}.{}, MPC106, {} SCSI channels, {} Ethernet ports",
            version >> 8 & 0xF,
            version & 0xF,
            channels.len(),
            ports.len()
        );
        Self {
            description,
            ports: RefCell::new(ports.into_iter().map(Some).collect()),
            channels,
            flash: RefCell::new(flash.map(|window| Flash::new(window, FLASH_SIZE))),
            memory_total: information.ram_bytes as usize,
            image_bytes,
        }
    }
}

impl Board for NasBoard {
    type Port = BoardPort;
    type Flash = Flash<Mmio>;

    fn now(&self) -> u64 {
        clock::now()
    }

    fn ticks(&self) -> u32 {
        cpu::timebase_low()
    }

    fn wall_clock(&self) -> Option<u64> {
        clock::date()
    }

    fn set_wall_clock(&self, seconds: u64) {
        clock::set_date(seconds);
    }

    fn take_events(&self) -> u32 {
        interrupts::take_events()
    }

    fn idle(&self, deadline: Option<u64>) {
        // One shot, and only for the next deadline: without one the CPU sleeps until a chip interrupts.
        let ticks = match deadline {
            None => u32::MAX,
            Some(deadline) => {
                let now = clock::now();
                if deadline <= now {
                    return;
                }
                time::microseconds_to_ticks(deadline - now)
            }
        };
        cpu::set_decrementer(ticks);
        cpu::idle(interrupts::events_pending);
    }

    fn port_count(&self) -> usize {
        self.ports.borrow().len()
    }

    fn take_port(&self, index: usize) -> Option<BoardPort> {
        self.ports.borrow_mut().get_mut(index)?.take()
    }

    fn disk_channel_count(&self) -> usize {
        self.channels.len()
    }

    fn service_disk_channel(&self, channel: usize) -> Option<u64> {
        self.channels.get(channel)?.service()
    }

    fn find_disk(&self, channel: usize) -> Option<Disk> {
        disks::find(self.channels.get(channel)?)
    }

    fn disk_is_gone(&self, channel: usize) -> bool {
        self.channels.get(channel).is_some_and(|channel| channel.disk_is_gone())
    }

    fn disk_errors(&self, channel: usize) -> u32 {
        self.channels.get(channel).map_or(0, |channel| channel.errors())
    }

    fn take_flash(&self) -> Option<Flash<Mmio>> {
        self.flash.borrow_mut().take()
    }

    fn console_read(&self, buffer: &mut [u8]) -> usize {
        console::read(buffer)
    }

    fn console_write(&self, bytes: &[u8]) -> usize {
        console::write(bytes)
    }

    fn memory(&self) -> Memory {
        let (heap, used, high_water) = heap::figures();
        Memory { total: self.memory_total, image: self.image_bytes, heap, used, high_water }
    }

    fn description(&self) -> &str {
        &self.description
    }

    fn restart(&self, how: Restart) {
        reset::restart(how)
    }
}
