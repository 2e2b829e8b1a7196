//! An Ethernet controller of the drivers as a port of the net task.

use alloc::boxed::Box;

use drivers::ethernet::EthernetController;

use crate::board::{FrameReceiver, FrameTransmitter, NetworkPort, PortStatistics};

/// A controller with what the net task wants to know besides.
pub struct EthernetPort<C> {
    chip: C,
    model: &'static str,
    delay: Box<dyn FnMut(u32)>,
}

impl<C: EthernetController> EthernetPort<C> {
    /// A port around a chip that was started. `delay` waits for at least that many microseconds.
    pub fn new(chip: C, model: &'static str, delay: impl FnMut(u32) + 'static) -> Self {
        Self { chip, model, delay: Box::new(delay) }
    }
}

impl<C: EthernetController + 'static> NetworkPort for EthernetPort<C> {
    type Receiver = C::Receiver;
    type Transmitter = C::Transmitter;

    fn address(&self) -> [u8; 6] {
        self.chip.mac_address().0
    }

    fn model(&self) -> &str {
        self.model
    }

    fn link_is_up(&mut self) -> bool {
        // Asked for about once a second: as often as the chip wants to be looked after.
        self.chip.supervise(&mut self.delay);
        self.chip.link().up
    }

    fn service(&mut self) {
        self.chip.service();
    }

    fn halves(&mut self) -> (&mut C::Receiver, &mut C::Transmitter) {
        self.chip.halves()
    }

    fn kick(&mut self) {
        let (_, transmitter) = self.chip.halves();
        drivers::ethernet::FrameTransmitter::flush(transmitter);
    }

    fn rest(&mut self) -> bool {
        self.chip.rest()
    }

    fn statistics(&self) -> PortStatistics {
        let statistics = self.chip.statistics();
        // The console's counters wrap.
        PortStatistics {
            received: statistics.received_frames as u32,
            sent: statistics.transmitted_frames as u32,
            overruns: statistics.receive_dropped as u32,
            errors: (statistics.receive_refused + statistics.receive_errors + statistics.transmit_errors)
                as u32,
            interrupts: statistics.interrupts as u32,
        }
    }
}

impl<R: drivers::ethernet::FrameReceiver> FrameReceiver for R {
    fn front(&mut self) -> Option<&[u8]> {
        drivers::ethernet::FrameReceiver::front(self)
    }

    fn front_pair(&mut self) -> Option<(&[u8], &[u8])> {
        drivers::ethernet::FrameReceiver::front_pair(self)
    }

    fn pop(&mut self) {
        drivers::ethernet::FrameReceiver::pop(self);
    }
}

impl<T: drivers::ethernet::FrameTransmitter> FrameTransmitter for T {
    fn space(&mut self) -> usize {
        drivers::ethernet::FrameTransmitter::space(self)
    }

    fn transmit<O>(&mut self, length: usize, fill: impl FnOnce(&mut [u8]) -> O) -> O {
        drivers::ethernet::FrameTransmitter::transmit(self, length, fill)
    }
}
