//! What the SMB engine gets from the appliance.

use alloc::vec::Vec;

use smb::ConnectionId;
use smb::environment::{Account, Authentication, Environment, ExchangeId};
use smb::fscc::FileTime;

use crate::authenticator::Authenticator;
use crate::clock::Clock;
use crate::entropy::EntropyPool;
use crate::net::Mailbox;
use crate::scheduler;
use crate::share_volume::ShareVolume;
use crate::slots::Slots;

/// What the engine gets from the appliance. Everything in it lives for ever.
pub struct ApplianceEnvironment {
    pub(crate) clock: &'static Clock,
    pub(crate) entropy: &'static EntropyPool,
    pub(crate) mailbox: &'static Mailbox,
    pub(crate) slots: &'static Slots,
    pub(crate) authenticator: &'static Authenticator,
}

impl Environment for ApplianceEnvironment {
    type Volume = ShareVolume;

    fn now(&self) -> FileTime {
        FileTime(self.clock.file_time())
    }

    fn monotonic_milliseconds(&self) -> u64 {
        scheduler::now() / 1_000
    }

    fn random(&self, bytes: &mut [u8]) {
        self.entropy.fill(bytes);
    }

    fn reply_ready(&self, connection: ConnectionId) {
        if let Some(slot) = self.slots.slot(connection) {
            self.mailbox.reply_ready(slot);
        }
    }

    fn authentication_offer(&self, out: &mut Vec<u8>) {
        auth::offer(out);
    }

    fn authenticate(&self, exchange: ExchangeId, token: &[u8], out: &mut Vec<u8>) -> Authentication {
        self.authenticator.authenticate(exchange.0, token, out)
    }

    fn abandon_authentication(&self, exchange: ExchangeId) {
        self.authenticator.abandon(exchange.0);
    }

    fn visit_accounts(&self, visit: &mut dyn FnMut(Account<'_>)) {
        self.authenticator.visit_accounts(visit);
    }
}
