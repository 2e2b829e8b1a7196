//! NEGOTIATE (MS-SMB2 3.3.5.3, 3.3.5.4) and its validation (3.3.5.15.12).

use alloc::vec::Vec;

use super::dispatch::{Handled, HashReply, Outcome, Request};
use super::reply::{Draft, Protection};
use super::state::{ConnectionMarker, connection_id};
use super::{Disposition, Encryption, PayloadOf, Server, Transport};
use crate::arena::Id;
use crate::crypto::{Cipher, PreauthenticationHash, SigningAlgorithm};
use crate::environment::Environment;
use crate::reader::{Reader, Writer};
use crate::status::NtStatus;
use crate::wire::header::{Command, Flags, Header};
use crate::wire::negotiate::{
    self as wire, Context, DIALECT_WILDCARD, Dialect, MultiProtocol, SIGNING_ENABLED, SIGNING_REQUIRED,
    capability, context,
};

/// SHA-512, the only hash there is.
const HASH_SHA512: u16 = 1;

/// Signing algorithms, the cheapest on the board first: HMAC-SHA256 takes 34 to 36 instructions a byte, GMAC by RustCrypto's
/// code 94, CMAC 237. `docs/performance.md` says why GMAC by the board's own would not come first either.
const SIGNING_BY_COST: [SigningAlgorithm; 3] =
    [SigningAlgorithm::HmacSha256, SigningAlgorithm::AesGmac, SigningAlgorithm::AesCmac];

/// Ciphers, the cheapest first: GCM costs less than half of CCM even with the longer key, on this machine and on others.
const CIPHERS_BY_COST: [Cipher; 4] =
    [Cipher::Aes128Gcm, Cipher::Aes256Gcm, Cipher::Aes128Ccm, Cipher::Aes256Ccm];

impl<E: Environment> Server<E> {
    /// An SMB1 NEGOTIATE that offers SMB 2 is answered in SMB 2; anything else of SMB1 is refused.
    pub(super) fn negotiate_multi_protocol(
        &self,
        connection: Id<ConnectionMarker>,
        message: &[u8],
    ) -> Disposition {
        let Ok(offer) = MultiProtocol::parse(message) else { return Disposition::Disconnect };
        let dialect = if offer.smb_2_wildcard {
            None
        } else if offer.smb_2_002 && self.configuration.minimum_dialect == Dialect::Smb202 {
            Some(Dialect::Smb202)
        } else {
            return Disposition::Disconnect;
        };
        {
            let mut state = self.state.lock();
            let Some(entry) = connection_id(connection).and_then(|id| state.connections.get_mut(id)) else {
                return Disposition::Disconnect;
            };
            if entry.dialect.is_some() || entry.wildcard {
                return Disposition::Disconnect;
            }
            entry.window.skip_first();
            entry.window.grant(1, 1);
            match dialect {
                Some(dialect) => entry.dialect = Some(dialect),
                None => entry.wildcard = true,
            }
        }
        let mut draft = Draft::new();
        draft.begin();
        let number = dialect.map_or(DIALECT_WILDCARD, |dialect| dialect as u16);
        self.emit_negotiate(&mut Writer::with_origin(draft.out(), 0), number, 0, 0x1_0000, &[]);
        let header = Header {
            credit_charge: 0,
            status: NtStatus::SUCCESS.0,
            command: Command::Negotiate as u16,
            credits: 1,
            flags: Flags::empty(),
            next: 0,
            message_id: 0,
            tree_or_asynchronous: 0,
            session_id: 0,
            signature: [0; 16],
        };
        draft.end(header, None);
        let reply = draft.finish(Protection::default());
        self.state.lock().queue(connection, reply);
        Disposition::Continue
    }

    fn security_mode(&self) -> u16 {
        if self.configuration.signing_required { SIGNING_ENABLED | SIGNING_REQUIRED } else { SIGNING_ENABLED }
    }

