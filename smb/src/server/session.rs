//! SESSION_SETUP and LOGOFF (MS-SMB2 3.3.5.5, 3.3.5.6), and the end of connections.

use alloc::vec::Vec;

use super::dispatch::{Handled, HashReply, Outcome, Request};
use super::durable::may_outlive;
use super::state::{Channel, Connection, ConnectionMarker, Session, Setup, SetupPurpose, connection_id};
use super::{Encryption, PayloadOf, Server};
use crate::arena::Id;
use crate::crypto::{KeyDerivation, SessionKeys, SigningAlgorithm};
use crate::environment::{Authentication, Environment, ExchangeId, Identity};
use crate::reader::Writer;
use crate::status::NtStatus;
use crate::wire;
use crate::wire::negotiate::Dialect;
use crate::wire::session_setup::{self, SESSION_ENCRYPT_DATA, SESSION_IS_NULL};

impl<E: Environment> Server<E> {
    pub(super) fn session_setup(
        &self,
        request: &mut Request<'_>,
        writer: &mut Writer<'_>,
    ) -> Handled<PayloadOf<E>> {
        let parsed = session_setup::Request::parse(request.message)?;
        let dialect = request.dialect.ok_or(NtStatus::INVALID_PARAMETER)?;
        let binding = parsed.flags & session_setup::FLAG_BINDING != 0;
        if binding {
            self.check_binding(request, dialect)?;
        }
        let setup = self.enter_setup(request, binding)?;
        let mut token = Vec::new();
        let answer = self.environment.authenticate(ExchangeId(setup.raw()), parsed.token, &mut token);
        // Anything may have happened meanwhile.
        match answer {
            Authentication::Continue => {
                let mut state = self.state.lock();
                let entry = state.setups.get_mut(setup).ok_or(NtStatus::USER_SESSION_DELETED)?;
                entry.busy = false;
                if dialect == Dialect::Smb311 {
                    request.hash = HashReply::Setup(setup);
                }
                session_setup::emit(writer, 0, &token);
                Ok(Outcome::Done(NtStatus::MORE_PROCESSING_REQUIRED))
            }
            Authentication::Denied(status) => {
                let purpose = {
                    let mut state = self.state.lock();
                    state.counters.log_on_failures = state.counters.log_on_failures.wrapping_add(1);
                    state.setups.remove(setup).map(|entry| (entry.purpose, entry.session))
                };
                self.environment.abandon_authentication(ExchangeId(setup.raw()));
                match purpose {
                    Some((SetupPurpose::New, session)) => {
                        self.state.lock().sessions.remove(session);
                    }
                    // 3.3.5.5.2: a failed re-authentication ends the session.
                    Some((SetupPurpose::Again, session)) => self.end_session(session, false),
                    Some((SetupPurpose::Bind, _)) | None => {}
                }
                Err(if status.is_error() { status } else { NtStatus::LOGON_FAILURE })
            }
            Authentication::Accepted(identity) => {
                self.environment.abandon_authentication(ExchangeId(setup.raw()));
                let (flags, session) = self.accept(request, setup, &identity, dialect)?;
                if parsed.previous_session_id != 0 {
                    self.end_previous(parsed.previous_session_id, session, &identity);
                }
                session_setup::emit(writer, flags, &token);
                Ok(Outcome::Done(NtStatus::SUCCESS))
            }
        }
    }