    fn emit_negotiate(
        &self,
        writer: &mut Writer<'_>,
        dialect: u16,
        capabilities: u32,
        maximum: u32,
        contexts: &[Context<'_>],
    ) {
        let mut token = Vec::new();
        self.environment.authentication_offer(&mut token);
        wire::Response {
            security_mode: self.security_mode(),
            dialect,
            server_guid: self.configuration.guid,
            capabilities,
            maximum_transact: maximum,
            maximum_read: maximum,
            maximum_write: maximum,
            system_time: self.environment.now().0,
            token: &token,
            contexts,
        }
        .emit(writer);
    }

    /// The best dialect that is on both lists.
    fn choose_dialect(&self, offered: &[u16]) -> Option<Dialect> {
        let ours = self.configuration.minimum_dialect..=self.configuration.maximum_dialect;
        Dialect::BEST_FIRST
            .into_iter()
            .find(|dialect| ours.contains(dialect) && offered.contains(&(*dialect as u16)))
    }

    /// Capabilities in the answer to a client that has `offered` (3.3.5.4).
    fn capabilities(
        &self,
        transport: Transport,
        dialect: Dialect,
        cipher: Option<Cipher>,
        offered: u32,
    ) -> u32 {
        let mut capabilities = 0;
        if dialect >= Dialect::Smb210 {
            capabilities |= capability::LEASING;
        }
        if dialect >= Dialect::Smb210 && transport == Transport::Tcp {
            capabilities |= capability::LARGE_MTU;
        }
        if dialect >= Dialect::Smb300 {
            // Only who has these hears of them.
            capabilities |= offered & (capability::MULTI_CHANNEL | capability::DIRECTORY_LEASING);
        }
        if (Dialect::Smb300..Dialect::Smb311).contains(&dialect) && cipher.is_some() {
            capabilities |= capability::ENCRYPTION;
        }
        capabilities
    }

    /// A NetBIOS session's messages have lengths of 17 bits: 64 KiB and the headers fit, larger transfers do not.
    fn maximum_transfer(&self, transport: Transport, dialect: Dialect) -> u32 {
        if dialect >= Dialect::Smb210 && transport == Transport::Tcp {
            self.configuration.maximum_transfer
        } else {
            self.configuration.maximum_transfer.min(0x1_0000)
        }
    }

    pub(super) fn negotiate(
        &self,
        request: &mut Request<'_>,
        writer: &mut Writer<'_>,
    ) -> Handled<PayloadOf<E>> {
        // 3.3.5.4: a second NEGOTIATE ends the connection.
        if request.dialect.is_some() {
            return Ok(Outcome::Disconnect);
        }
        let parsed = wire::Request::parse(request.message)?;
        if parsed.dialects.is_empty() {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        let Some(dialect) = self.choose_dialect(&parsed.dialects) else {
            return Err(NtStatus::NOT_SUPPORTED);
        };
        let mut signing = match dialect {
            Dialect::Smb202 | Dialect::Smb210 => SigningAlgorithm::HmacSha256,
            _ => SigningAlgorithm::AesCmac,
        };
        let mut cipher = None;
        let mut answers: Vec<(u16, Vec<u8>)> = Vec::new();
        if dialect == Dialect::Smb311 {
            let mut seen = 0u32;
            for entry in &parsed.contexts {
                // 3.3.5.4: each kind once.
                let bit = 1u32.checked_shl(entry.kind.into()).unwrap_or(0);
                let known = entry.kind <= context::SIGNING;
                if known && seen & bit != 0 {
                    return Err(NtStatus::INVALID_PARAMETER);
                }
                if known {
                    seen |= bit;
                }
                match entry.kind {
                    context::PREAUTH_INTEGRITY => {
                        if !wire::preauth_algorithms(entry.data)?.contains(&HASH_SHA512) {
                            return Err(NtStatus::SMB_NO_PREAUTH_INTEGRITY_HASH_OVERLAP);
                        }
                        let mut data = Vec::new();
                        let mut salt = [0; 32];
                        self.environment.random(&mut salt);
                        let mut writer = Writer::new(&mut data);
                        writer.u16(1);
                        writer.u16(salt.len() as u16);
                        writer.u16(HASH_SHA512);
                        writer.bytes(&salt);
                        answers.push((context::PREAUTH_INTEGRITY, data));
                    }
                    context::ENCRYPTION if self.encrypts() => {
                        let offered = wire::identifier_list(entry.data)?;
                        cipher =
                            CIPHERS_BY_COST.into_iter().find(|cipher| offered.contains(&(*cipher as u16)));
                        answers.push((
                            context::ENCRYPTION,
                            identifier(cipher.map_or(0, |cipher| cipher as u16)),
                        ));
                    }
                    context::SIGNING => {
                        let offered = wire::identifier_list(entry.data)?;
                        if let Some(algorithm) = SIGNING_BY_COST
                            .into_iter()
                            .find(|algorithm| offered.contains(&(*algorithm as u16)))
                        {
                            signing = algorithm;
                            answers.push((context::SIGNING, identifier(algorithm as u16)));
                        }
                    }
                    // Compression and RDMA transforms are not offered, the rest is for information.
                    _ => {}
                }
            }
            if seen & (1 << context::PREAUTH_INTEGRITY) == 0 {
                return Err(NtStatus::INVALID_PARAMETER);
            }
        } else if dialect >= Dialect::Smb300
            && self.encrypts()
            && parsed.capabilities & capability::ENCRYPTION != 0
        {
            cipher = Some(Cipher::Aes128Ccm);
        }
        if cipher.is_none() && self.configuration.encryption == Encryption::Required {
            // 3.3.5.4 leaves it to the session set-up to refuse; saying so at once is kinder.
            return Err(NtStatus::ACCESS_DENIED);
        }
        let transport;
        {
            let mut state = self.state.lock();
            let entry = connection_id(request.connection)
                .and_then(|id| state.connections.get_mut(id))
                .ok_or(NtStatus::CONNECTION_DISCONNECTED)?;
            if entry.dialect.is_some() {
                return Ok(Outcome::Disconnect);
            }
            transport = entry.transport;
            entry.dialect = Some(dialect);
            entry.signing = signing;
            entry.cipher = cipher;
            entry.client_guid = parsed.client_guid;
            entry.client_capabilities = parsed.capabilities;
            entry.client_security_mode = parsed.security_mode;
            entry.offered = parsed.dialects.iter().copied().take(16).collect();
            entry.preauth = PreauthenticationHash::new();
            if dialect == Dialect::Smb311 {
                entry.preauth.update(request.message);
                request.hash = HashReply::Connection;
            }
        }
        request.dialect = Some(dialect);
        let contexts: Vec<Context<'_>> =
            answers.iter().map(|(kind, data)| Context { kind: *kind, data }).collect();
        let capabilities = self.capabilities(transport, dialect, cipher, parsed.capabilities);
        let maximum = self.maximum_transfer(transport, dialect);
        self.emit_negotiate(writer, dialect as u16, capabilities, maximum, &contexts);
        Ok(Outcome::Done(NtStatus::SUCCESS))
    }

    /// FSCTL_VALIDATE_NEGOTIATE_INFO: the client repeats what it offered; when that is not what arrived, somebody
    /// between changed it, and the connection ends.
    pub(super) fn validate_negotiate(
        &self,
        request: &Request<'_>,
        input: &[u8],
        maximum_output: u32,
    ) -> Result<Option<Vec<u8>>, NtStatus> {
        let mut reader = Reader::new(input);
        let capabilities = reader.u32()?;
        let guid = reader.array::<16>()?;
        let security_mode = reader.u16()?;
        let count = reader.u16()?;
        if usize::from(count) > reader.remaining() / 2 {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        let dialects: Vec<u16> = (0..count).map(|_| reader.u16()).collect::<Result<_, _>>()?;
        let state = self.state.lock();
        let Some(entry) =
            connection_id::<PayloadOf<E>>(request.connection).and_then(|id| state.connections.get(id))
        else {
            return Ok(None);
        };
        // 3.3.5.15.12: 3.1.1 has the preauthentication hash for this and ends the connection.
        if entry.dialect == Some(Dialect::Smb311)
            || capabilities != entry.client_capabilities
            || guid != entry.client_guid
            || security_mode != entry.client_security_mode
            || self.choose_dialect(&dialects) != entry.dialect
        {
            return Ok(None);
        }
        if maximum_output < 24 {
            return Ok(None);
        }
        let Some(dialect) = entry.dialect else { return Ok(None) };
        let mut output = Vec::new();
        let mut writer = Writer::new(&mut output);
        writer.u32(self.capabilities(entry.transport, dialect, entry.cipher, entry.client_capabilities));
        writer.bytes(&self.configuration.guid);
        writer.u16(self.security_mode());
        writer.u16(dialect as u16);
        Ok(Some(output))
    }
}

/// A list with one identifier.
fn identifier(value: u16) -> Vec<u8> {
    let mut data = Vec::new();
    let mut writer = Writer::new(&mut data);
    writer.u16(1);
    writer.u16(value);
    data
}