    /// Whether this connection may be bound to the session that the request names (3.3.5.5, 3.3.5.5.2).
    fn check_binding(&self, request: &Request<'_>, dialect: Dialect) -> Result<(), NtStatus> {
        let id = request.session.ok_or(NtStatus::USER_SESSION_DELETED)?;
        let state = self.state.lock();
        let session = state.sessions.get(id).ok_or(NtStatus::USER_SESSION_DELETED)?;
        if !session.has(Session::VALID) {
            return Err(NtStatus::REQUEST_NOT_ACCEPTED);
        }
        let of = |id: Option<Id<ConnectionMarker>>| {
            id.and_then(connection_id::<PayloadOf<E>>).and_then(|id| state.connections.get(id))
        };
        let own = of(Some(request.connection)).ok_or(NtStatus::USER_SESSION_DELETED)?;
        // GMAC goes with nothing but itself; the other algorithms may differ between the channels of a session.
        let signing = session.keys.as_ref().map_or(own.signing, |keys| keys.signing.algorithm());
        if signing != own.signing {
            if signing == SigningAlgorithm::AesGmac {
                return Err(NtStatus::REQUEST_OUT_OF_SEQUENCE);
            }
            if own.signing == SigningAlgorithm::AesGmac {
                return Err(NtStatus::NOT_SUPPORTED);
            }
        }
        if dialect < Dialect::Smb300 {
            return Err(NtStatus::REQUEST_NOT_ACCEPTED);
        }
        if session.dialect != dialect || request.sign_with.is_none() {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        if session.has(Session::ANONYMOUS) {
            return Err(NtStatus::NOT_SUPPORTED);
        }
        if state.is_on(id, request.connection) {
            return Err(NtStatus::REQUEST_NOT_ACCEPTED);
        }
        let first = of(state.connection_of(id)).ok_or(NtStatus::USER_SESSION_DELETED)?;
        if own.cipher != first.cipher {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        let bound = state.channels.iter().filter(|(_, channel)| channel.session == id).count();
        if bound + 1 >= MAXIMUM_CHANNELS_A_SESSION {
            return Err(NtStatus::INSUFFICIENT_RESOURCES);
        }
        Ok(())
    }

    /// Finds the log-on that the request continues, or begins one; it is marked busy.
    fn enter_setup(&self, request: &mut Request<'_>, binding: bool) -> Result<Id<Setup>, NtStatus> {
        let mut nonce = [0; 4];
        self.environment.random(&mut nonce);
        let mut state = self.state.lock();
        let state = &mut *state;
        let (dialect, preauth) = connection_id::<PayloadOf<E>>(request.connection)
            .and_then(|id| state.connections.get(id))
            .and_then(|connection| Some((connection.dialect?, connection.preauth.clone())))
            .ok_or(NtStatus::INVALID_PARAMETER)?;
        let found = if request.header.session_id == 0 {
            // A connection sets up one log-on after the other; unfinished ones may not fill the table.
            let own = |entry: &Setup| entry.connection == request.connection;
            if state.setups.iter().filter(|(_, entry)| own(entry)).count() >= MAXIMUM_SETUPS_A_CONNECTION {
                return Err(NtStatus::INSUFFICIENT_RESOURCES);
            }
            let session = Session {
                nonce: u32::from_le_bytes(nonce),
                connection: Some(request.connection),
                user: crate::environment::UserId(0),
                flags: 0,
                dialect,
                keys: None,
                next_nonce: 1,
            };
            let session = state.sessions.insert(session).map_err(|_| NtStatus::INSUFFICIENT_RESOURCES)?;
            request.session = Some(session);
            let setup = Setup {
                connection: request.connection,
                session,
                preauth,
                purpose: SetupPurpose::New,
                busy: false,
            };
            match state.setups.insert(setup) {
                Ok(setup) => setup,
                Err(_) => {
                    state.sessions.remove(session);
                    return Err(NtStatus::INSUFFICIENT_RESOURCES);
                }
            }
        } else {
            let session = request.session.ok_or(NtStatus::USER_SESSION_DELETED)?;
            let entry = state.sessions.get(session).ok_or(NtStatus::USER_SESSION_DELETED)?;
            let valid = entry.has(Session::VALID);
            if !binding && !state.is_on(session, request.connection) {
                return Err(NtStatus::USER_SESSION_DELETED);
            }
            let known = state
                .setups
                .iter()
                .find(|(_, entry)| entry.session == session && entry.connection == request.connection)
                .map(|(id, _)| id);
            match known {
                Some(setup) => setup,
                None if valid => {
                    let setup = Setup {
                        connection: request.connection,
                        session,
                        preauth,
                        purpose: if binding { SetupPurpose::Bind } else { SetupPurpose::Again },
                        busy: false,
                    };
                    state.setups.insert(setup).map_err(|_| NtStatus::INSUFFICIENT_RESOURCES)?
                }
                None => return Err(NtStatus::USER_SESSION_DELETED),
            }
        };
        if let Some(session) =
            request.session.and_then(|id| state.sessions.get(id).map(|entry| entry.wire_id(id)))
        {
            request.header.session_id = session;
        }
        let setup = state.setups.get_mut(found).ok_or(NtStatus::USER_SESSION_DELETED)?;
        if setup.busy {
            // Two legs at once.
            return Err(NtStatus::REQUEST_NOT_ACCEPTED);
        }
        setup.busy = true;
        if dialect == Dialect::Smb311 {
            setup.preauth.update(request.message);
        }
        Ok(found)
    }

    /// The log-on succeeded: the session gets its user and keys.
    fn accept(
        &self,
        request: &mut Request<'_>,
        setup: Id<Setup>,
        identity: &Identity,
        dialect: Dialect,
    ) -> Result<(u16, Id<Session>), NtStatus> {
        let mut state = self.state.lock();
        let state = &mut *state;
        let setup = state.setups.remove(setup).ok_or(NtStatus::USER_SESSION_DELETED)?;
        let Some(connection) =
            connection_id::<PayloadOf<E>>(setup.connection).and_then(|id| state.connections.get_mut(id))
        else {
            // A session that stands is not this log-on's to end.
            if setup.purpose == SetupPurpose::New {
                state.sessions.remove(setup.session);
            }
            return Err(NtStatus::CONNECTION_DISCONNECTED);
        };
        let session = state.sessions.get_mut(setup.session).ok_or(NtStatus::USER_SESSION_DELETED)?;
        let mut flags = 0;
        if setup.purpose == SetupPurpose::New
            && identity.anonymous
            && self.configuration.encryption == Encryption::Required
        {
            // Nobody has no key to encrypt with.
            state.sessions.remove(setup.session);
            return Err(NtStatus::ACCESS_DENIED);
        }
        let derivation = match dialect {
            Dialect::Smb202 | Dialect::Smb210 => KeyDerivation::SessionKey,
            Dialect::Smb300 | Dialect::Smb302 => KeyDerivation::FixedLabels,
            Dialect::Smb311 => KeyDerivation::Preauthentication(setup.preauth.value()),
        };
        if setup.purpose == SetupPurpose::Bind {
            // 3.3.5.5.3: nothing of the session changes; the same user, with a signing key for this channel.
            if !session.has(Session::VALID) {
                return Err(NtStatus::USER_SESSION_DELETED);
            }
            if identity.anonymous || session.user != identity.user {
                return Err(NtStatus::ACCESS_DENIED);
            }
            let keys = SessionKeys::derive(&identity.session_key, derivation, connection.signing, None);
            let channel = Channel {
                session: setup.session,
                connection: setup.connection,
                signing: keys.signing.clone(),
            };
            state.channels.insert(channel).map_err(|_| NtStatus::INSUFFICIENT_RESOURCES)?;
            connection.sessions += 1;
            connection.known = true;
            request.sign_with = Some(keys.signing.clone());
            return Ok((0, setup.session));
        }
        session.user = identity.user;
        session.flags &= !(Session::ANONYMOUS | Session::ADMINISTRATOR);
        if identity.administrator {
            session.flags |= Session::ADMINISTRATOR;
        }
        if identity.anonymous {
            session.flags |= Session::ANONYMOUS;
            flags |= SESSION_IS_NULL;
        }
        if setup.purpose == SetupPurpose::New {
            session.flags |= Session::VALID;
            connection.sessions += 1;
            connection.known |= !identity.anonymous;
            state.counters.log_ons = state.counters.log_ons.wrapping_add(1);
            if !identity.anonymous {
                let keys = SessionKeys::derive(
                    &identity.session_key,
                    derivation,
                    connection.signing,
                    connection.cipher,
                );
                request.sign_with = Some(keys.signing.clone());
                session.keys = Some(keys);
                let wanted = connection.client_security_mode & wire::negotiate::SIGNING_REQUIRED != 0;
                if self.configuration.signing_required || wanted {
                    session.flags |= Session::SIGN;
                }
                if self.configuration.encryption == Encryption::Required {
                    session.flags |= Session::ENCRYPT;
                    flags |= SESSION_ENCRYPT_DATA;
                }
            }
        } else if session.has(Session::ENCRYPT) {
            flags |= SESSION_ENCRYPT_DATA;
        }
        Ok((flags, setup.session))
    }

    /// Ends the session that the client had before it lost its connection, if it is the same user's.
    fn end_previous(&self, previous: u64, new: Id<Session>, identity: &Identity) {
        let found = {
            let state = self.state.lock();
            state
                .find_session(previous)
                .filter(|(id, session)| {
                    *id != new
                        && session.has(Session::VALID)
                        && session.user == identity.user
                        && session.has(Session::ANONYMOUS) == identity.anonymous
                })
                .map(|(id, _)| id)
        };
        if let Some(previous) = found {
            self.end_session(previous, true);
        }
    }

    pub(super) fn logoff(&self, request: &mut Request<'_>, writer: &mut Writer<'_>) -> Handled<PayloadOf<E>> {
        wire::simple::parse(request.message)?;
        let session = request.session.ok_or(NtStatus::USER_SESSION_DELETED)?;
        // Durable handles survive a log-off like a lost connection; TREE_DISCONNECT ends them.
        self.end_session(session, true);
        wire::simple::emit(writer);
        Ok(Outcome::Done(NtStatus::SUCCESS))
    }

    /// Ends a session: its trees, its opens, what waits for it, its log-ons in progress. With `keep`, its durable handles
    /// stay for the client to come back.
    pub(super) fn end_session(&self, session: Id<Session>, keep: bool) {
        let (trees, setups, keep) = {
            let mut state = self.state.lock();
            let state = &mut *state;
            let Some(entry) = state.sessions.get_mut(session) else { return };
            // No new request gets in from here on.
            let counted = entry.has(Session::VALID);
            let keep = keep && may_outlive(entry);
            entry.flags &= !Session::VALID;
            if counted
                && let Some(connection) =
                    entry.connection.and_then(connection_id).and_then(|id| state.connections.get_mut(id))
            {
                connection.sessions = connection.sessions.saturating_sub(1);
            }
            let bound: Vec<_> = state
                .channels
                .iter()
                .filter(|(_, channel)| channel.session == session)
                .map(|(id, channel)| (id, channel.connection))
                .collect();
            for (channel, connection) in bound {
                state.channels.remove(channel);
                if let Some(connection) =
                    connection_id(connection).and_then(|id| state.connections.get_mut(id))
                {
                    connection.sessions = connection.sessions.saturating_sub(1);
                }
            }
            let trees: Vec<_> =
                state.trees.iter().filter(|(_, tree)| tree.session == session).map(|(id, _)| id).collect();
            let setups: Vec<_> =
                state.setups.iter().filter(|(_, setup)| setup.session == session).map(|(id, _)| id).collect();
            for setup in &setups {
                state.setups.remove(*setup);
            }
            (trees, setups, keep)
        };
        for setup in setups {
            self.environment.abandon_authentication(ExchangeId(setup.raw()));
        }
        for tree in trees {
            self.close_tree(tree, keep);
        }
        self.state.lock().sessions.remove(session);
    }

    /// Ends a connection and the sessions on it.
    pub(super) fn end_connection(&self, raw: u32) {
        let Some(connection) = Id::<Connection<PayloadOf<E>>>::from_raw(raw) else { return };
        let Some(marker) = Id::<ConnectionMarker>::from_raw(raw) else { return };
        let sessions: Vec<_> = {
            let mut state = self.state.lock();
            let state = &mut *state;
            state.remove_connection(connection);
            // Nobody is left to hear how its parked requests end; where a session has another channel, its client asks
            // again there.
            for id in state.waiting_where(|waiting| waiting.connection == marker) {
                state.waiting.remove(id);
            }
            let bound: Vec<_> = state
                .channels
                .iter()
                .filter(|(_, channel)| channel.connection == marker)
                .map(|(id, channel)| (id, channel.session))
                .collect();
            for (channel, _) in &bound {
                state.channels.remove(*channel);
            }
            let mut touched: Vec<_> = bound.into_iter().map(|(_, session)| session).collect();
            for (id, session) in state.sessions.iter_mut() {
                // One that is still being set up goes with its log-on.
                if session.connection == Some(marker) && session.has(Session::VALID) {
                    session.connection = None;
                    touched.push(id);
                }
            }
            // A session lives as long as one of its channels does.
            touched.retain(|session| state.connection_of(*session).is_none());
            touched
        };
        self.abandon_setups(raw);
        for session in sessions {
            self.end_session(session, true);
        }
    }

    /// Forgets the log-ons in progress on a connection, and the sessions that would have come of them.
    pub(super) fn abandon_setups(&self, connection: u32) {
        let Some(marker) = Id::<ConnectionMarker>::from_raw(connection) else { return };
        let setups: Vec<_> = {
            let mut state = self.state.lock();
            let state = &mut *state;
            let own: Vec<_> = state
                .setups
                .iter()
                .filter(|(_, setup)| setup.connection == marker)
                .map(|(id, setup)| (id, setup.purpose, setup.session))
                .collect();
            for (id, purpose, session) in &own {
                state.setups.remove(*id);
                if *purpose == SetupPurpose::New {
                    state.sessions.remove(*session);
                }
            }
            own
        };
        for (setup, _, _) in setups {
            self.environment.abandon_authentication(ExchangeId(setup.raw()));
        }
    }
}

/// Connections that one session may be on, as Windows has it.
const MAXIMUM_CHANNELS_A_SESSION: usize = 32;

/// Log-ons that one connection may have in progress at once.
const MAXIMUM_SETUPS_A_CONNECTION: usize = 8;
